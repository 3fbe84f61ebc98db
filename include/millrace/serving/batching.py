"""Natural batching: what came while the event loop was busy is predicted in one call, and nothing waits for a timer.

A call of XGBoost takes as long for one row as for thirty. Requests that are read in one turn of the loop ask in that
turn, and are answered together in the next; one alone is answered at once. Batches of several models have their turns
from one `Turns`, which is fair to tenants.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from millrace.models.metrics import Floats
from millrace.serving.turns import Turns

Predict = Callable[[Floats], Floats]
_Waiting = tuple[Floats, asyncio.Future[Floats]]


class Batcher:
    """Batches the rows of one model on one event loop.

    `predict` takes encoded rows, shape (rows, columns), and gives an answer for each, shape (rows,) or (rows, classes).
    It runs on the loop itself: it takes less than handing it to a thread would. `turns` are those of the loop, where
    other models predict on it too.
    """

    def __init__(self, predict: Predict, largest: int = 256, turns: Turns | None = None) -> None:
        if largest < 1:
            raise ValueError(f"a batch has at least one row, not {largest}")
        self._predict, self._largest = predict, largest
        self._turns = Turns() if turns is None else turns
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._asked: set[str] = set()  # tenants that have a turn to come, also where their rows went along in another's

    async def predict(self, rows: Floats, tenant: str = "") -> Floats:
        """Answers for these rows, in their order. Raises what `predict` raises for them, and for no others."""
        answer: asyncio.Future[Floats] = asyncio.get_running_loop().create_future()
        if (waiting := self._waiting.get(tenant)) is not None:
            waiting.append((rows, answer))
        else:
            self._waiting[tenant] = deque(((rows, answer),))
            self._ask(tenant)
        return await answer

    def _ask(self, tenant: str) -> None:
        if tenant not in self._asked:
            self._asked.add(tenant)
            self._turns.ask(tenant, self._answer)

    def _answer(self, tenant: str) -> Mapping[str, int]:
        """Predict a batch in a turn of this tenant: of its rows first, and of others' what goes with them."""
        self._asked.discard(tenant)
        if tenant not in self._waiting:  # all of its rows went along in another's turn
            return {}
        batch: list[_Waiting] = []
        count: dict[str, int] = {}
        left = self._largest
        for each in [tenant, *(name for name in self._waiting if name != tenant)]:
            waiting = self._waiting[each]
            while waiting and (not batch or len(waiting[0][0]) <= left):
                rows, answer = waiting.popleft()
                if not answer.done():  # whoever asked may have gone
                    batch.append((rows, answer))
                    count[each] = count.get(each, 0) + len(rows)
                    left -= len(rows)
            if not waiting:
                del self._waiting[each]
        if tenant in self._waiting:
            self._ask(tenant)
        if batch:
            self._together(batch)
        return count

    def _together(self, batch: list[tuple[Floats, asyncio.Future[Floats]]]) -> None:
        try:
            found = self._predict(np.concatenate([rows for rows, _ in batch]) if len(batch) > 1 else batch[0][0])
        except Exception as err:  # whatever a model raises is its caller's, and one request's rows are no other's fault
            if len(batch) == 1:
                batch[0][1].set_exception(err)
                return
            for each in batch:
                self._together([each])
            return
        at = 0
        for rows, answer in batch:
            answer.set_result(found[at : at + len(rows)])
            at += len(rows)
