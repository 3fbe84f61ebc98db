"""Tenants have their turns by what they have used: none waits for another's flood, and none goes without."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import numpy as np
import pytest

from millrace.serving.batching import Batcher
from millrace.serving.turns import Turns

PIPELINES = 20


class Floor:
    """Pipelines on one loop. A batch takes 0.4 ms of a clock that stands still otherwise, and 10 us a row."""

    def __init__(self, turns: Turns | None = None) -> None:
        self.time = 0.0
        self.batches = 0
        self.turns = turns or Turns(lambda: self.time)
        self.batchers = [Batcher(self.predict, turns=self.turns) for _ in range(PIPELINES)]

    def predict(self, rows: Any) -> Any:
        self.batches += 1
        self.time += 0.0004 + 0.00001 * len(rows)
        return rows[:, 0] * 2

    async def ask(self, pipeline: int, tenant: str, count: int) -> int:
        """Batches that were predicted from asking to the answer, this one among them."""
        before = self.batches
        given = np.full((count, 1), float(pipeline))
        np.testing.assert_array_equal(await self.batchers[pipeline].predict(given, tenant), given[:, 0] * 2)
        return self.batches - before

    async def flood(self, tenant: str, done: list[int], concurrent: int = 200, rows: int = 32) -> None:
        async def one(number: int) -> None:
            while True:
                done.append(await self.ask(number % PIPELINES, tenant, rows))

        await asyncio.gather(*(one(number) for number in range(concurrent)))


def p99(turns: list[int]) -> float:
    return float(np.quantile(turns, 0.99, method="higher"))


async def asked(floor: Floor, times: int = 300) -> list[int]:
    return [await floor.ask(number % PIPELINES, "b", 1) for number in range(times)]


async def beside(floor: Floor, times: int = 300) -> tuple[list[int], list[int]]:
    done: list[int] = []
    flood = asyncio.ensure_future(floor.flood("a", done))
    await asyncio.sleep(0)
    turns = await asked(floor, times)
    flood.cancel()
    await asyncio.gather(flood, return_exceptions=True)
    return turns, done


def test_a_flood_of_one_tenant_does_not_keep_another_waiting():
    unloaded = p99(asyncio.run(asked(Floor())))
    floor = Floor()
    loaded, flood = asyncio.run(beside(floor))

    assert unloaded == 1
    assert p99(loaded) <= 5 * unloaded
    assert len(flood) > 300 * 5, "who floods is answered, too: up to 8 requests of 32 rows go in a batch"


def test_without_fairness_it_would_wait_for_all():
    """What the test above could not tell apart were it not so."""

    class InOrder(Turns):
        def ask(self, tenant: str, run: Any) -> None:
            super().ask("all", lambda _: {"all": sum(run(tenant).values())})

    loaded, _ = asyncio.run(beside(Floor(InOrder()), 20))
    assert p99(loaded) > 10


def test_two_tenants_that_flood_use_as_much():
    async def both() -> tuple[int, int]:
        floor = Floor()
        many: list[int] = []
        few: list[int] = []
        floods = [asyncio.ensure_future(each) for each in (
            floor.flood("a", many, concurrent=200, rows=32), floor.flood("b", few, concurrent=40, rows=1),
        )]  # fmt: skip
        while floor.batches < 400:
            await asyncio.sleep(0)
        for each in floods:
            each.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
        return len(many), len(few)

    many, few = asyncio.run(both())
    # b's rows go along in a's turns as well, and b is charged for them: by rows nobody has all.
    assert many > 200 and few > 200


def test_each_tenant_has_its_share_where_pipelines_are_their_own():
    """No row goes along with another tenant's: a's batches cost twice as much as b's, hence b has twice as many."""

    async def run() -> Counter[str]:
        time, ran = [0.0], Counter[str]()
        turns = Turns(lambda: time[0])

        def batch(tenant: str) -> dict[str, int]:
            time[0] += 0.002 if tenant == "a" else 0.001
            ran[tenant] += 1
            turns.ask(tenant, batch)
            return {tenant: 1}

        for tenant in ("a", "a", "a", "b"):
            turns.ask(tenant, batch)
        while ran.total() < 900:
            await asyncio.sleep(0)
        return ran

    ran = asyncio.run(run())
    assert ran["b"] == pytest.approx(2 * ran["a"], rel=0.02)


