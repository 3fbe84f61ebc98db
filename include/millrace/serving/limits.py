"""How much may be asked: requests a second of each caller, and requests of a pipeline that wait at a time.

Both are of one process; a server of several processes allows as many times as much.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from millrace.serving.refused import Refused

_MANY = 10_000
"""Buckets kept before those that are full are looked for and forgotten."""


class Rates:
    """A token bucket for each caller and pipeline, which holds the requests of one second and at least one.

    A bucket is kept as the moment at which it is full again, so that a rate that changes needs no care.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[tuple[str, str], float] = {}
        self._many = _MANY

    def take(self, caller: str, pipeline: str, per_second: float | None) -> None:
        """Count one request; `per_second` is that of the pipeline, None for no limit.

        Raises Refused, 429, with the seconds after which there is room for one, and does not count that one.
        """
        if per_second is None:
            return
        now = self._clock()
        full_at = max(self._full_at.get((caller, pipeline), now), now) + 1 / per_second
        wait = full_at - now - max(1.0, 1 / per_second)
        if wait > 1e-9:  # what rounding leaves is no request more
            raise _too_many("this caller asks too often", pipeline, f"{per_second:g} requests a second", wait)
        self._full_at[caller, pipeline] = full_at
        if len(self._full_at) > self._many:
            self._full_at = {key: at for key, at in self._full_at.items() if at > now}
            self._many = max(_MANY, 2 * len(self._full_at))


class Waiting:
    """Counts the requests of each pipeline that wait for their answer, by tenant."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, int]] = {}

    @contextmanager
    def room(self, pipeline: str, tenant: str, most: int) -> Iterator[None]:
        """Be one of those that wait, of `most` of this pipeline. Raises Refused, 429, where there is no room.

        A tenant that has less than its share of the room, which is the same for each that waits, is let in all the
        same: others cannot keep it out by filling the room.
        """
        waiting = self._waiting.setdefault(pipeline, {})
        mine = waiting.get(tenant, 0)
        if sum(waiting.values()) >= most and (mine + 1) * (len(waiting) + (mine == 0)) > most:
            raise _too_many("too many requests wait", pipeline, f"{most} that wait", 1.0)
        waiting[tenant] = mine + 1
        try:
            yield
        finally:
            if waiting[tenant] > 1:
                waiting[tenant] -= 1
            else:
                del waiting[tenant]
                if not waiting:
                    del self._waiting[pipeline]


def _too_many(message: str, pipeline: str, allowed: str, seconds: float) -> Refused:
    return Refused(429, message, where=pipeline, allowed=allowed, next_step="Ask again later",
                   headers=[(b"retry-after", str(max(1, math.ceil(seconds))).encode())])  # fmt: skip
