"""What waits in the triggerer: it looks in threads, wakes whoever decides, and says a veto until it is settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import pytest
from airflow.sdk import AssetWatcher
from airflow.serialization.encoders import encode_trigger
from airflow.triggers.base import BaseEventTrigger
from support.project import PIPELINE
from support.rolling import Served, met

from millrace.airflow import build_dags
from millrace.airflow.runtime import stage, traffic
from millrace.airflow.runtime.triggers import RolloutTrigger, VetoTrigger
from millrace.core.errors import Unavailable


def waiting(served: Served) -> RolloutTrigger:
    served.first()
    served.opened(2), served.stage(2, 0)
    rollout = served.ledger.rollout(PIPELINE)
    return RolloutTrigger(served.here["root"], PIPELINE, rollout.id, every=0.05)


async def first(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


async def within(seconds: float, work: Awaitable[Any]) -> Any:
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return "nothing"


@pytest.mark.parametrize("what", ["counts", "veto", "abort", "hasten", "superseded"])
def test_a_rollout_is_looked_at_within_moments_of_what_moves_it(served: Served, what: str):
    trigger = waiting(served)

    async def move() -> Any:
        looking = asyncio.create_task(first(trigger))
        await asyncio.sleep(0.5)
        assert not looking.done()
        if what == "counts":
            served.counted((1, met(5)), (2, met(5)))
        elif what == "veto":
            served.veto(2)
        else:
            served.ledger.steer(PIPELINE, "abort" if what == "superseded" else what, by="ann", reason="so")
        return await asyncio.wait_for(looking, 20)

    assert asyncio.run(move())["look"]


def test_a_pause_goes_on_waiting(served: Served):
    trigger = waiting(served)
    served.counted((1, met(5)), (2, met(5)))
    served.ledger.steer(PIPELINE, "pause", by="ann", reason="lunch")

    assert asyncio.run(within(2, first(trigger))) == "nothing"


def test_a_ledger_that_does_not_answer_is_waited_for(served: Served, monkeypatch):
    trigger = waiting(served)
    served.counted((1, met(5)), (2, met(5)))
    calls = []

    def gone(*given: Any) -> Any:
        calls.append(given)
        if len(calls) < 3:
            raise Unavailable("the ledger's database does not answer")
        return kept(*given)

    kept = stage.look_again
    monkeypatch.setattr(stage, "look_again", gone)
    assert asyncio.run(within(20, first(trigger)))["look"] and len(calls) == 3


def test_looking_does_not_hold_up_the_triggerers_loop(served: Served, monkeypatch):
    served.first()
    monkeypatch.setattr(traffic, "unsettled", lambda site: time.sleep(0.6) or [])

    async def beats() -> int:
        looking = asyncio.create_task(first(VetoTrigger(served.here["root"], PIPELINE, every=0.01)))
        count = 0
        for count in range(1, 11):  # noqa: B007
            await asyncio.sleep(0.05)
        looking.cancel()
        return count

    began = time.monotonic()
    assert asyncio.run(beats()) == 10
    assert time.monotonic() - began < 2.5


def test_a_veto_is_said_within_moments_and_again_until_it_is_settled(served: Served):
    served.first()
    served.opened(2), served.stage(2, 0)
    trigger = VetoTrigger(served.here["root"], PIPELINE, every=0.05, again=0.3)

    async def listen() -> tuple[Any, int, Any]:
        said: list[Any] = []

        async def collect() -> None:
            async for event in trigger.run():
                said.append(event.payload)

        collecting = asyncio.create_task(collect())
        await asyncio.sleep(0.4)
        assert said == []
        served.veto(2)
        await asyncio.sleep(2)
        unsettled = len(said)
        served.ledger.roll_back(PIPELINE, 2, why="x", by="g", how="guard", approval=False)
        traffic.mirror_plan(served.site)
        await asyncio.sleep(0.5)
        settled = len(said)
        await asyncio.sleep(1.5)
        collecting.cancel()
        return said[0], unsettled, len(said) - settled

    event, unsettled, after = asyncio.run(listen())
    assert event == {"pipeline": PIPELINE, "versions": [2]}
    assert 2 <= unsettled <= 4, "again, and each time after twice as long"
    assert after == 0


def test_the_dag_has_the_watcher_and_airflow_can_keep_it(served: Served):
    file = str(served.site.tree.root / "dags" / f"{PIPELINE}.py")
    dags = {dag.dag_id: dag for dag in build_dags(PIPELINE, file)}
    (asset,) = dags[f"{PIPELINE}__rollback"].schedule
    (watcher,) = asset.watchers

    assert isinstance(watcher, AssetWatcher) and isinstance(watcher.trigger, BaseEventTrigger)
    kept = encode_trigger(watcher.trigger)
    again = VetoTrigger(**watcher.trigger.serialize()[1])
    assert kept["classpath"].endswith("VetoTrigger") and again.serialize() == watcher.trigger.serialize()


def test_the_release_dag_has_what_the_rollout_asks_for(served: Served):
    file = str(served.site.tree.root / "dags" / f"{PIPELINE}.py")
    dag = {each.dag_id: each for each in build_dags(PIPELINE, file)}[f"{PIPELINE}__release"]

    assert [task.task_id for task in dag.topological_sort()] == [
        "open", "approve", "deploy", "shadow", "step_1", "step_2", "promote", "watch",
    ]  # fmt: skip
