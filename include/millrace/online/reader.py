"""Readers: rows of entities from an online store, on one event loop; what is asked in one turn goes in one call.

A call to a server costs the same for one entity as for thirty. Requests that are read in one turn of the loop ask in
that turn and are answered together; one alone is asked for at once. See `serving.batching`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence

from millrace.core.deadline import Deadline
from millrace.core.errors import MillraceError, SpecError, Unavailable
from millrace.core.imports import named
from millrace.core.online import store_at
from millrace.online.stored import Stored

Asked = Sequence[tuple[str, Sequence[bytes]]]
""" (table, keys) .. """
Found = dict[bytes, Stored]
Batch = list[tuple[Asked, asyncio.Future[list[Found]]]]

CALLS = 4
"""Calls to a server at the same time, each over a connection of its own; what is asked meanwhile waits for the next."""
LARGEST = 2_000
"""Keys in one call from which on no further request joins it: it holds up the server for a few milliseconds."""


class Reader(ABC):
    """Reads one online store for the coroutines of one event loop.

    Raises Unavailable where the store fails or does not answer within `timeout_s` seconds, SpecError for a table that
    is not there (Redis does not tell it from an empty one). The next call connects again. No message holds a secret.
    """

    def __init__(self, address: str, timeout_s: float, password_file: str | None = None) -> None:
        if not timeout_s > 0:
            raise SpecError("a timeout is more than nothing", given=timeout_s, allowed="seconds above 0")
        self.address, self.timeout_s, self.password_file = address, timeout_s, password_file

    async def fetch(self, table: str, keys: Sequence[bytes]) -> Found:
        """The stored rows of these keys; a key without one is left out."""
        return (await self.fetch_all([(table, keys)]))[0]

    @abstractmethod
    async def fetch_all(self, asked: Asked) -> list[Found]:
        """The stored rows of keys of several tables, one answer for each, by one call."""

    @abstractmethod
    async def close(self) -> None:
        """Let the connections go."""


def open_reader(address: str, *, timeout_s: float, password_file: str | None = None) -> Reader:
    """The reader of the store at an address (see `core.online`); it connects when it is first asked.

    `password_file` is for Redis alone; without it, REDISCLI_AUTH. PostgreSQL takes a passfile as libpq does. Raises
    SpecError for an address of another kind.
    """
    reader: Reader = named(store_at(address).reader)(address, timeout_s, password_file)
    return reader


class BatchedReader(Reader):
    """What the readers of servers have in common: several requests become one call of `ask`."""

    def __init__(self, address: str, timeout_s: float, password_file: str | None = None) -> None:
        super().__init__(address, timeout_s, password_file)
        self._waiting: deque[tuple[Asked, asyncio.Future[list[Found]]]] = deque()
        self._begun = False
        self._calls: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def ask(self, keys: Mapping[str, Sequence[bytes]]) -> Mapping[str, Found]:
        """The stored rows of keys (table -> keys) by one call, within the timeout. Errors as of `fetch`."""

    async def fetch_all(self, asked: Asked) -> list[Found]:
        """The stored rows of keys of several tables; asked for together with whatever else is asked in this turn."""
        answer: asyncio.Future[list[Found]] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        self._begin()
        try:
            with Deadline(self.timeout_s):
                return await answer
        except TimeoutError:
            raise self.late() from None

    async def close(self) -> None:
        """End the calls that are under way; who waits for one gets Unavailable."""
        waiting, calls = list(self._waiting), list(self._calls)
        self._waiting.clear()
        self._give(waiting, self.closed())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        self._begun = False  # by a call that was ended before it had begun

    @property
    @abstractmethod
    def place(self) -> str:
        """The address as a message may show it."""

    def late(self) -> Unavailable:
        """The error of a store that does not answer in time."""
        return Unavailable(f"the online store did not answer within {self.timeout_s:g} s", where=self.place)

    def failed(self, err: Exception) -> Unavailable:
        """The error of a store that failed; its own message may say what is nobody's business."""
        return Unavailable(f"the online store failed ({type(err).__name__})", where=self.place)

    def closed(self) -> Unavailable:
        """The error of a reader that was closed meanwhile."""
        return Unavailable("the reader of the online store was closed", where=self.place)

    def _begin(self) -> None:
        """Begin a call in the next turn; with as many under way as there may be, the next to end begins it."""
        if self._waiting and not self._begun and len(self._calls) < CALLS:
            self._begun = True
            call = asyncio.get_running_loop().create_task(self._call())
            self._calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._begin()

    async def _call(self) -> None:
        """Ask for what waits now; what is too much gets a call of its own."""
        self._begun = False
        batch: Batch = []
        count = 0
        while self._waiting and count < LARGEST:
            asked, answer = self._waiting.popleft()
            if not answer.done():  # whoever asked may have gone
                batch.append((asked, answer))
                count += sum(len(keys) for _, keys in asked)
        self._begin()
        if batch:
            await self._answer(batch)

    async def _answer(self, batch: Batch) -> None:
        together: dict[str, dict[bytes, None]] = {}
        for asked, _ in batch:
            for table, keys in asked:
                together.setdefault(table, {}).update(dict.fromkeys(keys))
        try:
            found = await self.ask({table: list(keys) for table, keys in together.items() if keys})
        except MillraceError as err:
            alike: dict[tuple[str, ...], Batch] = {}
            for each in batch:
                alike.setdefault(tuple(table for table, _ in each[0]), []).append(each)
            if isinstance(err, SpecError) and len(alike) > 1:  # a table that one asks for is no other's fault
                for some in alike.values():
                    await self._answer(some)
            else:
                self._give(batch, err)
        except BaseException as err:
            self._give(batch, self.failed(err) if isinstance(err, Exception) else self.closed())
            if not isinstance(err, Exception):
                raise
        else:
            for asked, answer in batch:
                if not answer.done():
                    answer.set_result([_only(keys, found.get(table, {})) for table, keys in asked])

    @staticmethod
    def _give(batch: Batch, err: MillraceError) -> None:
        for _, answer in batch:
            if not answer.done():
                answer.set_exception(err)


def _only(keys: Sequence[bytes], found: Found) -> Found:
    return {key: found[key] for key in keys if key in found}
