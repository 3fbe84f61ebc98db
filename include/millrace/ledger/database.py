"""Database: one write transaction of a pipeline at a time, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from millrace.core.errors import Conflict, LedgerError, Unavailable
from millrace.ledger import migration

WAIT = 20
"""Seconds that a writer waits for the one before it."""
LOCK = int.from_bytes(b"millrace") >> 1
"""Key of PostgreSQL's advisory lock: 'millrace' as a 63-bit number. Writers share it; a migration, and a writer of the
version before that had one chain for all, hold it alone."""
# A writer that is stopped in the middle must not hold up everybody for ever.
_PATIENCE = f"SET LOCAL lock_timeout = '{WAIT}s'; SET LOCAL idle_in_transaction_session_timeout = '{3 * WAIT}s'; "


class Database:
    """Connects for each transaction and keeps no connection: Airflow forks, and a connection must not cross a fork."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as err:
            raise LedgerError("not a database URL", allowed=["sqlite:////folder/ledger.db", "postgresql://.."]) from err
        self.place = parsed.render_as_string(hide_password=True)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if parsed.get_backend_name() not in ("sqlite", "postgresql") or (
            self.sqlite and parsed.database in (None, "", ":memory:")
        ):
            raise LedgerError("the ledger cannot be kept here", given=self.place,
                              allowed=["sqlite:////folder/ledger.db", "postgresql://.."])  # fmt: skip
        options: dict[str, Any] = (
            {"connect_args": {"timeout": WAIT}}
            if self.sqlite
            # Under a stricter level the snapshot would be taken before the lock, and miss what the last writer wrote.
            else {"connect_args": {"connect_timeout": 10}, "isolation_level": "READ COMMITTED"}
        )
        try:
            self._engine = create_engine(parsed, poolclass=NullPool, hide_parameters=True, **options)
        except ModuleNotFoundError as err:
            raise LedgerError(f"the driver for this database is not installed: {err.name}", given=self.place,
                              next_step="Install millrace with its extra 'airflow'") from err  # fmt: skip
        if self.sqlite:
            event.listen(self._engine, "connect", _own_begin)
        self._migrate()

    @contextmanager
    def write(self, pipeline: str) -> Iterator[Connection]:
        """A transaction that no other writer of the pipeline shares, from its first statement on; commits at the end.

        Writers of other pipelines go on beside it on PostgreSQL; SQLite has one writer at a time. Raises Unavailable
        when the database does not answer or the writer before does not end.
        """
        own = int.from_bytes(hashlib.sha256(f"millrace {pipeline}".encode()).digest()[:8]) >> 1
        with self._begun(f"SELECT pg_advisory_xact_lock_shared({LOCK}); SELECT pg_advisory_xact_lock({own})") as begun:
            yield begun

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent look; sees what was committed before it."""
        with self._guard(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN" if self.sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection

    def _migrate(self) -> None:
        with self._guard(), self._engine.connect() as connection:
            if migration.current(connection, self.place):
                return
            if self.sqlite:
                _set_wal(connection)
        with self._begun(f"SELECT pg_advisory_xact_lock({LOCK})") as connection:  # puts several starters in a row
            if not migration.current(connection, self.place):
                migration.upgrade(connection)

    @contextmanager
    def _begun(self, locks: str) -> Iterator[Connection]:
        with self._guard(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if self.sqlite else _PATIENCE + locks)
            yield connection
            connection.commit()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Leaving with an error closes the connection, which rolls back."""
        try:
            yield
        except (OperationalError, InterfaceError) as err:
            raise Unavailable(f"the ledger's database does not answer: {err.orig}", where=self.place) from err
        except IntegrityError as err:
            raise Conflict("another writer was faster", where=self.place) from err
        except DBAPIError as err:
            if err.connection_invalidated:  # psycopg2 calls a server that has gone while it was asked a plain error
                raise Unavailable(f"the ledger's database has gone: {err.orig}", where=self.place) from err
            raise LedgerError(f"the ledger's database refused: {err.orig}", where=self.place) from err


def _own_begin(connection: Any, record: Any) -> None:
    # The driver's own BEGIN comes at the first write, too late; ours says at once that it will write.
    connection.isolation_level = None


def _set_wal(connection: Connection) -> None:
    """Readers then never wait for a writer. Kept in the file; a new one is set once, by whoever comes first."""
    until = time.monotonic() + WAIT
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError:  # the busy timeout does not cover this change
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
