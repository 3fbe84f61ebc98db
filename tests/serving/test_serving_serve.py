"""The whole server as processes: what live traffic sees when a model hangs, crashes, or breaks in shadow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.served import Served
from support.serving import serving

from millrace.contract.answered import Answered
from millrace.rules.traffic import meets_new
from millrace.serving.access import Access
from millrace.serving.log import CLOSED, OPEN, read
from millrace.serving.serve import Blame
from millrace.serving.server import Server, ServerOptions
from millrace.serving.supervision import Ended
from millrace.store import layout
from millrace.store.served import unpack

KINDS = (OPEN, CLOSED)


def records(served: Served, *folders: str) -> list[Answered]:
    """What processes have logged, be it here or shipped already."""
    paths = [path for folder in folders for path in (served.root / "log" / folder).glob("*") if path.suffix in KINDS]
    found = [record for path in sorted(paths) for record in read(path)]
    for item in served.objects.list(layout.all_served("trips")):
        if any(f"/here/{folder}-" in item.key for folder in folders):
            found += unpack(served.objects.get(item.key), item.key)
    return [Answered.model_validate_json(record) for record in found]


def ask(client: httpx.Client, address: str, unit: str = "u") -> Any:
    return client.post(f"{address}/predict/trips", json={"entities": [{"vehicle": "v1"}]}, headers={"x-unit": unit})


def until(what: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def test_it_answers_logs_and_leaves_when_asked(served: Served):
    served.plan()
    with serving(served, "--workers", "2") as (address, _), httpx.Client(timeout=10) as client:
        for n in range(20):
            assert ask(client, address, f"u{n}").status_code == 200
    assert len(records(served, "0", "1")) == 20


@pytest.mark.parametrize(("breaks", "guard"), [("hangs", "hung"), ("crashes", "crashed")])
def test_a_challenger_that_takes_a_worker_with_it_is_vetoed(served: Served, breaks: str, guard: str):
    """What live traffic sees: the requests that were under way in that worker fail, and then none."""
    plan = served.plan(canary=0.5)
    units = [f"u{n}" for n in range(400)]
    bad = next(unit for unit in units if meets_new(plan.salt, unit, 0.5))
    good = next(unit for unit in units if not meets_new(plan.salt, unit, 0.5))
    with serving(served, breaks=breaks) as (address, _), httpx.Client(timeout=20) as client:
        assert ask(client, address, good).status_code == 200
        with pytest.raises(httpx.TransportError):
            ask(client, address, bad)
        until(lambda: served.plans.vetoed(plan) == {2})
        assert served.plans.vetoes(plan)[0].guard == guard

        def answered() -> bool:
            try:
                return bool(ask(client, address, bad).json()["predictions"][0]["version"] == 1)
            except httpx.TransportError:
                return False

        until(answered)
        assert all(ask(client, address, unit).status_code == 200 for unit in units[:40])


@pytest.mark.parametrize("breaks", ["hangs", "crashes", "raises", "gives nan"])
def test_a_shadow_that_breaks_is_vetoed_and_nobody_notices(served: Served, breaks: str):
    plan = served.plan(shadow=served.arm(2, role="challenger"))
    arguments = ("--shadow-hang", "2") if breaks == "hangs" else ()
    with serving(served, *arguments, breaks=breaks) as (address, _), httpx.Client(timeout=10) as client:
        sent = 0

        def stopped() -> bool:
            nonlocal sent
            reply = ask(client, address, f"u{sent}")
            assert reply.status_code == 200 and reply.json()["predictions"][0]["version"] == 1
            sent += 1
            return bool(served.plans.vetoed(plan) == {2})

        until(stopped, 20)


def test_a_shadow_is_logged_beside_the_champion(served: Served):
    served.plan(shadow=served.arm(2, role="challenger"))
    with serving(served) as (address, _), httpx.Client(timeout=10) as client:
        ids = [ask(client, address, f"u{n}").json()["id"] for n in range(30)]
        until(lambda: len(records(served, "shadow")) == 30)
        until(lambda: any(b'"2":' in data for data in served.plans.tallies("trips", 1).values()))
    assert sorted(record.id for record in records(served, "shadow")) == sorted(ids)
    live, (shadow, *_) = records(served, "0"), records(served, "shadow")
    assert {record.version for record in live} == {1} and (shadow.version, shadow.role) == (2, "shadow")
    row = json.loads(json.dumps(live[0].rows))[0]
    expected = served.model(served.train(2))
    assert row is not None and shadow.predictions[0] == pytest.approx(expected.predict(_table(served, 1))[0], abs=0)


def _table(served: Served, vehicle: int) -> Any:
    from support.served import rows

    return rows(40).slice(vehicle, 1)


def test_a_killed_worker_loses_nothing_that_was_acknowledged(served: Served):
    served.plan()
    with serving(served, "--workers", "2") as (address, parent), httpx.Client(timeout=10) as client:
        told = []
        for n in range(60):
            if n in (20, 40):
                children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
                os.kill(int(children[0]), signal.SIGKILL)
            try:
                told.append(ask(client, address, f"u{n}").json()["id"])
            except httpx.TransportError:
                time.sleep(0.1)
        assert len(told) > 50
    logged = {record.id for record in records(served, "0", "1")}
    assert set(told) <= logged


def test_a_server_that_others_could_reach_asks_who_they_are(served: Served):
    done = subprocess.run(
        [sys.executable, "-m", "millrace.serving", "--store", served.store, "--log", str(served.root / "log"),
         "--host", "0.0.0.0", "--port", "0"], capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "would answer everybody" in done.stderr and "Traceback" not in done.stderr


def test_a_version_beside_which_nobody_answers_is_stopped_once_it_brings_down_one_process_after_another(served: Served):
    plan = served.plan(watched=False)
    server = Server(ServerOptions(store=served.store, log=served.root / "log", name="here"), Access())
    now = [0.0]
    blame = Blame(server, clock=lambda: now[0])
    digest, ended = bytes.fromhex(served.arm(1).model.removeprefix("sha256:")), Ended("worker 0", 7, -11, None)

    for now[0] in (0.0, 50.0, 70.0):  # never three within a minute
        blame(digest, "crashed", ended)
    assert served.plans.vetoed(plan) == set()
    now[0] = 80.0
    blame(None, "crashed", ended)
    blame(digest, "crashed", ended)
    assert served.plans.vetoed(plan) == {1}
