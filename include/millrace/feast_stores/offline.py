"""TableOfflineStore: Feast's DuckDB offline store over Millrace's Tables.

A FileSource with the path `millrace://<pipeline>/<dataset>` reads the Parquet files of the Snapshots that the Table
points at now, or of those that `pinned` names. Any other path is read as Feast reads it.
"""

from __future__ import annotations

import atexit
import copy
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

import ibis
import pandas as pd
from feast import FeatureView
from feast.data_source import DataSource
from feast.infra.offline_stores import duckdb as feast_duckdb
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.ibis import (
    get_historical_features_ibis,
    pull_all_from_table_or_query_ibis,
    pull_latest_from_table_or_query_ibis,
)
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig
from ibis.util import gen_name
from pydantic import StrictStr

from millrace.errors import SpecError
from millrace.feast_stores.tables import Pin, Window, table_files, table_of

_FILE, _LINE = "__millrace_file", "__millrace_line"


class TableOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """`offline_store` in feature_store.yaml."""

    type: Literal["millrace.feast_stores.offline.TableOfflineStore"] = "millrace.feast_stores.offline.TableOfflineStore"
    store: StrictStr
    """ Root of the object store: a folder or s3://bucket/prefix. """
    pinned: dict[str, list[Pin]] | None = None
    """ Table -> the Snapshots to read, whatever the Table says; Tables not named here cannot be read then. """


class TableOfflineStore(DuckDBOfflineStore):
    """Point-in-time reads over Tables; writing to a Table is what the `publish` job does, and nothing here.

    Of rows with equal keys and times the one of the later partition counts, then the later one in its file.
    """

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """As Feast's, reading no partition that begins after the last entity row or expired before the first."""
        if not isinstance(entity_df, pd.DataFrame):
            raise SpecError("entity rows must be a pandas DataFrame", given=type(entity_df).__name__)
        feast_duckdb._validate_lance_feature_views(feature_views)
        exact = [_with_exact_ttl(view) for view in feature_views]
        return get_historical_features_ibis(
            config=config,
            feature_views=exact,
            feature_refs=feature_refs,
            entity_df=entity_df,
            registry=registry,
            project=project,
            full_feature_names=full_feature_names,
            data_source_reader=_at_rows(
                config, dict(zip(map(_source_id, exact), feature_views, strict=True)), entity_df
            ),
            data_source_writer=feast_duckdb._write_data_source,
            staging_location=config.offline_store.staging_location,
            staging_location_endpoint_override=config.offline_store.staging_location_endpoint_override,
            filter_by_created_timestamp=filter_by_created_timestamp,
        )

    @staticmethod
    def pull_latest_from_table_or_query(config: RepoConfig, **kwargs: Any) -> RetrievalJob:
        """As Feast's: the latest row per entity in a window of event time."""
        return pull_latest_from_table_or_query_ibis(config=config, **kwargs, **_in_window(config, kwargs))

    @staticmethod
    def pull_all_from_table_or_query(config: RepoConfig, **kwargs: Any) -> RetrievalJob:
        """As Feast's: all rows in a window of event time."""
        return pull_all_from_table_or_query_ibis(config=config, **kwargs, **_in_window(config, kwargs))

    @staticmethod
    def offline_write_batch(config: RepoConfig, feature_view: FeatureView, table: Any, progress: Any) -> None:
        """As Feast's for a plain file. Raises SpecError for a Table."""
        source = feature_view.batch_source
        if source is not None and table_of(str(getattr(source, "path", ""))) is not None:
            raise SpecError(
                "a Table cannot be written through Feast",
                given=feature_view.name,
                next_step="Publish a Snapshot with the pipeline's features DAG",
            )
        DuckDBOfflineStore.offline_write_batch(config, feature_view, table, progress)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Columns of a source as Arrow types, for feature views without a schema."""
        table = table_of(str(getattr(data_source, "path", "")))
        if table is None:
            return super().get_table_column_names_and_types_from_data_source(config, data_source)
        import pyarrow.parquet as pq

        schema = pq.read_schema(_files(config, table)[-1])
        return [(field.name, str(field.type)) for field in schema]


class _Microseconds(timedelta):
    """A time to live in one unit: ibis refuses one of days and seconds, such as 36 hours."""

    days = 0
    seconds = 0

    @property
    def microseconds(self) -> int:
        return self // timedelta(microseconds=1)


def _with_exact_ttl(view: FeatureView) -> FeatureView:
    if view.ttl:
        view = copy.copy(view)
        view.ttl = _Microseconds(microseconds=view.ttl // timedelta(microseconds=1))
    return view


Reader = Callable[[DataSource, str], Any]
"""What Feast asks for a source's rows: (source, path of the repository) -> ibis table."""


