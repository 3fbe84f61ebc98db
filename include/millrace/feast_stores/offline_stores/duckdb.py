"""TableOfflineStore: a Feast offline store on DuckDB for Millrace's Tables and for Parquet files.

A FileSource with the path `millrace://<pipeline>/<dataset>` reads the Parquet files of the Snapshots that the Table
points at now, or of those that `pinned` names. Any other path is a Parquet file, a folder, a glob, or on `s3://`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from feast import FeatureView
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import Field, StrictStr

from millrace.feast_stores.offline_stores import asof, files, historical
from millrace.feast_stores.offline_stores.retrieval import DuckDBRetrievalJob
from millrace.feast_stores.offline_stores.scan import Tables, scan
from millrace.feast_stores.tables import Pin, table_files, table_of
from millrace.sql.duck import Limits


class TableOfflineStoreConfig(FeastConfigBaseModel):
    """`offline_store` in feature_store.yaml."""

    type: Literal["millrace.feast_stores.offline_stores.duckdb.TableOfflineStore"] = (
        "millrace.feast_stores.offline_stores.duckdb.TableOfflineStore"
    )
    store: StrictStr
    """ Root of the object store: a folder or s3://bucket/prefix. """
    pinned: dict[str, list[Pin]] | None = None
    """ Table -> the Snapshots to read, whatever the Table says; Tables not named here cannot be read then. """
    threads: int | None = Field(default=None, ge=1)
    """ Threads of a query; all cores when left out. The rows do not depend on it. """
    memory_limit: StrictStr | None = None
    """ Most memory of a query, such as 8GB; it spills to disk beyond. DuckDB's own choice when left out. """
    temp_directory: StrictStr | None = None
    """ Where a query spills; the system's temporary folder when left out. """


class TableOfflineStore(OfflineStore):
    """Point-in-time joins that lose no entity row and see nothing before it was known (docs/adr/0008)."""

    supports_filter_by_created_timestamp = True

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

        Entity rows come as a DataFrame, as SQL over the registry's sources by name, or, left out, as the rows of the
        views between two dates. With `filter_by_created_timestamp` a value counts from its created time on.
        """
        question = historical.Question(
            config=config,
            views=feature_views,
            refs=feature_refs,
            registry=registry,
            project=project,
            full_names=full_feature_names,
            known_only=filter_by_created_timestamp,
            tables=_tables(config),
            limits=_limits(config),
        )
        return historical.retrieve(question, entity_df, _aware(start_date), _aware(end_date))

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The latest row per entity with an event time from `start_date` to `end_date`, both included."""
        columns = _columns(join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column)

        def prepare(connection: Any) -> str:
            held, where = _window(connection, config, data_source, timestamp_field, start_date, end_date)
            return asof.latest(
                connection, held, join_key_columns, timestamp_field, created_timestamp_column, columns, where
            )

        return _job(config, prepare)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows with an event time from `start_date` to `end_date`, both included, in the order of the files."""
        columns = _columns(join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column)

        def prepare(connection: Any) -> str:
            held, where = _window(connection, config, data_source, timestamp_field, start_date, end_date)
            return f"SELECT {', '.join(map(held.value, columns))} FROM {held.sql} AS s WHERE {where}"

        return _job(config, prepare)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append rows to the Parquet file or folder of a view. Raises SpecError for a Table or other columns."""
        files.append(config, feature_view, table)
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Add served features to the folder of the logging destination, as further Parquet files."""
        files.log(config, data, logging_config)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Columns of a source as Arrow types, for feature views without a schema."""
        table = table_of(str(getattr(data_source, "path", "")))
        if table is None:
            return super().get_table_column_names_and_types_from_data_source(config, data_source)
        import pyarrow.parquet as pq

        held = _tables(config)
        schema = pq.read_schema(table_files(held.store, table, held.pinned)[-1])
        return [(field.name, str(field.type)) for field in schema]


def _tables(config: RepoConfig) -> Tables:
    return Tables(config.offline_store.store, config.offline_store.pinned)


def _limits(config: RepoConfig) -> Limits:
    given = config.offline_store
    return Limits(given.threads, given.memory_limit, given.temp_directory)


def _job(config: RepoConfig, prepare: Callable[[Any], str]) -> RetrievalJob:
    return DuckDBRetrievalJob(prepare, _limits(config), Path(config.repo_path or "."))


def _columns(keys: list[str], features: list[str], event: str, created: str | None) -> list[str]:
    return list(dict.fromkeys([*keys, *features, event, *([created] if created else [])]))


def _window(
    connection: Any, config: RepoConfig, source: DataSource, event: str, start: datetime | None, end: datetime | None
) -> tuple[Any, str]:
    """The source's rows and the condition of a window of event time."""
    window = (_aware(start), _aware(end))
    held = scan(connection, source, Path(config.repo_path or "."), _tables(config), window)
    for column in [event]:
        held.column(column, {})
    bounds = [
        f"{held.moment(event)} {sign} make_timestamptz({historical.microseconds(moment)})"
        for sign, moment in ((">=", window[0]), ("<=", window[1]))
        if moment is not None
    ]
    return held, " AND ".join(bounds) or "true"


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
