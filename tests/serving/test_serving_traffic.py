"""Plans, vetoes, fallbacks and guards, as callers meet them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving.conftest import Asking, asking
from serving.test_serving_app import logged
from support.served import Served

from millrace.core.errors import DataError, Unavailable
from millrace.rules.guards import MOST, Counts, judge, merge
from millrace.rules.traffic import meets_new, name, point
from millrace.serving.in_force import Counter
from millrace.spec.serving import Guards
from millrace.store import layout
from millrace.store.plans import Plans, Toggles, Veto

CANARY = 0.3


def break_(it: Asking, served: Served, version: int, how: Any) -> None:
    """Let a version's model do something else from now on."""
    ready = it.server.versions.get(served.arm(version))
    ready.batcher._predict = how


def raises(values: Any) -> Any:
    raise RuntimeError("the model is broken")


async def versions(it: Asking, *numbers: int, **headers: str) -> list[int]:
    reply = await it.vehicles(*numbers, **headers)
    assert reply.status_code == 200, reply.text
    return [row.get("version") for row in reply.json()["predictions"]]


def test_units_meet_their_version_alone_and_together_and_stay_with_it(served: Served):
    plan = served.plan(canary=CANARY)
    expected = [2 if meets_new(plan.salt, f"v{n}", CANARY) else 1 for n in range(40)]
    assert 3 < expected.count(2) < 25

    async def ask() -> None:
        async with asking(served) as it:
            assert [(await versions(it, n))[0] for n in range(40)] == expected
            assert await versions(it, *range(40)) == expected
            served.plan(2, canary=0.6)
            await asyncio.to_thread(it.server.follower.look)
            grown = await versions(it, *range(40))
            assert all(after == 2 for before, after in zip(expected, grown, strict=True) if before == 2)
            assert len(set(await versions(it, *range(40), x_unit="me"))) == 1

    asyncio.run(ask())
    roles = {(r.version, r.role) for r in logged(served)}
    assert roles == {(1, "champion"), (2, "challenger")}


def test_plans_are_swapped_under_load_and_nobody_sees_an_error(served: Served):
    served.plan()

    async def ask() -> None:
        async with asking(served) as it:
            seen, ended = set(), False

            async def load(n: int) -> None:
                while not ended:
                    seen.update(await versions(it, n))

            asked = [asyncio.create_task(load(n)) for n in range(8)]
            for generation in range(2, 8):
                served.plan(generation, canary=0.5 if generation % 2 else None)
                await asyncio.to_thread(it.server.follower.look)
                await asyncio.sleep(0.05)
            ended = True
            await asyncio.gather(*asked)
            assert seen == {1, 2}

    asyncio.run(ask())


def test_a_plan_that_is_broken_or_gone_leaves_the_last_in_force(served: Served, caplog: Any):
    served.plan()

    async def ask() -> None:
        async with asking(served) as it:
            served.objects.put(layout.plan("trips"), b"{}")
            await asyncio.to_thread(it.server.follower.look)
            assert await versions(it, 1) == [1]
            served.objects.delete(layout.plan("trips"))
            await asyncio.to_thread(it.server.follower.look)
            assert await versions(it, 1) == [1]

    asyncio.run(ask())
    assert "the last one stays" in caplog.text


def test_a_store_that_is_away_changes_nothing(served: Served, caplog: Any):
    served.plan()

    async def ask() -> None:
        async with asking(served) as it:
            Path(served.store).rename(served.root / "away")
            Path(served.store).write_text("no folder")
            await asyncio.to_thread(it.server.follower.look)
            assert await versions(it, 1) == [1]

    asyncio.run(ask())


def test_a_challenger_that_fails_is_stopped_and_its_callers_get_the_champion(served: Served):
    served.plan(canary=CANARY)

    async def ask() -> int:
        async with asking(served) as it:
            break_(it, served, 2, raises)
            asked, stopped = 0, None
            while stopped is None and asked < 400:
                assert await versions(it, asked % 40, x_unit=f"u{asked}") == [1]
                asked += 1
                await asyncio.sleep(0)
                stopped = it.server.follower.of("trips").vetoed or None
                if asked % 10 == 0:
                    await asyncio.sleep(0.06)
            assert stopped == {2}
            until = time.monotonic() + 3
            while not served.plans.vetoed(served.plans.get("trips")) and time.monotonic() < until:
                await asyncio.sleep(0.05)
            (veto,) = served.plans.vetoes(served.plans.get("trips"))
            assert (veto.version, veto.guard, veto.generation, veto.server) == (2, "errors", 1, "here-0")
            return asked

    assert asyncio.run(ask()) < 120


def test_a_veto_that_the_store_does_not_take_counts_here_at_once(served: Served, monkeypatch: pytest.MonkeyPatch):
    served.plan(canary=CANARY)

    def away(self: Plans, veto: Veto) -> Veto:
        raise Unavailable("the store is away")

    monkeypatch.setattr(Plans, "veto", away)

    async def ask() -> frozenset[int]:
        async with asking(served) as it:
            break_(it, served, 2, raises)
            for number in range(400):
                await versions(it, number % 40, x_unit=f"u{number}")
                if vetoed := it.server.follower.of("trips").vetoed:
                    return vetoed
                await asyncio.sleep(0.06 if number % 10 == 0 else 0)
        return frozenset()

    assert asyncio.run(ask()) == {2}
    assert not served.plans.vetoed(served.plans.get("trips"))


