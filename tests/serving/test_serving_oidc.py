"""A token counts where the issuer's key has signed it, for this server, now, and in the way that its key does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from millrace.core.errors import SpecError
from millrace.serving.access import Access
from millrace.serving.caller import Caller
from millrace.serving.jwks import Keyring
from millrace.serving.oidc import OidcSpec
from millrace.serving.refused import Refused

ISSUER, AUDIENCE = "https://issuer.example.org/realms/shop", "millrace"
RSA, OTHER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **({"kid": kid} if kid else {}), **more}


def keys(*found: dict[str, Any]) -> str:
    return json.dumps({"keys": list(found)})


def claims(**other: Any) -> dict[str, Any]:
    found = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": time.time() + 600, "millrace_pipelines": ["orders"],
        "millrace_tenant": "shop", **other,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "r", header: Any = None, **other: Any) -> str:
    headers = {**({"kid": kid} if kid else {}), **(header or {})}
    return jwt.PyJWS().encode(json.dumps(claims(**other)).encode(), key, algorithm, {"typ": "JWT", **headers})


def spec(source: str | Path, **more: Any) -> OidcSpec:
    return OidcSpec(issuer=ISSUER, audience=AUDIENCE, jwks=str(source), **more)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(keys(jwk(RSA, "r", alg="RS256", use="sig"), jwk(EC, "e")))
    return path


@pytest.fixture
def access(file: Path) -> Access:
    return Access(oidc=spec(file))


def ask(access: Access, given: str) -> Caller:
    return asyncio.run(access.caller({b"authorization": b"Bearer " + given.encode()}))


def refused(access: Access, given: str, status: int = 401) -> str:
    with pytest.raises(Refused) as err:
        ask(access, given)
    assert err.value.status == status
    assert given not in str(err.value) and not any(part in str(err.value) for part in given.split(".") if len(part) > 8)
    return str(err.value)


def test_claims_say_who_asks(access):
    assert ask(access, token()) == Caller("oidc:ann", "shop", frozenset({"orders"}))
    assert ask(access, token(EC, "ES256", "e", millrace_tenant=None, millrace_tester=True)) == Caller(
        "oidc:ann", "oidc:ann", frozenset({"orders"}), tester=True
    )
    assert ask(access, token(aud=["other", AUDIENCE])).name == "oidc:ann"
    nobody = ask(access, token(millrace_pipelines=None, millrace_tester="true"))
    assert not nobody.pipelines and not nobody.tester


def test_claims_may_have_other_names(file):
    access = Access(oidc=spec(file, pipelines="models", tenant="team"))
    assert ask(access, token(models=["*"], team="t")) == Caller("oidc:ann", "t", frozenset({"*"}))


def b64(data: bytes | dict[str, Any]) -> str:
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: dict[str, Any], secret: bytes | None = None, **other: Any) -> str:
    """A token put together by hand, with an HMAC under `secret` or no signature at all."""
    signed = f"{b64(header)}.{b64(claims(**other))}"
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest() if secret is not None else b""
    return f"{signed}.{b64(mac)}"


def public(kind: form.PublicFormat, encoding: form.Encoding) -> bytes:
    return RSA.public_key().public_bytes(encoding, kind)


PEM = public(form.PublicFormat.SubjectPublicKeyInfo, form.Encoding.PEM)
CONFUSED = {
    "no algorithm": forged({"alg": "none", "kid": "r"}),
    "no algorithm, spelt otherwise": forged({"alg": "NoNe", "kid": "r"}),
    "no algorithm at all": forged({"kid": "r"}),
    "algorithm is a list": forged({"alg": ["RS256"], "kid": "r"}),
    "HMAC under the public key": forged({"alg": "HS256", "kid": "r"}, PEM),
    "HMAC under the public key's DER": forged(
        {"alg": "HS256", "kid": "r"}, public(form.PublicFormat.SubjectPublicKeyInfo, form.Encoding.DER)
    ),
    "HMAC under nothing": forged({"alg": "HS256", "kid": "r"}, b""),
    "HMAC that says RS256": forged({"alg": "RS256", "kid": "r"}, PEM),
    "no signature": forged({"alg": "RS256", "kid": "r"}),
    "key brought along": jwt.encode(claims(), OTHER, "RS256", headers={"kid": "r", "jwk": jwk(OTHER, "r")}),
    "key brought along under its own id": token(OTHER, kid="mine", header={"jwk": jwk(OTHER, "mine")}),
    "address of keys brought along": token(OTHER, header={"jku": "http://127.0.0.1:1/jwks"}),
    "another's key": token(OTHER),
    "the other key's id": token(kid="e"),
    "an EC key under the RSA key's id": token(EC, "ES256", "r"),
    "RS512 of the right key": token(algorithm="RS512"),
    "PS256 of the right key": token(algorithm="PS256"),
    "ES384": token(P384, "ES384", "e"),
    "an unknown id": token(kid="x"),
    "no id where there are two keys": token(kid=None),
    "an id that is no text": forged({"alg": "RS256", "kid": {"r": 1}}),
    "a critical header nobody knows": token(header={"crit": ["unknown"], "unknown": 1}),
}


@pytest.mark.parametrize("given", CONFUSED.values(), ids=CONFUSED.keys())
def test_what_the_issuer_has_not_signed_so(access, given):
    assert "the token is not valid" in refused(access, given)


def test_a_changed_byte_anywhere(access):
    good = token(EC, "ES256", "e")
    ask(access, good)
    for at in range(0, len(good), 7):
        if good[at] != "." and at < len(good) - 1:  # the last character holds bits that count for nothing
            refused(access, good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :])


@pytest.mark.parametrize(
    "other",
    [{"iss": "https://issuer.example.org/realms/other"}, {"iss": None}, {"iss": [ISSUER]}, {"iss": ISSUER + "/"},
     {"aud": "other"}, {"aud": None}, {"aud": []}, {"aud": "millrace2"}, {"exp": None}, {"exp": "soon"},
     {"exp": float("inf")}, {"exp": float("nan")}, {"exp": 10**400}, {"sub": None}, {"sub": 7},
     {"nbf": time.time() + 3600}, {"iat": time.time() + 3600}],
    ids=str,
)  # fmt: skip
def test_claims_that_do_not_hold(access, other):
    assert "the token is not valid" in refused(access, token(**other))


@pytest.mark.parametrize(
    "other",
    [{"sub": ""}, {"sub": "a\nb"}, {"sub": "x" * 201}, {"millrace_tenant": ""}, {"millrace_tenant": 5},
     {"millrace_pipelines": "orders"}, {"millrace_pipelines": [["orders"]]}, {"millrace_pipelines": {"*": 1}}],
    ids=str,
)  # fmt: skip
def test_claims_that_say_nothing_usable(access, other):
    refused(access, token(**other))


@pytest.mark.parametrize("given", ["x", "a.b.c", "..", "a.b.c.d.e", "e30.e30.e30", "=" * 3])
def test_what_is_no_token_of_this_kind(access, given):
    with pytest.raises(Refused) as err:
        ask(access, given)
    assert err.value.status == 401


def test_an_expired_token_is_said_to_be_expired_to_whoever_holds_one(access):
    assert "has expired" in refused(access, token(exp=time.time() - 31))
    assert "has expired" not in refused(access, token(OTHER, exp=time.time() - 31))
    assert ask(access, token(exp=time.time() - 5)).name == "oidc:ann", "clocks differ a little"
    assert ask(access, token(nbf=time.time() + 5)).name == "oidc:ann"


def test_a_remembered_token_ends_with_its_time(file):
    now = [time.time()]
    access = Access(oidc=spec(file), now=lambda: now[0])
    given = token(exp=now[0] + 60)
    assert ask(access, given) is ask(access, given)
    now[0] += 91
    assert "has expired" in refused_at(access, given, now)


def refused_at(access: Access, given: str, now: list[float]) -> str:
    with pytest.raises(Refused) as err:
        ask(access, given)
    return str(err.value)


@pytest.mark.filterwarnings("ignore:The RSA key")
def test_a_small_key_is_none(tmp_path):
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    (path := tmp_path / "jwks.json").write_text(keys(jwk(small, "s")))
    refused(Access(oidc=spec(path)), token(small, kid="s"))


def test_a_single_key_needs_no_id(tmp_path):
    (path := tmp_path / "jwks.json").write_text(keys(jwk(RSA, None)))
    assert ask(Access(oidc=spec(path)), token(kid=None)).name == "oidc:ann"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"keys": []}', '{"keys": 3}', keys(jwk(P384, "p")), keys(jwk(RSA, "r", use="enc")),
     keys(jwk(RSA, "r", alg="RS512")), keys({"kty": "oct", "kid": "o", "k": b64(b"secret" * 8)}), keys({"kty": "RSA"})],
)  # fmt: skip
def test_a_file_without_a_key_that_signs(tmp_path, text):
    (path := tmp_path / "jwks.json").write_text(text)
    with pytest.raises(SpecError, match="jwks.json"):
        Access(oidc=spec(path))


def test_both_sources_together(file, tmp_path):
    secret = "a.b.c"
    tokens = tmp_path / "tokens.json"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    tokens.write_text(json.dumps({"bob": {"sha256": digest, "pipelines": ["*"]}}))
    settings = tmp_path / "oidc.yaml"
    settings.write_text(f"issuer: {ISSUER}\naudience: {AUDIENCE}\njwks: {file}\n")
    access = Access.load(tokens, settings, {})
    assert (ask(access, secret).name, ask(access, token()).name) == ("bob", "oidc:ann")
    refused(access, token(OTHER))


class Issuer:
    """Serves keys over HTTP, on a port of its own."""

    def __init__(self) -> None:
        self.answer, self.status, self.asked = keys(jwk(RSA, "r")), 200, 0
        self.location: str | None = None
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(issuer.status)
                if issuer.location:
                    self.send_header("location", issuer.location)
                self.end_headers()
                self.wfile.write(issuer.answer.encode())

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/certs?secret=hidden"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    found = Issuer()
    yield found
    found.server.shutdown()
    found.server.server_close()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_keys_are_fetched_once_and_again_for_an_unknown_one(issuer):
    clock = Clock()
    access = Access(oidc=spec(issuer.url), clock=clock)

    async def many() -> list[Caller]:
        given = [{b"authorization": b"Bearer " + token(jti=str(number)).encode()} for number in range(20)]
        return list(await asyncio.gather(*(access.caller(each) for each in given)))

    assert len(asyncio.run(many())) == 20 and issuer.asked == 1
    issuer.answer = keys(jwk(RSA, "r"), jwk(EC, "e"))
    rotated = token(EC, "ES256", "e")
    for number in range(10):
        refused(access, token(OTHER, kid=f"guess{number}"))
    assert issuer.asked == 1, "whoever names keys makes nobody fetch them sooner than every 30 seconds"
    clock.now = 29.9
    refused(access, rotated)
    clock.now = 30
    assert ask(access, rotated).name == "oidc:ann" and issuer.asked == 2


def test_a_withdrawn_key_ends_within_the_hour(issuer):
    clock = Clock()

    async def run() -> tuple[Any, Any]:
        keyring = Keyring(issuer.url, clock)
        assert await keyring.find("r") is not None
        issuer.answer = keys(jwk(EC, "e"))
        clock.now = 3601
        old = await keyring.find("r")
        while keyring._fetching is not None:
            await asyncio.sleep(0.01)
        return old, await keyring.find("r")

    old, new = asyncio.run(run())
    assert old is not None and new is None


def test_an_issuer_that_is_away(issuer, caplog):
    clock = Clock()
    access = Access(oidc=spec(issuer.url), clock=clock)
    issuer.status = 500
    with caplog.at_level(logging.ERROR):
        assert "cannot be verified at present" in refused(access, token(), 503)
        refused(access, token(), 503)
    assert issuer.asked == 1 and "hidden" not in caplog.text
    clock.now, issuer.status = 5, 200
    ask(access, token())
    clock.now, issuer.status = 100, 500
    assert ask(access, token(jti="2")).name == "oidc:ann", "keys that were had go on counting"
    refused(access, token(kid="x"))


@pytest.mark.parametrize("answer", ["no json", "x" * (2 << 20), '{"keys": []}'])
def test_what_the_issuer_says_may_be_anything(issuer, answer):
    issuer.answer = answer
    refused(Access(oidc=spec(issuer.url)), token(), 503)


def test_nobody_is_redirected(issuer):
    other = Issuer()
    issuer.status, issuer.location = 302, other.url
    refused(Access(oidc=spec(issuer.url)), token(), 503)
    assert other.asked == 0
    other.server.shutdown()
    other.server.server_close()


@pytest.mark.parametrize(
    "address",
    ["http://issuer.example.org/certs", "ftp://127.0.0.1/x", "file:///etc/passwd", "https://", "https://[x/certs",
     "https://ann:password@issuer.example.org/certs", "http://127.0.0.1.example.org/certs"],
)  # fmt: skip
def test_addresses_over_which_others_could_send_keys(address):
    with pytest.raises(SpecError, match="jwks") as err:
        Access(oidc=spec(address))
    assert "password@" not in str(err.value)


def test_a_file_of_keys_may_change(file):
    clock = Clock()
    access = Access(oidc=spec(file), clock=clock)
    refused(access, token(OTHER, kid="o"))
    file.write_text(keys(jwk(OTHER, "o")))
    clock.now = 1
    assert ask(access, token(OTHER, kid="o")).name == "oidc:ann"


def test_without_an_issuer_nothing_of_it_is_imported():
    import subprocess
    import sys

    code = "import sys, millrace.serving.access; print({'jwt', 'cryptography'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
