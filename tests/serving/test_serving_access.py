"""Callers are known by tokens whose digests lie in a file; nothing that is refused says more than it must."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from millrace.core.errors import SpecError
from millrace.serving import access as module
from millrace.serving import tokens
from millrace.serving.access import EVERYBODY, Access
from millrace.serving.caller import Caller
from millrace.serving.refused import Refused

ANN, BOB = "ann-secret-token", "bob/secret+token=="


class Clock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:  # 2027-01-15
        self.now = now

    def __call__(self) -> float:
        return self.now


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def write(path: Path, **callers: Any) -> Path:
    path.write_text(json.dumps(callers))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(
        tmp_path / "tokens.yaml",
        ann={"sha256": digest(ANN), "pipelines": ["orders", "flights"], "tenant": "shop"},
        bob={"sha256": digest(BOB), "pipelines": ["*"], "expires": "2027-02-01", "tester": True},
    )


def ask(access: Access, token: str | None = None, scheme: str = "Bearer") -> Caller:
    headers = {} if token is None else {b"authorization": f"{scheme} {token}".encode()}
    return asyncio.run(access.caller(headers))


def refused(access: Access, token: str | None = None, scheme: str = "Bearer") -> Refused:
    with pytest.raises(Refused) as err:
        ask(access, token, scheme)
    assert err.value.status == 401 and dict(err.value.headers)[b"www-authenticate"].startswith(b"Bearer")
    assert token is None or token not in str(err.value)
    return err.value


def test_a_token_says_who_asks(file):
    access = Access(file, now=Clock())
    assert ask(access, ANN) == Caller("ann", "shop", frozenset({"orders", "flights"}))
    assert ask(access, BOB, "bearer") == Caller("bob", "bob", frozenset({"*"}), tester=True)
    assert ask(access, ANN) is ask(access, ANN), "the second time it is remembered"


def test_no_token_and_wrong_ones(file):
    access = Access(file, now=Clock())
    assert dict(refused(access).headers)[b"www-authenticate"] == b"Bearer"
    for token in ("x", ANN + "x", ANN[:-1], digest(ANN), ANN.upper()):
        assert "not known" in str(refused(access, token))
    long = "Bearer " + "x" * 9000
    for header in (f"Basic {ANN}", "Bearer", "Bearer ", f"Bearer {ANN} x", f"Bearer{ANN}", "Bearer ä", long):
        with pytest.raises(Refused, match="no bearer token") as err:
            asyncio.run(access.caller({b"authorization": header.encode()}))
        assert err.value.status == 401 and ANN not in str(err.value)


def test_a_token_ends_with_its_day_also_where_it_is_remembered(file):
    clock = Clock()
    access = Access(file, now=clock)
    ask(access, BOB)
    for clock.now in (1_801_439_999.0, 1_801_440_000.0):  # the beginning of 2027-02-01 in UTC, and a second before
        if clock.now < 1_801_440_000:
            ask(access, BOB)
        else:
            assert "has expired" in str(refused(access, BOB))
            assert "has expired" in str(refused(access, BOB))


def test_a_time_needs_its_zone(tmp_path):
    spec = {"sha256": digest(ANN), "pipelines": ["orders"]}
    found = tokens.read(write(tmp_path / "t", ann={**spec, "expires": "2027-01-15T09:00:00+01:00"}))
    assert found.known[0][2] == 1_800_000_000.0
    with pytest.raises(SpecError, match="expires"):
        tokens.read(write(tmp_path / "t", ann={**spec, "expires": "2027-01-15T09:00:00"}))


def test_digests_are_compared_in_constant_time_and_all_of_them(file, monkeypatch):
    compared: list[bytes] = []
    real = hmac.compare_digest
    monkeypatch.setattr(tokens.hmac, "compare_digest", lambda a, b: compared.append(a) or real(a, b))
    access = Access(file, now=Clock())
    for token in (ANN, BOB, "unknown"):
        compared.clear()
        if token == "unknown":
            refused(access, token)
        else:
            ask(access, token)
        assert compared == [bytes.fromhex(digest(each)) for each in (ANN, BOB)]


def test_what_is_not_the_callers_is_refused_alike_whether_it_exists_or_not(file):
    ann = ask(Access(file, now=Clock()), ANN)
    assert ann.may("orders") and not ann.may("payroll") and not ann.may("*")
    ann.require("orders")
    texts = []
    for name in ("payroll", "nothing"):
        with pytest.raises(Refused) as err:
            ann.require(name)
        assert err.value.status == 403
        texts.append(str(err.value).replace(name, "NAME"))
    assert texts[0] == texts[1]
    assert Caller("x", "x", frozenset("*")).may("payroll")


def test_a_changed_file_counts_after_a_second(file):
    clock = Clock()
    access = Access(file, now=Clock(), clock=clock)
    ask(access, ANN)
    write(file, carl={"sha256": digest("carl"), "pipelines": ["orders"]})
    ask(access, ANN)  # within the second nobody looks
    clock.now += 1
    refused(access, ANN)
    assert ask(access, "carl").name == "carl"


@pytest.mark.parametrize("broken", ["{", "ann: 3", "", None])
def test_a_broken_file_changes_nothing_and_is_said_once(file, broken, caplog):
    clock = Clock()
    access = Access(file, now=Clock(), clock=clock)
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            clock.now += 2
            assert ask(access, ANN).name == "ann"
    assert len(caplog.records) == 1 and "until it is mended" in caplog.text
    write(file, carl={"sha256": digest("carl"), "pipelines": ["orders"]})
    clock.now += 2
    assert ask(access, "carl").name == "carl"
    refused(access, ANN)


def test_the_file_is_looked_at_once_a_second(file, monkeypatch):
    clock = Clock()
    access = Access(file, now=Clock(), clock=clock)
    looked = []
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **more: looked.append(self) or real(self, **more))
    for _ in range(100):
        ask(access, ANN)
    assert not looked
    clock.now += 1
    for _ in range(100):
        ask(access, ANN)
    assert looked == [file]


def test_what_is_remembered_has_an_end(file, monkeypatch):
    monkeypatch.setattr(module, "_MANY", 2)
    names = [f"caller{number}" for number in range(5)]
    write(file, **{name: {"sha256": digest(name), "pipelines": ["orders"]} for name in names})
    access = Access(file, now=Clock())
    for name in names * 2:
        assert ask(access, name).name == name
        assert len(access._verified) <= 2
    for number in range(10):
        refused(access, f"wrong{number}")
    assert len(access._verified) <= 2


SPEC = {"sha256": digest(ANN), "pipelines": ["orders"]}


@pytest.mark.parametrize(
    ("callers", "said"),
    [
        ({"ann": {**SPEC, "sha256": ANN}}, "ann.sha256: not of this form; allowed: 64 hex digits"),
        ({"ann": {**SPEC, "sha256": digest(ANN).upper()}}, "64 hex digits in lower case"),
        ({"ann": {**SPEC, "token": ANN}}, "unknown key 'ann.token'"),
        ({"ann": {"sha256": digest(ANN)}}, "ann.pipelines: Field required"),
        ({"ann": ANN}, "ann: Input should be"),
        ({"ann": {**SPEC, "pipelines": ["Orders!"]}}, "names of pipelines, or \\*"),
        ({"ann": {**SPEC, "pipelines": "*"}}, "ann.pipelines: Input should be"),
        ({"ann": {**SPEC, "pipelines": ["*", "orders"]}}, "names all and some"),
        ({"ann": {**SPEC, "expires": "soon"}}, "ann.expires: "),
        ({"ann": {**SPEC, "tester": "si"}}, "ann.tester: "),
        ({"ann": SPEC, "bob": SPEC}, "bob.sha256: is the token of ann, too"),
        ({"a b": SPEC}, "a caller's name has letters"),
        ({"oidc:ann": SPEC}, "a caller's name has letters"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_without_a_value(tmp_path, callers, said):
    path = tmp_path / "tokens.yaml"
    path.write_text(json.dumps(callers, indent=1))
    with pytest.raises(SpecError, match=said) as err:
        Access(path)
    assert ANN not in str(err.value) and f"{path}:" in str(err.value)


def test_yaml_as_the_page_has_it(tmp_path):
    path = tmp_path / "tokens.yaml"
    path.write_text(f'shop:\n  sha256: {digest(ANN)}\n  pipelines: ["*"]\n  expires: 2027-06-01\n')
    assert ask(Access(path, now=Clock()), ANN).pipelines == {"*"}


def test_without_a_file_the_server_is_for_this_machine_alone(file):
    access = Access.load(environ={})
    assert ask(access) is EVERYBODY and EVERYBODY.may("whatever") and not access.configured
    for host in ("127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost", None):
        access.check_host(host)
    for host in ("0.0.0.0", "::", "", "10.0.0.1", "example.org", "localhost.example.org", "::ffff:10.0.0.1"):
        with pytest.raises(SpecError, match="MILLRACE_SERVING_TOKENS") as err:
            access.check_host(host)
        assert err.value.next_step
    configured = Access.load(environ={"MILLRACE_SERVING_TOKENS": os.fspath(file)})
    configured.check_host("0.0.0.0")
    refused(configured)


def test_a_file_that_is_named_and_not_there_is_not_nothing(tmp_path):
    for name in ("MILLRACE_SERVING_TOKENS", "MILLRACE_SERVING_OIDC"):
        with pytest.raises(SpecError, match="no such file"):
            Access.load(environ={name: os.fspath(tmp_path / "absent")})


def test_no_log_line_holds_a_token(file, caplog):
    clock = Clock()
    access = Access(file, now=Clock(), clock=clock)
    with caplog.at_level(logging.DEBUG):
        ask(access, ANN)
        refused(access, "wrong-secret")
        file.write_text(f"ann: {ANN}\n")
        clock.now += 2
        ask(access, ANN)
    assert caplog.records and not any(secret in caplog.text for secret in (ANN, "wrong-secret", digest(ANN)))
