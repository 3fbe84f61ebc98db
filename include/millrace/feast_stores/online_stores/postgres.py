"""EntityRowOnlineStore on PostgreSQL: rows go in by COPY and one upsert."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import psycopg
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from psycopg import sql
from pydantic import StrictStr

from millrace.core.errors import Unavailable
from millrace.feast_stores.online_stores.packing import Packed
from millrace.feast_stores.online_stores.rows import RowStore
from millrace.online.postgres import identifier, place_of, select
from millrace.online.stored import Stored, never_applied

CONNECT_S = 10
_COLUMNS = sql.SQL("entity_key, event_us, created_us, revision, features")
_TYPES = ("bytea", "int8", "int8", "int8", "bytea")


class _NoTable(Exception):
    """The view's table is not there."""


class EntityRowOnlineStoreConfig(FeastConfigBaseModel):
    """`online_store` in feature_store.yaml."""

    type: Literal["millrace.feast_stores.online_stores.postgres.EntityRowOnlineStore"] = (
        "millrace.feast_stores.online_stores.postgres.EntityRowOnlineStore"
    )
    path: StrictStr
    """ libpq connection string, such as postgresql://feast@db/online?passfile=/run/secrets/pgpass. """


class EntityRowOnlineStore(RowStore):
    """Online rows in PostgreSQL, one table per feature view."""

    def __init__(self) -> None:
        self._local = threading.local()

    def upsert(self, config: RepoConfig, table: str, rows: Sequence[Packed]) -> None:
        """Write rows in one transaction, and make the table where it is not there yet."""
        try:
            self._upsert(config, table, rows)
        except _NoTable:
            self.change(config, [table], [])
            self._upsert(config, table, rows)

    def _upsert(self, config: RepoConfig, table: str, rows: Sequence[Packed]) -> None:
        """The rows come in the order of their keys, so that writers never deadlock."""
        with self._transaction(config) as cursor:
            cursor.execute(
                "CREATE TEMP TABLE incoming (entity_key bytea, event_us int8, created_us int8, revision int8, "
                "features bytea) ON COMMIT DROP"
            )
            with cursor.copy(sql.SQL("COPY incoming ({}) FROM STDIN (FORMAT BINARY)").format(_COLUMNS)) as copy:
                copy.set_types(_TYPES)
                for row in rows:
                    copy.write_row(row)
            cursor.execute(
                sql.SQL(
                    "INSERT INTO {table} AS held ({columns}) SELECT {columns} FROM incoming ORDER BY entity_key "
                    "ON CONFLICT (entity_key) DO UPDATE SET event_us = excluded.event_us, "
                    "created_us = excluded.created_us, revision = excluded.revision, features = excluded.features "
                    "WHERE (excluded.event_us, excluded.created_us, excluded.revision, excluded.features) "
                    "> (held.event_us, held.created_us, held.revision, held.features)"
                ).format(table=identifier(table), columns=_COLUMNS)
            )

    def fetch(self, config: RepoConfig, table: str, view: str, keys: Sequence[bytes]) -> dict[bytes, Stored]:
        """The stored rows of these keys."""
        try:
            with self._transaction(config) as cursor:
                cursor.execute(select((table,)), (list(keys),), binary=True)
                return {bytes(key): (event, bytes(features)) for _, key, event, features in cursor}
        except _NoTable as err:
            raise never_applied(place_of(config.online_store.path), view) from err

    def change(self, config: RepoConfig, create: Sequence[str], drop: Sequence[str]) -> None:
        """Make and remove tables, one process at a time: IF NOT EXISTS alone loses that race."""
        with self._transaction(config) as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('millrace online store'))")
            for table in create:
                cursor.execute(_create(table))
            for table in drop:
                cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(identifier(table)))

    @contextmanager
    def _transaction(self, config: RepoConfig) -> Iterator[psycopg.Cursor]:
        try:
            connection = self._connect(config)
            with connection.transaction(), connection.cursor() as cursor:
                yield cursor
        except psycopg.errors.UndefinedTable as err:
            raise _NoTable from err
        except psycopg.Error as err:
            self._local.owner = None  # a broken connection is not used again
            raise Unavailable(
                f"the online store failed ({type(err).__name__})", where=place_of(config.online_store.path)
            ) from err

    def _connect(self, config: RepoConfig) -> psycopg.Connection:
        """One connection per process and thread, opened again when the server closed it."""
        owner = (os.getpid(), config.online_store.path)
        if getattr(self._local, "owner", None) != owner or self._local.connection.closed:
            self._local.connection = psycopg.connect(
                config.online_store.path, autocommit=True, connect_timeout=CONNECT_S
            )
            self._local.owner = owner
        connection: psycopg.Connection = self._local.connection
        return connection


def _create(table: str) -> sql.Composed:
    return sql.SQL(
        "CREATE TABLE IF NOT EXISTS {} (entity_key bytea PRIMARY KEY, event_us int8 NOT NULL, "
        "created_us int8 NOT NULL, revision int8 NOT NULL, features bytea NOT NULL)"
    ).format(identifier(table))
