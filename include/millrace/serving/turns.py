"""Turns on an event loop: one batch a turn, and next whoever has had least, by start-time fair queueing.

Each tenant has a clock that runs as it uses the processor. Next is the one whose clock is furthest behind; one that
had nothing to ask begins where the one in turn stands, so that nobody saves turns up. A tenant that asks little hence
waits for the batch in turn and at most one of each other tenant, however much they ask; one that floods has all the
turns that nobody else wants. (Goyal, Vin, Cheng: Start-time Fair Queueing, SIGCOMM 1996. There the time at which
newcomers begin is that of the one in turn; here it also goes on by the share of each that waits, or an endless row of
newcomers would come before whoever has had a turn.)
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping

Run = Callable[[str], Mapping[str, int]]
"""Predicts a batch in the turn of a tenant, and says how many rows it had of each; none where none are left."""


class Turns:
    """The turns of one event loop; all that predicts on it shares them.

    `clock` gives seconds; the thread does nothing else in a turn, and its own time would take a system call. What a
    batch took is charged by rows to whoever had some in it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._asked: dict[str, deque[Run]] = {}
        self._used: dict[str, float] = {}
        self._now = 0.0
        self._called = False

    def ask(self, tenant: str, run: Run) -> None:
        """Have `run` called in a turn of this tenant; its own come in the order in which they were asked for."""
        if (asked := self._asked.get(tenant)) is not None:
            asked.append(run)
            return
        self._asked[tenant] = deque((run,))
        self._used[tenant] = max(self._used.get(tenant, 0.0), self._now)
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Run one batch; what else was asked for comes after whatever the loop has to do meanwhile."""
        self._called = False
        while self._asked:
            tenant = min(self._asked, key=self._used.__getitem__)
            asked, waiting = self._asked[tenant], len(self._asked)
            self._now = max(self._now, self._used[tenant])
            run = asked.popleft()
            began = self._clock()
            try:
                rows = run(tenant)
            finally:  # what others asked for has its turn whatever came of this one
                if not asked:  # only now: one that asks again meanwhile has never ceased to wait
                    del self._asked[tenant]
                self._go_on()
            if rows:
                self._charge(rows, self._clock() - began, waiting)
                break
        if not self._asked:  # nobody waits, so that nobody has had more than others wanted: all are even
            self._used.clear()
            self._now = 0.0

    def _go_on(self) -> None:
        if self._asked and not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _charge(self, rows: Mapping[str, int], seconds: float, waiting: int) -> None:
        count = sum(rows.values())
        for tenant, some in rows.items():
            self._used[tenant] = self._used.get(tenant, self._now) + seconds * some / count
        self._now += seconds / waiting
        for tenant in [each for each, used in self._used.items() if used <= self._now and each not in self._asked]:
            del self._used[tenant]
