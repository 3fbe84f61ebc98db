"""Rows in one SQLite file: read on the event loop itself, since a row takes less than handing it to a thread would."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from millrace.core.errors import Unavailable
from millrace.online.reader import Asked, Found, Reader
from millrace.online.stored import Stored, never_applied

_KEYS_PER_QUERY = 500


class SQLiteReader(Reader):
    """Reads the file through a connection that cannot write. A file that took the place of another is opened anew.

    What is read in one turn of the loop is one transaction: to lock the file takes longer than to read a row.
    """

    _connection: sqlite3.Connection | None = None
    _opened: tuple[int, int, int] | None = None
    _turn: asyncio.AbstractEventLoop | None = None
    """ The loop in whose present turn a transaction has begun. """

    async def fetch_all(self, asked: Asked) -> list[Found]:
        """The stored rows of keys of several tables. Nothing waits, but for a writer that locks readers out."""
        return [self._fetch(table, keys) for table, keys in asked]

    async def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._opened = self._turn = None

    def _fetch(self, table: str, keys: Sequence[bytes]) -> Found:
        try:
            return rows_of(self._connect(), table, keys)
        except (sqlite3.Error, OSError) as err:
            if missing_table(err):
                raise never_applied(self.address, table) from err
            self._opened = self._turn = None
            raise Unavailable(f"the online store failed: {err}", where=self.address) from err

    def _connect(self) -> sqlite3.Connection:
        """One connection per process, as SQLite forbids carrying one over a fork, and per file of this name."""
        held = os.stat(self.address)
        opened = (os.getpid(), held.st_dev, held.st_ino)
        if self._connection is None or self._opened != opened:
            address = f"{Path(self.address).resolve().as_uri()}?mode=ro"
            self._connection = sqlite3.connect(address, uri=True, timeout=self.timeout_s, isolation_level=None)
            self._opened, self._turn = opened, None
        loop = asyncio.get_running_loop()
        if self._turn is not loop:
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN")
            self._turn = loop
            loop.call_soon(self._end)
        return self._connection

    def _end(self) -> None:
        self._turn = None
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")  # nothing was written


def quoted(table: str) -> str:
    """A table's name in SQL."""
    return '"' + table.replace('"', '""') + '"'


def missing_table(err: Exception) -> bool:
    """Whether an error says that a table is not there."""
    return isinstance(err, sqlite3.OperationalError) and "no such table" in str(err)


def rows_of(connection: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> dict[bytes, Stored]:
    """The stored rows of these keys."""
    found: dict[bytes, Stored] = {}
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = keys[start : start + _KEYS_PER_QUERY]
        for key, event, features in connection.execute(_query(table, len(some)), some):
            found[key] = (event, features)
    return found


@lru_cache(maxsize=1_000)
def _query(table: str, keys: int) -> str:
    marks = ",".join("?" * keys)
    return f"SELECT entity_key, event_us, features FROM {quoted(table)} WHERE entity_key IN ({marks})"
