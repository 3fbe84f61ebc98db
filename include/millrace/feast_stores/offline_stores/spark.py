"""TableOfflineStore on Spark: the same feature views and the same rows as the DuckDB one, joined by a cluster.

In feature_store.yaml:

    offline_store:
      type: millrace.feast_stores.offline_stores.spark.TableOfflineStore
      store: ${MILLRACE_STORE_ROOT}
      master: ${MILLRACE_SPARK}

Only the point-in-time join runs on Spark; a partition's rows for the online store are still read by DuckDB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureView
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from pydantic import StrictStr

from millrace.core.errors import SpecError
from millrace.feast_stores.offline_stores import duckdb
from millrace.feast_stores.offline_stores.retrieval import DuckDBRetrievalJob
from millrace.feast_stores.offline_stores.spark_join import MOMENT, ROW, View, join
from millrace.feast_stores.tables import table_files, table_of
from millrace.online.stored import NO_ENTITY
from millrace.sql.duck import Limits
from millrace.sql.spark import session


class TableOfflineStoreConfig(duckdb.TableOfflineStoreConfig):
    """`offline_store` in feature_store.yaml."""

    type: Literal["millrace.feast_stores.offline_stores.spark.TableOfflineStore"] = (
        "millrace.feast_stores.offline_stores.spark.TableOfflineStore"  # type: ignore[assignment]
    )
    master: StrictStr = "local[*]"
    """ Spark's master URL; empty for the one of spark-submit or spark-defaults.conf. """


class TableOfflineStore(duckdb.TableOfflineStore):
    """Point-in-time joins on Spark, with the semantics of the DuckDB store."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """Features of every entity row at its moment, in the rows' order, duplicates too; null where none is known.

        Raises SpecError for entity rows that are no DataFrame, and for data that Spark cannot read.
        """
        if not isinstance(entity_df, pd.DataFrame):
            raise SpecError(
                "on Spark entity rows are a DataFrame", given=type(entity_df).__name__,
                next_step="Read them first, or use millrace.feast_stores.offline_stores.duckdb.TableOfflineStore",
            )  # fmt: skip
        event = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        asked = entity_rows(entity_df, event)
        columns = [str(column) for column in entity_df.columns]
        span = pc.min_max(asked[MOMENT]).as_py()
        known_only = filter_by_created_timestamp
        views = [_view(config, view, feature_refs, full_feature_names) for view in feature_views]
        _check(views, columns)

        def rows() -> pa.Table:
            return join(session(config.offline_store.master), views, asked, columns, known_only=known_only)

        return SparkRetrievalJob(
            rows,
            Path(config.repo_path or "."),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[column for column in columns if column != event],
                min_event_timestamp=span["min"],
                max_event_timestamp=span["max"],
            ),
            full_feature_names=full_feature_names,
            on_demand=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
        )


class SparkRetrievalJob(DuckDBRetrievalJob):
    """Rows that Spark makes when they are asked for."""

    def __init__(self, rows: Callable[[], pa.Table], repo: Path, **other: Any) -> None:
        super().__init__(lambda connection: "", Limits(), repo, **other)
        self._rows = rows

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._rows().combine_chunks()

    def _write(self, path: Path) -> None:
        pq.write_table(self.to_arrow(), path)


def entity_rows(frame: pd.DataFrame, event: str) -> pa.Table:
    """The entity rows with their number, and their moment in whole microseconds of UTC, rounded down."""
    rows = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    given = rows[event]
    if not pa.types.is_timestamp(given.type):
        given = pa.chunked_array([pa.array(pd.to_datetime(frame[event], utc=True))])
    zoned = given if given.type.tz is not None else pc.assume_timezone(given, "UTC")
    utc = zoned.cast(pa.timestamp(given.type.unit, "UTC"))
    moment = pc.floor_temporal(utc, unit="microsecond").cast(pa.timestamp("us", "UTC"))
    rows = rows.set_column(rows.column_names.index(event), event, utc)
    return rows.append_column(MOMENT, moment).append_column(ROW, pa.array(range(rows.num_rows), pa.int64()))


def _view(config: RepoConfig, view: FeatureView, refs: Sequence[str], full_names: bool) -> View:
    source = view.batch_source
    if not isinstance(source, FileSource):
        raise SpecError("this offline store reads files and Tables", where=view.name, given=type(source).__name__)
    files = _files(config, source)
    names, mapping = pq.read_schema(files[0]).names, {new: old for old, new in source.field_mapping.items()}

    def column(wanted: str) -> str:
        for candidate in (mapping.get(wanted, wanted), wanted):
            if candidate in names:
                return candidate
        raise SpecError("the data lack a column", where=source.name, given=wanted, allowed=sorted(names))

    projection = view.projection
    prefix = f"{projection.name_alias or view.name}__" if full_names else ""
    asked = [ref.split(":")[1] for ref in refs if ref.startswith(f"{projection.name_to_use()}:")]
    keys = [field.name for field in view.entity_columns if field.name != NO_ENTITY]
    created = source.created_timestamp_column
    return View(
        name=view.name,
        files=files,
        keys={projection.join_key_map.get(key, key): column(key) for key in keys},
        event=column(source.timestamp_field or ""),
        created=column(created) if created else None,
        features={prefix + feature: column(feature) for feature in asked},
        ttl=view.ttl or None,
    )


def _files(config: RepoConfig, source: FileSource) -> list[str]:
    """Parquet files that every executor can read: on a cluster, a store on a file system that all of them share."""
    store, table = config.offline_store, table_of(source.path)
    if not store.master.startswith("local") and "://" in store.store:
        raise SpecError(
            "on a cluster this offline store reads a folder that all its machines share", given=store.store,
            next_step="Use Feast's own Spark store (docs/scale.md), or a master local[..]",
        )  # fmt: skip
    if table is not None:
        return [str(path) for path in table_files(store.store, table, store.pinned)]
    path = Path(FileSource.get_uri_for_file_path(Path(config.repo_path or "."), source.path.removeprefix("file://")))
    found = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if "://" in source.path or not found or not found[0].is_file():
        raise SpecError("no Parquet file or folder here", where=source.name, given=source.path)
    return [str(file) for file in found]


def _check(views: Sequence[View], columns: Sequence[str]) -> None:
    for view in views:
        if missing := sorted(set(view.keys) - set(columns)):
            raise SpecError(
                "the entity rows lack a join key", where=view.name, given=", ".join(missing), allowed=columns
            )
    made = [out for view in views for out in view.features]
    if twice := sorted({out for out in made if out in columns or made.count(out) > 1}):
        raise SpecError(
            "a feature has the name of another column of the result", given=", ".join(twice),
            next_step="Ask for full_feature_names, or rename the column of the entity rows",
        )  # fmt: skip
