"""EntityRowOnlineStore: Feast's online store on SQLite with one packed row per entity that never goes back in time.

Feast's own SQLite store keeps one row per feature and lets whoever writes last win. Here the whole row of an entity
is one protobuf `feast.types.Map`, and the upsert itself compares (event time, created time), so that the end state
does not depend on the order, the number or the fate of the writers.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from feast import Entity, FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Map, Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import StrictStr

from millrace.errors import DataError, SpecError, Unavailable

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]

BUSY_S = 30.0
"""How long a writer waits for another before it gives up with Unavailable."""
NO_CREATED = -(2**63)
"""Created time of a row that has none: older than every real one."""
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_KEYS_PER_QUERY = 500


class EntityRowOnlineStoreConfig(FeastConfigBaseModel):
    """`online_store` in feature_store.yaml."""

    type: Literal["millrace.feast_stores.sqlite.EntityRowOnlineStore"] = (
        "millrace.feast_stores.sqlite.EntityRowOnlineStore"
    )
    path: StrictStr
    """ File of the SQLite database; relative to the feature repository. """


class EntityRowOnlineStore(OnlineStore):
    """Keeps, per feature view and entity key, the row with the latest event time, then the latest created time.

    Of two writes with equal times the later one stays, so that a correction can be written. Times are kept in
    microseconds. Any number of processes and threads may write. Raises Unavailable when the database stays locked,
    SpecError when a view was never applied.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Upsert rows in one transaction; a row older than the stored one changes nothing."""
        name = _table(config, table)
        version = config.entity_key_serialization_version
        packed = [
            (serialize_entity_key(key, version), _microseconds(event), _created(created), _pack(values))
            for key, values, event, created in data
        ]
        with self._transaction(config) as connection:
            connection.execute(_create(name))
            connection.executemany(
                f"INSERT INTO {name} (entity_key, event_us, created_us, features) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (entity_key) DO UPDATE SET event_us = excluded.event_us, "
                "created_us = excluded.created_us, features = excluded.features "
                f"WHERE (excluded.event_us, excluded.created_us) >= ({name}.event_us, {name}.created_us)",
                packed,
            )
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Return (event time in UTC, features) per key, in order; (None, None) for an unknown entity."""
        name = _table(config, table)
        keys = [serialize_entity_key(key, config.entity_key_serialization_version) for key in entity_keys]
        found: dict[bytes, tuple[int, bytes]] = {}
        with self._errors(config, table.name):
            connection = self._connect(config)
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                some = keys[start : start + _KEYS_PER_QUERY]
                query = f"SELECT entity_key, event_us, features FROM {name} WHERE entity_key IN ({_marks(some)})"
                found.update((key, (event, blob)) for key, event, blob in connection.execute(query, some))
        wanted = None if requested_features is None else set(requested_features)
        return [_answer(found.get(key), wanted) for key in keys]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Create the tables of views to keep and drop those of views to delete."""
        with self._transaction(config) as connection:
            for view in tables_to_keep:
                connection.execute(_create(_table(config, view)))
            for view in tables_to_delete:
                connection.execute(f"DROP TABLE IF EXISTS {_table(config, view)}")

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Drop the tables of these views; the file stays, since another project may share it."""
        self.update(config, tables, [], [], [], partial=True)

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
        found: sqlite3.Connection = self._local.connection
        return found

    @contextmanager
    def _errors(self, config: RepoConfig, view: str | None) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as err:
            if view and "no such table" in str(err):
                raise SpecError(
                    "the online store has no table for this feature view",
                    where=config.online_store.path,
                    given=view,
                    next_step="Run 'millrace apply', then materialize a partition",
                ) from err
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


def _table(config: RepoConfig, view: FeatureView) -> str:
    name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    return '"' + name.replace('"', '""') + '"'


def _create(name: str) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS {name} (entity_key BLOB PRIMARY KEY, event_us INTEGER NOT NULL, "
        "created_us INTEGER NOT NULL, features BLOB NOT NULL) WITHOUT ROWID"
    )


def _marks(values: list[bytes]) -> str:
    return ",".join("?" * len(values))


def _pack(values: dict[str, Value]) -> bytes:
    row = Map()
    for name, value in values.items():
        row.val[name].CopyFrom(value)
    return row.SerializeToString()


def _answer(
    stored: tuple[int, bytes] | None, wanted: set[str] | None
) -> tuple[datetime | None, dict[str, Value] | None]:
    if stored is None:
        return None, None
    event, blob = stored
    row = Map.FromString(blob)
    values = {name: value for name, value in row.val.items() if wanted is None or name in wanted}
    return _EPOCH.replace(tzinfo=UTC) + event * _MICROSECOND, values


def _microseconds(moment: datetime) -> int:
    """Microseconds since 1970; a moment without a zone is UTC, as Feast has it. Raises DataError for no moment."""
    if moment is None or moment != moment:  # NaT is not equal to itself
        raise DataError("a row without an event time cannot be written to the online store")
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH) // _MICROSECOND


def _created(moment: datetime | None) -> int:
    return NO_CREATED if moment is None or moment != moment else _microseconds(moment)
