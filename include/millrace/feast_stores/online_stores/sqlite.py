"""EntityRowOnlineStore on SQLite: the embedded online store."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import StrictStr

from millrace.core.errors import Unavailable
from millrace.feast_stores.online_stores.packing import Packed
from millrace.feast_stores.online_stores.rows import RowStore
from millrace.online.sqlite import missing_table, quoted, rows_of
from millrace.online.stored import Stored, never_applied

BUSY_S = 30.0
"""How long a writer waits for another before it gives up with Unavailable."""


class EntityRowOnlineStoreConfig(FeastConfigBaseModel):
    """`online_store` in feature_store.yaml."""

    type: Literal["millrace.feast_stores.online_stores.sqlite.EntityRowOnlineStore"] = (
        "millrace.feast_stores.online_stores.sqlite.EntityRowOnlineStore"
    )
    path: StrictStr
    """ File of the SQLite database; relative to the feature repository. """


class EntityRowOnlineStore(RowStore):
    """Online rows in one SQLite file, for one machine."""

    def __init__(self) -> None:
        self._local = threading.local()

    def upsert(self, config: RepoConfig, table: str, rows: Sequence[Packed]) -> None:
        """Write rows in one transaction."""
        t = quoted(table)
        with self._transaction(config) as connection:
            connection.execute(_create(table))
            connection.executemany(
                f"INSERT INTO {t} (entity_key, event_us, created_us, revision, features) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (entity_key) DO UPDATE SET event_us = excluded.event_us, "
                "created_us = excluded.created_us, revision = excluded.revision, features = excluded.features "
                "WHERE (excluded.event_us, excluded.created_us, excluded.revision, excluded.features) "
                f"> ({t}.event_us, {t}.created_us, {t}.revision, {t}.features)",
                rows,
            )

    def fetch(self, config: RepoConfig, table: str, view: str, keys: Sequence[bytes]) -> dict[bytes, Stored]:
        """The stored rows of these keys."""
        with self._errors(config, view):
            return rows_of(self._connect(config), table, keys)

    def change(self, config: RepoConfig, create: Sequence[str], drop: Sequence[str]) -> None:
        """Make and remove tables; the file stays."""
        with self._transaction(config) as connection:
            for table in create:
                connection.execute(_create(table))
            for table in drop:
                connection.execute(f"DROP TABLE IF EXISTS {quoted(table)}")

    @contextmanager
    def _transaction(self, config: RepoConfig) -> Iterator[sqlite3.Connection]:
        """All or nothing, and the write lock from the start: a lock taken later could not wait for another writer."""
        with self._errors(config, None):
            connection = self._connect(config)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _connect(self, config: RepoConfig) -> sqlite3.Connection:
        """One connection per process and thread: SQLite forbids carrying one over a fork."""
        path = Path(config.online_store.path)
        if not path.is_absolute() and config.repo_path:
            path = Path(config.repo_path) / path
        owner = (os.getpid(), str(path))
        if getattr(self._local, "owner", None) != owner:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            _use_wal(connection)
            self._local.owner, self._local.connection = owner, connection
        opened: sqlite3.Connection = self._local.connection
        return opened

    @contextmanager
    def _errors(self, config: RepoConfig, view: str | None) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as err:
            if view and missing_table(err):
                raise never_applied(config.online_store.path, view) from err
            raise Unavailable(f"the online store failed: {err}", where=config.online_store.path) from err


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work side by side. The switch itself does not honour the busy timeout."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _create(table: str) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(table)} (entity_key BLOB PRIMARY KEY, event_us INTEGER NOT NULL, "
        "created_us INTEGER NOT NULL, revision INTEGER NOT NULL, features BLOB NOT NULL) WITHOUT ROWID"
    )
