"""Rows in PostgreSQL: one table per feature view."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Mapping, Sequence
from functools import lru_cache

import psycopg
from psycopg import sql

from millrace.core.errors import SpecError
from millrace.online.reader import BatchedReader, Found
from millrace.online.stored import never_applied

_LONGEST_NAME = 63


class PostgreSQLReader(BatchedReader):
    """Reads the rows of one view or several by one statement, which the server keeps prepared."""

    def __init__(self, address: str, timeout_s: float, password_file: str | None = None) -> None:
        super().__init__(address, timeout_s, password_file)
        self._idle: list[psycopg.AsyncConnection] = []

    @property
    def place(self) -> str:
        """Host and database."""
        return place_of(self.address)

    async def ask(self, keys: Mapping[str, Sequence[bytes]]) -> dict[str, Found]:
        """The stored rows of keys (table -> keys)."""
        if not keys:
            return {}
        try:
            while self._idle:
                connection = self._idle.pop()
                try:
                    return await self._ask(connection, keys)
                except psycopg.OperationalError:
                    pass  # a restart of the server has closed it, which is found only now
            return await self._ask(await self._connect(), keys)
        except psycopg.errors.UndefinedTable as err:
            raise never_applied(self.place, ", ".join(keys)) from err
        except TimeoutError:
            raise self.late() from None
        except psycopg.Error as err:
            raise self.failed(err) from err

    async def close(self) -> None:
        """End the calls and close the connections."""
        await super().close()
        while self._idle:
            await self._idle.pop().close()

    async def _ask(self, connection: psycopg.AsyncConnection, keys: Mapping[str, Sequence[bytes]]) -> dict[str, Found]:
        tables = sorted(keys)
        found: dict[str, Found] = {table: {} for table in tables}
        late = asyncio.get_running_loop().call_later(self.timeout_s, _hang_up, connection)
        try:
            cursor = connection.cursor(binary=True)
            await cursor.execute(select(tuple(tables)), [list(keys[table]) for table in tables])
            for number, key, event, features in await cursor.fetchall():
                found[tables[number]][bytes(key)] = (event, bytes(features))
        except psycopg.errors.UndefinedTable:
            self._idle.append(connection)
            raise
        except BaseException:
            await connection.close()
            if late.when() <= asyncio.get_running_loop().time():
                raise TimeoutError from None
            raise
        finally:
            late.cancel()
        self._idle.append(connection)
        return found

    async def _connect(self) -> psycopg.AsyncConnection:
        async with asyncio.timeout(self.timeout_s):
            return await psycopg.AsyncConnection.connect(self.address, autocommit=True)


def _hang_up(connection: psycopg.AsyncConnection) -> None:
    """End a call that takes too long: cancelled, it would ask the server, which may not answer, to end it."""
    with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
        same.shutdown(socket.SHUT_RDWR)


def place_of(address: str) -> str:
    """Host and database of an address, without what may be secret. Raises SpecError for one that libpq cannot read."""
    try:
        known = psycopg.conninfo.conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        raise SpecError("not an address of PostgreSQL", allowed="postgresql://host/database") from None
    return f"postgresql://{known.get('host', '')}/{known.get('dbname', '')}"


def identifier(table: str) -> sql.Identifier:
    """A table's name in SQL. PostgreSQL cuts longer names in silence, and two views would share a table."""
    if len(table.encode()) > _LONGEST_NAME:
        table = f"{table.encode()[:46].decode(errors='ignore')}_{hashlib.sha256(table.encode()).hexdigest()[:16]}"
    return sql.Identifier(table)


@lru_cache(maxsize=1_000)
def select(tables: tuple[str, ...]) -> sql.Composed:
    """Number of the table, key, event time and features of keys, which each table has a parameter for."""
    one = "SELECT {}, entity_key, event_us, features FROM {} WHERE entity_key = ANY(%s)"
    parts = [sql.SQL(one).format(sql.Literal(n), identifier(table)) for n, table in enumerate(tables)]
    return sql.SQL(" UNION ALL ").join(parts)
