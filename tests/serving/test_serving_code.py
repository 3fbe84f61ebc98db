"""A server that executes code of one pipeline: nobody else's server does, and it can do nothing that is not its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving.conftest import asking
from support.coded import HOSTILE, coded, policed_s3
from support.running import until
from support.served import Served
from support.serving import serving
from support.versity import versitygw

from millrace.core.errors import SpecError
from millrace.core.settings import Settings
from millrace.local.serving import serving_environment
from millrace.serving.server import ServerOptions
from millrace.store import layout, open_store
from millrace.store.plans import Plans
from millrace.store.policy import serving_policy

SECRET = "geheim-4711"
BUCKET, PREFIX, USER, KEY = "served", "some/store", "trips-server", "trips-server-secret"


def ask(address: str, unit: str = "u") -> httpx.Response:
    body = {"entities": [{"vehicle": "v1"}]}
    return httpx.post(f"{address}/predict/trips", json=body, headers={"x-unit": unit}, timeout=30)


def test_it_serves_one_pipeline(tmp_path: Path):
    for only in ((), ("a", "b")):
        with pytest.raises(SpecError, match="serves that pipeline alone"):
            ServerOptions(store=str(tmp_path), log=tmp_path, code=True, only=only)


def test_it_answers_with_code_and_without(served: Served):
    arm = coded(served, 3)
    served.plan(arms=(served.arm(1, share=0.5), arm.model_copy(update={"share": 0.5, "role": "challenger"})))

    async def asked() -> set[int]:
        async with asking(served, code=True, only=("trips",)) as it:
            reply = await it.vehicles(*range(40))
            assert reply.status_code == 200, reply.text
            return {row["version"] for row in reply.json()["predictions"]}

    assert asyncio.run(asked()) == {1, 3}


def test_the_shared_server_leaves_it_alone_and_is_ready(served: Served, caplog: Any):
    served.deploy(1, served.train(1, pipeline="other"), "other")
    served.plan(pipeline="other")
    plan = served.plan(arms=(served.arm(1, share=0.5), coded(served, 3).model_copy(
        update={"share": 0.5, "role": "challenger"})))  # fmt: skip

    async def asked(**options: Any) -> None:
        async with asking(served, **options) as it:
            assert (await it.client.get("/v2/health/ready")).status_code == 200
            assert (await it.predict({"entities": [{"vehicle": "v1"}]}, "other")).status_code == 200
            reply = await it.vehicles(1)
            assert reply.status_code == 404 and "a server of its own" in reply.json()["error"]
            await asyncio.sleep(0.3)

    asyncio.run(asked(apart=("trips",)))
    # it has said nothing against a version that another one can open
    assert served.plans.vetoed(plan) == set() and "trips" not in caplog.text


def test_without_a_server_of_its_own_a_challenger_with_code_is_stopped(served: Served):
    plan = served.plan(arms=(served.arm(1, share=0.5), coded(served, 3).model_copy(
        update={"share": 0.5, "role": "challenger"})))  # fmt: skip

    async def asked() -> None:
        async with asking(served) as it:
            assert {row["version"] for row in (await it.vehicles(*range(40))).json()["predictions"]} == {1}
            for _ in range(200):  # until it is shared
                if served.plans.vetoes(plan):
                    break
                await asyncio.sleep(0.05)

    asyncio.run(asked())
    (veto,) = served.plans.vetoes(plan)
    assert veto.version == 3 and "executes no code" in veto.why


def test_one_that_serves_some_pipelines_asks_the_store_for_nothing_of_others(served: Served):
    served.plan()
    asked: list[str] = []

    class Told:
        def __init__(self) -> None:
            self._objects = served.objects

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._objects, name)

            def call(key: str = "", *more: Any) -> Any:
                asked.append(key)
                return found(key, *more)

            return call if callable(found) else found

    from millrace.serving.following import Follower
    from millrace.serving.versions import Versions

    follower = Follower(Told(), Versions(served.objects), only=("trips",))  # type: ignore[arg-type]
    follower.look()
    assert follower.of("trips") is not None
    assert asked and all(key.split("/")[1].removesuffix(".json") == "trips" for key in asked), asked


def test_code_sees_no_credential_but_those_of_its_server(served: Served, tmp_path: Path):
    told = tmp_path / "told.json"
    served.plan(arms=(coded(served, 3, HOSTILE, told=str(told)),))
    starter = {
        **os.environ, "AIRFLOW__API_AUTH__JWT_SECRET": SECRET, "AIRFLOW_CONN_DB": SECRET, "MILLRACE_LEDGER": SECRET,
        "PGPASSWORD": SECRET, "REDISCLI_AUTH": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET,
        "MLFLOW_TRACKING_PASSWORD": SECRET, "TZ": f"TEST{os.getpid()}",
    }  # fmt: skip
    env = serving_environment(Settings.load(tmp_path, {}), starter)
    with serving(served, "--code", "--only", "trips", env=env) as (address, _):
        assert ask(address).status_code == 200
        until(told.exists, 60)
    seen = json.loads(told.read_text())["environments"]
    # of the worker and of its parent, as the kernel keeps them
    assert len(seen) >= 2 and all("PATH=" in each for each in seen)
    assert not [each for each in seen if SECRET in each]


def test_a_server_gets_the_credentials_of_what_it_reaches(tmp_path: Path):
    given = {"PATH": "/bin", "AWS_ACCESS_KEY_ID": "k", "PGPASSWORD": "p", "REDISCLI_AUTH": "r", "MILLRACE_LEDGER": "l"}

    def names(**settings: str) -> set[str]:
        return set(serving_environment(Settings.load(tmp_path, settings), given))

    assert names() == {"PATH"}
    assert names(MILLRACE_STORE="s3://b/p") == {"PATH", "AWS_ACCESS_KEY_ID"}
    assert names(MILLRACE_FEAST_ONLINE="redis://cache") == {"PATH", "REDISCLI_AUTH"}
    assert names(MILLRACE_FEAST_ONLINE="postgresql://db/x") == {"PATH", "PGPASSWORD"}


def test_its_key_is_enough_and_code_can_do_nothing_else_with_it(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    binary = versitygw()
    if binary is None:
        pytest.skip("no VersityGW here; moto's server enforces no policy")
    told = tmp_path / "told.json"
    served.deploy(1, served.train(1, pipeline="other"), "other")
    served.plan(pipeline="other")
    others = ["plans/other.json", *(o.key for p in ("models/other/", "deployments/other/")
                                    for o in served.objects.list(p))]  # fmt: skip
    hostile = coded(served, 3, HOSTILE, told=str(told), bucket=BUCKET, root=f"{PREFIX}/", others=others)
    served.plan(arms=(served.arm(1),), former=served.arm(1))
    plan = served.plan(2, arms=(hostile.model_copy(update={"role": "champion"}),), former=served.arm(1))
    with policed_s3(binary, tmp_path / "s3", {USER: KEY}) as s3:
        s3.fill(served, BUCKET, PREFIX)
        policy = serving_policy(f"s3://{BUCKET}/{PREFIX}", "trips", USER)
        s3.client().put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
        env = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": KEY,
               "AWS_ENDPOINT_URL": s3.address, "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
        address_of_store = f"s3://{BUCKET}/{PREFIX}"
        root = {"AWS_ACCESS_KEY_ID": "test-root", "AWS_SECRET_ACCESS_KEY": "test-root-secret"}
        for name, value in (env | root).items():
            monkeypatch.setenv(name, value)
        objects = open_store(address_of_store)
        with serving(served, "--code", "--only", "trips", env=env, store=address_of_store) as (address, _):
            for n in range(10):
                reply = ask(address, f"u{n}")
                assert reply.status_code == 200 and reply.json()["predictions"][0]["version"] == 3, reply.text
            until(told.exists, 60)
            until(lambda: Plans(objects).tallies("trips", plan.generation), 60)
        said = json.loads(told.read_text())["attack"]
        assert len(said) > 20 and {why for _, why in said} == {"AccessDenied"}, said
        # and what a server must do it could: it read, it counted, and its log was shipped as it left
        assert list(objects.list(layout.all_served("trips")))
        log = (served.root / "here.log").read_text()
        assert "AccessDenied" not in log and "cannot be followed" not in log and "not shared" not in log, log[-3000:]


def test_a_server_with_code_for_all_does_not_start(served: Served):
    done = subprocess.run(
        [sys.executable, "-m", "millrace.serving", "--store", served.store, "--log", str(served.root / "log"), "--port",
         "0", "--code"], capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "--except NAME" in done.stderr and "Traceback" not in done.stderr