def test_a_model_without_a_number_has_failed(served: Served):
    served.plan(serving={"fallback": {"constant": 0.1}})

    async def ask() -> None:
        async with asking(served) as it:
            break_(it, served, 1, lambda values: np.full(len(values), np.nan))
            (row,) = (await it.vehicles(1)).json()["predictions"]
            assert (row["prediction"], row["role"]) == (0.1, "constant")

    asyncio.run(ask())
    assert [r.role for r in logged(served)] == ["constant"]


def test_the_former_champion_answers_where_the_present_one_cannot(served: Served):
    served.plan(arms=(served.arm(2),), former=served.arm(1))

    async def ask() -> None:
        async with asking(served) as it:
            assert await versions(it, 1) == [2]
            break_(it, served, 2, raises)
            (row,) = (await it.vehicles(1)).json()["predictions"]
            assert (row["version"], row["role"]) == (1, "former")
            break_(it, served, 1, raises)
            assert (await it.vehicles(1)).status_code == 500

    asyncio.run(ask())


def test_a_veto_of_another_server_counts_here_too_and_goes_with_the_rollout(served: Served):
    served.plan(canary=0.999)

    async def ask() -> None:
        async with asking(served) as it:
            assert await versions(it, 1) == [2]
            served.plans.veto(Veto(pipeline="trips", generation=1, version=2, guard="slow", why="", at="2024-01-01"))
            await asyncio.to_thread(it.server.follower.look)
            assert await versions(it, 1) == [1]
            served.plan(2, canary=0.9999)  # a step that was on its way
            await asyncio.to_thread(it.server.follower.look)
            assert await versions(it, 1) == [1]
            served.plan(3, since=3, canary=0.9999)
            await asyncio.to_thread(it.server.follower.look)
            assert await versions(it, 1) == [2]

    asyncio.run(ask())


def test_what_another_server_counted_is_evidence_here(served: Served):
    served.plan(canary=0.1)
    errors = tuple(f"u{n}" for n in range(40))
    counts = Counts.model_validate({"generation": 1, "share": 0.1, "sides": {2: {"answered": 40, "errors": errors}}})
    served.plans.put_tally("trips", 1, "elsewhere-0", counts.model_dump_json().encode())

    async def ask() -> None:
        async with asking(served) as it:
            until = time.monotonic() + 4
            while not it.server.follower.of("trips").vetoed and time.monotonic() < until:
                await asyncio.sleep(0.05)
            assert it.server.follower.of("trips").vetoed == {2}

    asyncio.run(ask())


def test_predictions_that_went_elsewhere_stop_a_canary_on_the_only_server(served: Served):
    served.plan(canary=0.5)

    async def ask() -> None:
        async with asking(served) as it:
            break_(it, served, 2, lambda values: np.full(len(values), 0.999))
            for n in range(300):
                await it.vehicles(n % 40, x_unit=f"u{n}")
            until = time.monotonic() + 4
            while not it.server.follower.of("trips").vetoed and time.monotonic() < until:
                await asyncio.sleep(0.05)
            assert it.server.follower.of("trips").vetoed == {2}

    asyncio.run(ask())
    assert served.plans.vetoes(served.plans.get("trips"))[0].guard == "predictions"


def test_who_steps_in_is_not_counted_as_met(served: Served):
    served.plan(canary=0.999, serving={"guards": {"errors": False}})

    async def ask() -> None:
        async with asking(served) as it:
            break_(it, served, 2, raises)
            assert await versions(it, 1) == [1]
            sides = it.server.follower.of("trips").counter.counts().sides
            assert set(sides) == {2} and len(sides[2].errors) == 1

    asyncio.run(ask())


def test_more_units_than_are_held_by_name_leave_a_sample_that_is_fair(served: Served):
    """With a twentieth of the units on one side; and alone, where some of very many fail, or begin to."""
    plan = served.plan(canary=0.05)
    deciles = tuple(n / 10 for n in range(1, 10))
    counter, alone = Counter(plan, deciles), Counter(served.plan(2), deciles)
    for n in range(12_000):
        unit = name("salt", f"u{n}")
        new = meets_new("salt", f"u{n}", 0.05)
        counter.answered(2 if new else 1, unit, point("p", unit), slow=False)
        if n % 100 == 0:
            alone.failed(1, unit)
        else:
            alone.answered(1, unit, point("p", unit), slow=False)
    assert counter.level > 0 and len(counter.counts().sides[1].predictions) <= MOST
    assert not any(f.harm for f in judge(merge([counter.counts()]), 2, 1, Guards()))
    assert not any(f.harm for f in judge(merge([alone.counts()]), 1, None, Guards()))
    for n in range(12_000, 16_000):
        alone.failed(1, name("salt", f"u{n}"))
    assert any(f.harm for f in judge(merge([alone.counts()]), 1, None, Guards()))


