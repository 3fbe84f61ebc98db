"""The plan in the store follows the ledger, never goes back, and is in force less its vetoes."""

from __future__ import annotations

import multiprocessing
import random
from typing import Any

import pytest
from pydantic import ValidationError

from millrace.contract import Artifact
from millrace.core.errors import Corrupt
from millrace.spec.serving import ServingSpec
from millrace.store import ObjectStore, layout, open_store
from millrace.store.plans import Arm, Plans, TrafficPlan, Veto

FORK = multiprocessing.get_context("fork")


def arm(version: int, role: Any = "champion", share: float = 1.0) -> Arm:
    of = Artifact(uri=f"deployments/{version}", digest=f"sha256:{version:064x}", kind="deployment")
    return Arm(role=role, version=version, model=of.digest, deployment=of, share=share)


def plan(generation: int = 1, since: int = 1, arms: tuple[Arm, ...] = (arm(1),), **others: Any) -> TrafficPlan:
    return TrafficPlan(
        pipeline="flights", generation=generation, since=since, salt="s", arms=arms, serving=ServingSpec(), **others
    )


CANARY = (arm(1, share=0.9), arm(2, "challenger", 0.1))


def veto(version: int, generation: int = 1, why: str = "errors") -> Veto:
    return Veto(pipeline="flights", generation=generation, version=version, guard="errors", why=why, at="2013-01-01")


def test_a_plan_comes_back_as_it_was_written(objects: ObjectStore):
    plans = Plans(objects)
    assert plans.get("flights") is None and plans.pipelines() == []

    assert plans.follow(plan(1)) == plan(1)

    assert plans.get("flights") == plan(1)
    assert plans.pipelines() == ["flights"]


def test_a_late_writer_leaves_the_later_generation(objects: ObjectStore):
    plans = Plans(objects)
    plans.follow(plan(2))

    assert plans.follow(plan(1)).generation == 2
    assert plans.get("flights") == plan(2)


def test_a_broken_plan_is_told_and_is_mended_by_the_next(objects: ObjectStore):
    plans = Plans(objects)
    objects.put(layout.plan("flights"), b"{")
    with pytest.raises(Corrupt, match="cannot be read"):
        plans.get("flights")

    plans.follow(plan(1))

    assert plans.get("flights") == plan(1)


def write(root: str, seed: int, go: Any) -> None:
    plans = Plans(open_store(root))
    generations = random.Random(seed).sample(range(1, 16), 15)
    go.wait()
    for generation in generations:
        plans.follow(plan(generation))


def test_racing_writers_end_in_the_latest_generation(root: str):
    go = FORK.Event()
    writers = [FORK.Process(target=write, args=(root, seed, go)) for seed in range(4)]
    for writer in writers:
        writer.start()
    go.set()
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0] * 4
    assert Plans(open_store(root)).get("flights") == plan(15)


def test_the_first_veto_stays(objects: ObjectStore):
    plans, now = Plans(objects), plan(1, arms=CANARY)
    assert plans.veto(veto(2)) == veto(2)

    assert plans.veto(veto(2, why="slow")) == veto(2)
    assert plans.vetoes(now) == [veto(2)] and plans.vetoed(now) == {2}


def test_a_veto_holds_through_a_rollout_and_not_beyond(objects: ObjectStore):
    """A guard speaks while the next step is being written: its word counts under that, too."""
    plans = Plans(objects)
    plans.veto(veto(2, generation=4))

    assert plans.vetoed(plan(5, since=3, arms=CANARY)) == {2}
    assert plans.vetoed(plan(6, since=6, arms=CANARY)) == frozenset()
    assert plans.vetoed(plan(5, since=3, arms=(arm(1),))) == frozenset()


@pytest.mark.parametrize(
    ("given", "vetoed", "answers"),
    [
        (plan(arms=CANARY), set(), [(1, 0.9), (2, 0.1)]),
        (plan(arms=CANARY), {2}, [(1, 1.0)]),
        (plan(arms=CANARY), {1}, [(2, 1.0)]),
        (plan(arms=CANARY), {1, 2}, []),
        (plan(arms=(arm(2),), former=arm(1)), {2}, [(1, 1.0)]),
        (plan(arms=(arm(2),), former=arm(1)), {1, 2}, []),
        (plan(arms=(arm(1),), shadow=arm(2, "challenger")), {2}, [(1, 1.0)]),
    ],
)
def test_what_is_in_force_is_the_plan_less_its_vetoes(given: TrafficPlan, vetoed: set[int], answers: Any):
    found = given.less(frozenset(vetoed))

    assert [(each.version, each.share) for each in found.arms] == answers
    assert found.shadow is None or found.shadow.version not in vetoed
    assert all(each.role == "champion" for each in found.arms[:1])


def test_tallies_of_servers_stand_beside_each_other(objects: ObjectStore):
    plans = Plans(objects)
    plans.put_tally("flights", 3, "a", b"1")
    plans.put_tally("flights", 3, "b", b"2")
    plans.put_tally("flights", 3, "a", b"3")

    assert plans.tallies("flights", 3) == {"a": b"3", "b": b"2"}
    assert plans.tallies("flights", 4) == {}


@pytest.mark.parametrize(
    ("arms", "since"),
    [((arm(1, share=0.5),), 1), ((arm(2, "challenger"),), 1), ((arm(1),), 2)],
    ids=["shares are not one", "no champion", "begins after itself"],
)
def test_a_plan_that_cannot_be_is_refused(arms: Any, since: int):
    with pytest.raises(ValidationError):
        plan(1, since=since, arms=arms)