def _reader(files: Callable[[DataSource, str], Any]) -> Reader:
    """Read Tables through `files` (source, name of the Table), every other source as Feast does."""

    def read(source: DataSource, repo_path: str) -> Any:
        table = table_of(str(getattr(source, "path", "")))
        return feast_duckdb._read_data_source(source, repo_path) if table is None else files(source, table)

    return read


def _in_window(config: RepoConfig, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Feast's arguments for reading a window of event time."""
    window = (_aware(kwargs.get("start_date")), _aware(kwargs.get("end_date")))
    return {
        "data_source_reader": _reader(lambda source, table: _scan(_files(config, table, window))),
        "data_source_writer": feast_duckdb._write_data_source,
        "staging_location": config.offline_store.staging_location,
        "staging_location_endpoint_override": config.offline_store.staging_location_endpoint_override,
    }


def _source_id(view: FeatureView) -> int:
    return id(view.batch_source)


def _at_rows(config: RepoConfig, owners: dict[int, FeatureView], entity_df: pd.DataFrame) -> Reader:
    """A reader for one retrieval. Feast hands it each view's own source object, by which the view is found."""
    column = infer_event_timestamp_from_entity_df(dict(zip(entity_df.columns, entity_df.dtypes, strict=True)))
    moments = pd.to_datetime(entity_df[column], utc=True)
    first, last = (moments.min(), moments.max()) if len(moments) else (None, None)

    def single(source: DataSource, table: str) -> Any:
        view = owners[id(source)]
        begin = first - view.ttl if first is not None and view.ttl else None
        return _scan(_files(config, table, (begin, last)), _identity(view, source))

    return _reader(single)


def _files(config: RepoConfig, table: str, window: Window = (None, None)) -> list[Path]:
    return table_files(config.offline_store.store, table, config.offline_store.pinned, window)


def _identity(view: FeatureView, source: DataSource) -> list[str]:
    """Columns of the source that name one value of a view: join keys, event time, created time."""
    inverse = {new: old for old, new in source.field_mapping.items()}
    keys = [inverse.get(column.name, column.name) for column in view.entity_columns if column.name != "__dummy_id"]
    return [*keys, source.timestamp_field, *filter(None, [source.created_timestamp_column])]


def _scan(files: list[Path], identity: list[str] | None = None) -> Any:
    """The files as one ibis table, lazily; without double rows, which Feast would choose among by chance."""
    backend = _backend()
    paths = [str(path) for path in files]
    if identity:
        named = ", ".join(_quoted(name) for name in identity)
        scan = f"read_parquet([{', '.join(_text(path) for path in paths)}], union_by_name = true"
        if backend.con.execute(f"SELECT 1 FROM {scan}) GROUP BY {named} HAVING count(*) > 1 LIMIT 1").fetchall():
            later = f"list_position([{', '.join(_text(path) for path in paths)}], {_FILE}) DESC, {_LINE} DESC"
            view = gen_name("single")
            backend.con.execute(
                f"CREATE TEMP VIEW {view} AS SELECT * EXCLUDE ({_FILE}, {_LINE}) FROM "
                f"(SELECT *, file_row_number AS {_LINE} FROM {scan}, filename = '{_FILE}')) "
                f"QUALIFY row_number() OVER (PARTITION BY {named} ORDER BY {later}) = 1"
            )
            return backend.table(view)
    return backend.read_parquet(paths, union_by_name=True)


@cache
def _backend() -> Any:
    """DuckDB as ibis holds it for this process: it never fetches an extension, and is closed in time.

    An open connection at the end of the interpreter fills the log with reports of leaked objects.
    """
    warnings.filterwarnings("ignore", message=r"fetch_arrow_table\(\)", category=DeprecationWarning)
    backend = ibis.get_backend()
    for name in ("autoinstall_known_extensions", "autoload_known_extensions"):
        backend.con.execute(f"SET {name} = false")
    atexit.register(_close)
    return backend


def _close() -> None:
    _backend().con.close()
    _backend.cache_clear()
    ibis.options.default_backend = None


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