def test_a_person_stops_and_forces(served: Served):
    async def ask() -> None:
        served.plan(canary=0.5)
        async with asking(served) as it:
            served.plan(2, canary=0.5, toggles=Toggles(version=2))
            await asyncio.to_thread(it.server.follower.look)
            assert set(await versions(it, *range(40))) == {2}
            served.plan(3, canary=0.5, toggles=Toggles(stopped=True))
            await asyncio.to_thread(it.server.follower.look)
            reply = await it.vehicles(1)
            assert reply.status_code == 503 and "a person has stopped" in reply.json()["error"]

    asyncio.run(ask())


def test_testers_choose_a_version_and_are_not_counted(served: Served):
    served.plan(canary=0.001)

    async def ask() -> None:
        async with asking(served) as it:
            assert await versions(it, 1, x_version="2") == [2]
            assert (await it.vehicles(1, x_version="7")).status_code == 404
            counts = it.server.follower.of("trips").counter.counts()
            assert counts.sides == {}

    asyncio.run(ask())


def test_a_challenger_that_is_not_as_it_was_stored_is_vetoed_and_the_champion_answers(served: Served):
    arm = served.arm(2)
    served.plan()

    async def ask() -> None:
        async with asking(served) as it:
            served.plan(2, canary=0.5)
            served.objects.put(arm.deployment.uri, b"{}")
            await asyncio.to_thread(it.server.follower.look)
            assert set(await versions(it, *range(20))) == {1}
            until = time.monotonic() + 3
            while not served.plans.vetoed(served.plans.get("trips")) and time.monotonic() < until:
                await asyncio.sleep(0.05)
            assert served.plans.vetoes(served.plans.get("trips"))[0].guard == "load"

    asyncio.run(ask())


class Kept:
    """A shadow's process that keeps what it is sent, or has no time."""

    def __init__(self, takes: bool = True) -> None:
        self.takes, self.frames = takes, list[bytes]()

    def send(self, frame: bytes) -> bool:
        self.frames += [frame] if self.takes else []
        return self.takes


@pytest.mark.parametrize("takes", [True, False])
def test_a_shadow_is_sent_a_copy_or_is_counted_as_dropped(served: Served, takes: bool):
    served.plan(shadow=served.arm(2, role="challenger"))
    kept = Kept(takes)

    async def ask() -> None:
        async with asking(served) as it:
            it.server.app.inference.answerer.shadows = kept
            assert await versions(it, 1, 2) == [1, 1]
            counts = it.server.follower.of("trips").counter.counts()
            assert (counts.sides[2].dropped if 2 in counts.sides else 0) == (0 if takes else 1)

    asyncio.run(ask())
    assert len(kept.frames) == takes and [r.role for r in logged(served)] == ["champion"]


def test_what_there_was_no_time_for_is_loaded_when_it_is_asked_for(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("millrace.serving.following.BEFOREHAND_S", -1.0)
    served.plan()

    async def ask() -> None:
        async with asking(served) as it:
            assert len(it.server.versions) == 0
            assert await versions(it, 1) == [1] and len(it.server.versions) == 1

    asyncio.run(ask())


def test_what_was_used_last_stays_when_memory_is_full(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("millrace.serving.versions.LEAST", 1 << 20)
    served.plan(canary=0.5)

    async def ask() -> None:
        async with asking(served, memory=1 << 20) as it:
            assert set(await versions(it, *range(40))) == {1, 2}  # each is loaded again in its turn
            assert len(it.server.versions) == 1

    asyncio.run(ask())


def test_a_shared_server_opens_no_model_with_code_of_pipelines(served: Served, caplog: Any):
    coded = served.deploy(3, served.train(3), code=True)
    served.plan(arms=(coded,))

    async def ask() -> None:
        async with asking(served) as it:
            assert (await it.vehicles(1)).status_code == 404

    asyncio.run(ask())
    assert "executes no code of pipelines" in caplog.text


@pytest.mark.parametrize("watched", [True, False])
def test_guards_look_while_the_plan_says_so(served: Served, watched: bool):
    served.plan(arms=(served.arm(2),), former=served.arm(1), watched=watched)

    async def ask() -> None:
        async with asking(served) as it:
            break_(it, served, 2, raises)
            for n in range(60):
                assert await versions(it, 1, x_unit=f"u{n}") == [1]
            await asyncio.sleep(0.3)
            assert it.server.follower.of("trips").vetoed == ({2} if watched else set())

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("secret-4711"), "RuntimeError at"),
        (DataError("row 0 is bad", given="secret-4711"), "row 0 is bad"),
    ],
    ids=["the model's", "of a feature"],
)
def test_no_value_of_a_feature_is_in_the_log_of_an_error(served: Served, caplog: Any, error: Exception, words: str):
    served.plan()

    def quotes(values: Any) -> Any:
        raise error

    async def ask() -> None:
        async with asking(served) as it:
            break_(it, served, 1, quotes)
            assert (await it.vehicles(1)).status_code == 500

    asyncio.run(ask())
    assert words in caplog.text and "secret-4711" not in caplog.text
