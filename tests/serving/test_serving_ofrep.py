"""Flags over OpenFeature's Remote Evaluation Protocol: by its own client, and field by field."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, OpenFeatureError, TargetingKeyMissingError, TypeMismatchError
from serving.conftest import Asking, asking
from support.served import Served
from support.serving import serving

from millrace.rules.traffic import meets_new
from millrace.serving import ofrep
from millrace.serving.access import Access
from millrace.serving.flags import FlagRefused
from millrace.store.plans import Toggles

FLAGS = "/ofrep/v1/evaluate/flags"
TOKENS = {"ann": {"pipelines": ["trips"]}, "bob": {"pipelines": ["taxis"]}}


async def ask(it: Asking, key: str = "", unit: Any = None, **headers: str) -> tuple[int, Any, Any]:
    body = {} if unit is None else {"context": {"targetingKey": unit}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = await it.client.post(f"{FLAGS}/{key}" if key else FLAGS, json=body, headers=named)
    return reply.status_code, reply.json() if reply.content else None, reply.headers


def test_its_own_client_sees_the_servers_assignment_and_its_errors(served: Served, tmp_path: Path):
    plan = served.plan(canary=0.5)
    (tmp_path / "tokens.json").write_text(
        json.dumps({name: {**who, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name, who in TOKENS.items()})
    )
    with serving(served, "--tokens", str(tmp_path / "tokens.json")) as (address, _):
        client = OFREPProvider(address, headers_factory=lambda: {"authorization": "Bearer ann"})
        for n in range(40):
            found = client.resolve_integer_details("trips/version", 0, EvaluationContext(f"u{n}"))
            assert found.value == (2 if meets_new(plan.salt, f"u{n}", 0.5) else 1)
            assert (found.reason, found.variant) == ("SPLIT", "challenger" if found.value == 2 else "champion")
        assert client.resolve_boolean_details("trips/stopped", True, EvaluationContext()).value is False
        with pytest.raises(TargetingKeyMissingError, match="x-unit"):
            client.resolve_string_details("trips/role", "?", EvaluationContext())
        with pytest.raises(FlagNotFoundError, match="no such flag"):
            client.resolve_boolean_details("trips/paused", True)
        with pytest.raises(TypeMismatchError):
            client.resolve_string_details("trips/version", "?", EvaluationContext("u1"))
        with pytest.raises(OpenFeatureError):
            client.resolve_boolean_details("taxis/stopped", True)
        served.plan(2, canary=0.5, toggles=Toggles(stopped=True))
        until = time.monotonic() + 5
        while found.reason != "DISABLED" and time.monotonic() < until:
            found = client.resolve_integer_details("trips/version", 7, EvaluationContext("u1"))
        assert (found.value, found.reason, found.variant) == (7, "DISABLED", "none")


def test_each_answer_has_the_protocols_fields(served: Served):
    served.plan(canary=0.5)

    async def run() -> None:
        async with asking(served) as it:
            model = served.arm(1).model
            unit = next(f"u{n}" for n in range(99) if not meets_new("trips 1", f"u{n}", 0.5))
            said = {"generation": 1, "vetoed": "", "forced": False}
            assert (await ask(it, "trips/role", unit))[1] == {
                "key": "trips/role", "value": "champion", "reason": "SPLIT", "variant": "champion",
                "metadata": {**said, "model": model},
            }  # fmt: skip
            status, lacking, _ = await ask(it, "trips%2Fversion")
            assert status == 400 and lacking["errorDetails"] == lacking["error"]
            assert (lacking["key"], lacking["errorCode"]) == ("trips/version", "TARGETING_KEY_MISSING")
            status, unknown, _ = await ask(it, "trips", "u")
            assert (status, unknown["errorCode"], unknown["key"]) == (404, "FLAG_NOT_FOUND", "trips")
            for unit in (7, ["u"]):
                status, wrong, _ = await ask(it, "trips/role", unit)
                assert (status, wrong["errorCode"]) == (400, "INVALID_CONTEXT")
                assert wrong["where"] == "context.targetingKey"
            bodies = [(b"{", 400, "PARSE_ERROR"), (b"[]", 400, "PARSE_ERROR"),
                      (b'{"context": 1}', 400, "INVALID_CONTEXT"), (b" " * 70_000, 413, "GENERAL"),
                      (b"", 200, None)]  # fmt: skip
            for body, status, code in bodies:
                reply = await it.client.post(f"{FLAGS}/trips/stopped", content=body)
                assert (reply.status_code, reply.json().get("errorCode")) == (status, code)
            reply = await it.client.get(f"{FLAGS}/trips/stopped")
            assert reply.status_code == 405 and reply.headers["allow"] == "POST"

    asyncio.run(run())


def test_all_flags_at_once_have_a_tag_that_changes_with_them(served: Served):
    served.plan(canary=0.5)

    async def run() -> None:
        async with asking(served) as it:
            _, found, headers = await ask(it, "", "u1")
            assert [flag["key"] for flag in found["flags"]] == ["trips/stopped", "trips/version", "trips/role"]
            tag = headers["etag"]
            for named in (tag, f"W/{tag}", f'"x", {tag}', "*"):
                status, body, again = await ask(it, "", "u1", if_none_match=named)
                assert (status, body, again["etag"]) == (304, None, tag) and "content-length" not in again
            assert (await ask(it, "", "u1", if_none_match='"x"'))[0] == 200
            _, lacking, other = await ask(it, "")
            assert [flag.get("errorCode") for flag in lacking["flags"]] == [None, *["TARGETING_KEY_MISSING"] * 2]
            assert other["etag"] != tag
            served.plan(2, canary=0.5, toggles=Toggles(version=2))
            await asyncio.to_thread(it.server.follower.look)
            status, found, headers = await ask(it, "", "u1", if_none_match=tag)
            assert status == 200 and headers["etag"] != tag and found["flags"][1]["value"] == 2

    asyncio.run(run())


def test_a_caller_sees_the_flags_of_his_own_pipelines(served: Served, tmp_path: Path):
    served.plan()
    served.deploy(1, served.train(1), pipeline="taxis")
    served.plan(pipeline="taxis")
    tokens = {name: {**who, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name, who in TOKENS.items()}
    (tmp_path / "tokens.json").write_text(json.dumps(tokens))

    async def run() -> None:
        async with asking(served) as it:
            it.server.app.inference.access = Access(tmp_path / "tokens.json")
            assert (await ask(it, "trips/stopped"))[0] == 401 and (await ask(it))[0] == 401
            told = [await ask(it, key, authorization="Bearer bob") for key in ("trips/stopped", "nothing/stopped")]
            assert [status for status, _, _ in told] == [403, 403] and told[0][1]["errorCode"] == "GENERAL"
            assert (
                "trips" not in str(told[1][1])
                and (await ask(it, "taxis/stopped", authorization="Bearer bob"))[0] == 200
            )
            _, found, _ = await ask(it, authorization="Bearer bob")
            assert {flag["key"].split("/")[0] for flag in found["flags"]} == {"taxis"}

    asyncio.run(run())


def test_flags_of_plans_that_could_not_be_read_are_not_there_yet(served: Served):
    Path(served.store).rename(served.root / "away")
    Path(served.store).write_text("no folder")

    async def run() -> None:
        async with asking(served) as it:
            for key in ("", "trips/stopped"):
                status, said, _ = await ask(it, key)
                assert (status, said["errorCode"]) == (503, "PROVIDER_NOT_READY")

    asyncio.run(run())


def test_a_key_that_no_encoding_has_is_told_without_it():
    told = ofrep._failure(FlagRefused("FLAG_NOT_FOUND", "no such flag", given="\ud800/x"), "\ud800/x")
    assert told["key"] == "?/x" and json.dumps(told).encode()
