"""RowStore: what the online stores have in common. One row per entity, and no write goes back in time.

Feast's own stores keep one value per feature and let whoever writes last win (SQLite), or look before they write
(Redis). Here the row of an entity is written whole, by one statement that compares it with the stored one, so that
the end state does not depend on the order, the number or the fate of the writers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
from feast import Entity, FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig

from millrace.core.errors import SpecError
from millrace.feast_stores.online_stores import packing
from millrace.feast_stores.online_stores.packing import Packed
from millrace.online.stored import KEY_VERSION, Stored

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]

BATCH = 10_000
"""Rows that `write_table` packs and writes at a time; each batch is one transaction."""


class RowStore(OnlineStore):
    """Keeps, per feature view and entity key, the greatest row (see `Packed`): event time, created time.

    Any number of processes and threads may write; a reader of an entity sees one written row, whole. Raises
    Unavailable when the database does not answer, SpecError when a view was never applied.
    """

    @abstractmethod
    def upsert(self, config: RepoConfig, table: str, rows: Sequence[Packed]) -> None:
        """Write rows, each key once, all or none; a row of lower rank than the stored one changes nothing."""

    @abstractmethod
    def fetch(self, config: RepoConfig, table: str, view: str, keys: Sequence[bytes]) -> dict[bytes, Stored]:
        """The stored rows of these keys."""

    @abstractmethod
    def change(self, config: RepoConfig, create: Sequence[str], drop: Sequence[str]) -> None:
        """Make the tables of views, and remove those of views that are gone."""

    def write_table(self, config: RepoConfig, view: FeatureView, table: pa.Table, revision: int = 0) -> int:
        """Write the rows of a view's source and return how many; `revision` is that of the data (see `Packed`)."""
        name, table = table_of_view(config, view), table.combine_chunks()
        order = packing.key_order(table, view)
        for start in range(0, table.num_rows, BATCH):
            rows = packing.pack_table(table.take(order.slice(start, BATCH)), view, revision)
            self.upsert(config, name, packing.newest(rows))
        return table.num_rows

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows as Feast hands them over: from `push`, and from engines of its own."""
        rows = [packing.pack_row(key, values, event, created) for key, values, event, created in data]
        self.upsert(config, table_of_view(config, table), packing.newest(rows))
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
        keys = [serialize_entity_key(key, KEY_VERSION) for key in entity_keys]
        found = self.fetch(config, table_of_view(config, table), table.name, list(dict.fromkeys(keys)))
        wanted = None if requested_features is None else set(requested_features)
        answers: list[tuple[datetime | None, dict[str, Value] | None]] = []
        for key in keys:
            if key in found:
                event, features = found[key]
                answers.append((packing.moment_of(event), packing.unpack(features, wanted)))
            else:
                answers.append((None, None))
        return answers

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
        if config.entity_key_serialization_version != KEY_VERSION:
            raise SpecError(
                "this online store writes entity keys of one version",
                where="feature_store.yaml",
                given=f"entity_key_serialization_version: {config.entity_key_serialization_version}",
                allowed=[KEY_VERSION],
            )
        self.change(
            config,
            [table_of_view(config, view) for view in tables_to_keep],
            [table_of_view(config, view) for view in tables_to_delete],
        )

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Drop the tables of these views; what holds them stays, since another project may share it."""
        self.change(config, [], [table_of_view(config, view) for view in tables])


def table_of_view(config: RepoConfig, view: FeatureView) -> str:
    """Feast's name of a view's table: project and view, and the view's version where that is switched on."""
    return str(compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning))
