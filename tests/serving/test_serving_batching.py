"""What came in one turn goes in one call, each gets its own, and nobody pays for another's fault."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import numpy as np
import pytest

from millrace.serving.batching import Batcher


class Model:
    """Doubles its rows, fails for negative ones, and remembers how many each call had."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def predict(self, rows: Any) -> Any:
        self.calls.append(len(rows))
        if (rows < 0).any():
            raise ValueError("negative")
        return rows[:, 0] * 2


def rows(*values: float) -> Any:
    return np.array(values)[:, None]


async def ask(batcher: Batcher, *given: Any) -> list[Any]:
    return list(await asyncio.gather(*(batcher.predict(each) for each in given), return_exceptions=True))


def test_requests_of_one_turn_are_one_call_and_each_gets_its_own():
    model = Model()
    sizes = [random.Random(1).randint(1, 5) for _ in range(20)]
    given = [rows(*(100 * n + k for k in range(size))) for n, size in enumerate(sizes)]

    found = asyncio.run(ask(Batcher(model.predict), *given))

    assert model.calls == [sum(sizes)]
    for asked, answer in zip(given, found, strict=True):
        np.testing.assert_array_equal(answer, asked[:, 0] * 2)


def test_one_alone_is_answered_at_once():
    async def one() -> float:
        began = asyncio.get_running_loop().time()
        await Batcher(Model().predict).predict(rows(1))
        return asyncio.get_running_loop().time() - began

    model = Model()
    assert asyncio.run(one()) < 1
    assert [a.tolist() for a in asyncio.run(ask(Batcher(model.predict), rows(1)))] == [[2]] and model.calls == [1]


def test_a_batch_has_an_end_and_one_large_request_is_one_batch():
    model = Model()
    found = asyncio.run(ask(Batcher(model.predict, largest=4), *(rows(n) for n in range(10)), rows(*range(9))))
    assert model.calls == [4, 4, 2, 9]
    assert [a.tolist() for a in found[:10]] == [[2 * n] for n in range(10)]


def test_rows_that_fail_are_nobody_elses():
    model = Model()
    first, wrong, last = asyncio.run(ask(Batcher(model.predict), rows(1), rows(2, -1), rows(3)))
    assert (first.tolist(), last.tolist()) == ([2], [6])
    assert isinstance(wrong, ValueError)


def test_who_has_gone_is_not_predicted_for():
    model = Model()

    async def leave() -> Any:
        batcher = Batcher(model.predict)
        gone = asyncio.ensure_future(batcher.predict(rows(1, 2, 3)))
        await asyncio.sleep(0)  # it asks, and is not answered yet
        gone.cancel()
        return await batcher.predict(rows(5))

    assert asyncio.run(leave()).tolist() == [10] and model.calls == [1]


def test_a_flood_of_one_turn_lets_others_have_theirs():
    """Between two batches the loop does what else there is."""
    turns: list[str] = []

    async def both() -> None:
        batcher = Batcher(lambda given: turns.append("batch") or given[:, 0], largest=1)
        flood = asyncio.gather(*(batcher.predict(rows(n)) for n in range(5)))
        for _ in range(5):
            await asyncio.sleep(0)
            turns.append("other")
        await flood

    asyncio.run(both())
    first = turns.index("batch")
    assert "other" in turns[first + 1 : first + 3]


@pytest.mark.parametrize("largest", [0, -1])
def test_a_batch_of_no_rows_is_refused(largest):
    with pytest.raises(ValueError, match="at least one row"):
        Batcher(Model().predict, largest)
