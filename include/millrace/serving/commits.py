"""Commits: what the coroutines of one event loop log, handed over together and answered together.

Each wake-up of the loop by another thread costs more than the record; those that are logged in one turn share one.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from millrace.serving.log import Log

_Waiting = list[tuple[bytes, asyncio.Future[None]]]


class Commits:
    """One event loop's way into a log."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._waiting: _Waiting = []

    async def append(self, record: bytes) -> None:
        """Write a record, and return once it counts as written. Raises Unavailable where it does not."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((record, done))
        if len(self._waiting) == 1:
            loop.call_soon(self._hand_over, loop)
        await done

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        some, self._waiting = self._waiting, []
        try:
            written = self.log.append_all([record for record, _ in some])
        except Exception as err:
            _tell(some, err)
            return
        if written.done():
            _tell(some, written.exception())
        else:
            written.add_done_callback(lambda future: _from_thread(loop, some, future))


def _from_thread(loop: asyncio.AbstractEventLoop, some: _Waiting, written: Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_tell, some, written.exception())
    except RuntimeError:  # the loop has ended, and with it whoever waited
        pass


def _tell(some: _Waiting, err: BaseException | None) -> None:
    for _, done in some:
        if done.done():  # whoever waited may have gone
            continue
        if err is None:
            done.set_result(None)
        else:
            done.set_exception(err)