def test_nobody_saves_turns_up():
    """A tenant that asked nothing for long has no more turns after it than the others."""

    async def run() -> list[str]:
        time, ran = [0.0], list[str]()
        turns = Turns(lambda: time[0])

        def batch(tenant: str) -> dict[str, int]:
            time[0] += 0.001
            ran.append(tenant)
            turns.ask(tenant, batch)
            return {tenant: 1}

        turns.ask("a", batch)
        while len(ran) < 100:
            await asyncio.sleep(0)
        turns.ask("b", batch)
        while len(ran) < 120:
            await asyncio.sleep(0)
        return ran[100:]

    assert Counter(asyncio.run(run())) == {"a": 10, "b": 10}


def test_endless_newcomers_do_not_keep_a_flood_waiting():
    """Each asks once, as a tenant that nobody has seen before; together they have about half."""

    async def run() -> tuple[float, float]:
        time, ran = [0.0], {"a": 0.0, "new": 0.0}
        turns = Turns(lambda: time[0])

        def batch(tenant: str) -> dict[str, int]:
            cost = 0.003 if tenant == "a" else 0.0005
            time[0] += cost
            ran[tenant if tenant == "a" else "new"] += cost
            turns.ask("a" if tenant == "a" else f"{tenant}+", batch)
            return {tenant: 1}

        turns.ask("a", batch)
        turns.ask("n", batch)
        while time[0] < 1:
            await asyncio.sleep(0)
        return ran["a"], ran["new"]

    a, new = asyncio.run(run())
    assert a > 0.4 and new > 0.4


def test_one_batch_a_turn_of_the_loop():
    async def run() -> list[int]:
        floor = Floor()
        asked = asyncio.gather(*(floor.ask(number, "b", 1) for number in range(PIPELINES)))
        seen = []
        while not asked.done():
            seen.append(floor.batches)
            await asyncio.sleep(0)
        return seen

    seen = asyncio.run(run())
    assert all(after - before <= 1 for before, after in zip(seen, seen[1:], strict=False)) and seen[-1] == PIPELINES


def test_what_is_kept_of_tenants_ends_with_what_they_ask():
    async def run() -> Turns:
        floor = Floor()
        for number in range(50):
            await floor.ask(0, f"sparse{number}", 1)
        done: list[int] = []
        flood = asyncio.ensure_future(floor.flood("a", done))
        most = 0
        for number in range(200):
            await floor.ask(0, f"sparse{number}", 1)
            most = max(most, len(floor.turns._used))
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
        assert most < 20
        while floor.turns._asked:
            await asyncio.sleep(0)
        return floor.turns

    turns = asyncio.run(run())
    assert not turns._used and not turns._asked


def test_rows_of_others_go_along_and_are_charged_to_them():
    async def run() -> tuple[list[int], Turns, int]:
        floor = Floor()
        waits = await asyncio.gather(*(floor.ask(0, tenant, 4) for tenant in ("a", "b", "c")))
        await asyncio.sleep(0)
        return waits, floor.turns, floor.batches

    waits, turns, batches = asyncio.run(run())
    assert (waits, batches) == ([1, 1, 1], 1)
    assert not turns._asked


def test_a_batch_that_fails_costs_nobody_else_his_turn():
    async def run() -> list[str]:
        turns, ran = Turns(), list[str]()

        def fails(tenant: str) -> dict[str, int]:
            raise RuntimeError

        def works(tenant: str) -> dict[str, int]:
            ran.append(tenant)
            return {tenant: 1}

        asyncio.get_running_loop().set_exception_handler(lambda *_: ran.append("said"))
        turns.ask("a", fails)
        turns.ask("b", works)
        for _ in range(5):
            await asyncio.sleep(0)
        return ran

    assert asyncio.run(run()) == ["said", "b"]
