"""Database: one serialised write transaction at a time, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from millrace.errors import Unavailable
from millrace.ledger.schema import ENTRIES, METADATA

LOCK = 0x6D696C6C72616365 >> 1
"""Key of PostgreSQL's advisory lock ('millrace' as a 63-bit number)."""


class Database:
    """Opens connections only when needed and keeps none: Airflow forks, and a connection must not cross a fork."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sqlite = url.startswith("sqlite")
        arguments: dict[str, Any] = {"timeout": 20} if self.sqlite else {}
        self.engine: Engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
        if self.sqlite:
            event.listen(self.engine, "connect", _on_connect)
        self._create()

    def _create(self) -> None:
        with self._guard(), self.engine.connect() as connection:
            if inspect(connection).has_table(ENTRIES.name):
                return
        with self.write() as connection:  # the lock serialises several first openers
            METADATA.create_all(connection, checkfirst=True)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the ledger's only write lock from its first statement; commits at the end."""
        with self._guard(), self.engine.connect() as connection:
            if self.sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for one consistent look."""
        with self._guard(), self.engine.connect() as connection:
            if self.sqlite:
                connection.exec_driver_sql("BEGIN")
            yield connection
            connection.rollback()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as err:
            place = self.engine.url.render_as_string(hide_password=True)
            raise Unavailable(f"the ledger's database does not answer: {err.orig}", where=place) from err
        except SQLAlchemyError:
            raise


def _on_connect(connection: Any, record: Any) -> None:
    # The driver's own BEGIN comes too late (at the first write); ours says at once that it will write.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
