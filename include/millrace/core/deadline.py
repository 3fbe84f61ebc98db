"""Deadline: `asyncio.timeout` where every request has one, at a third of its cost; it cannot be moved or asked."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadline:
    """`with Deadline(seconds):` in a task. What is awaited inside is cancelled once they are over, and TimeoutError is
    raised instead."""

    __slots__ = ("_before", "_late", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds, self._late = seconds, False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a deadline is of a task")
        self._task, self._before = task, task.cancelling()
        self._timer = loop.call_later(max(self._seconds, 0), self._over)

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()
        # another may have cancelled the task, too: then that is what it hears of
        if self._late and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from err

    def _over(self) -> None:
        self._late = True
        self._task.cancel()
