"""TableOfflineStore: Feast's DuckDB offline store over Millrace's Tables.

A FileSource with the path `millrace://<pipeline>/<dataset>` reads the Parquet files of the Snapshots that the Table
points at now, or of those that `pinned` names. Any other path is read as Feast reads it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

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
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import StrictStr

from millrace.errors import NotFound, SpecError
from millrace.store import SnapshotStore, Tables, open_store

SCHEME = "millrace://"
_SLACK = timedelta(days=1)
"""Partition keys are local days; no zone is further from UTC than this."""
_LENGTH = {7: ("%Y-%m", 31 * 24), 10: ("%Y-%m-%d", 7 * 24), 13: ("%Y-%m-%dT%H", 1)}
"""Length of a key -> its format, and the most hours that a partition of that grain lasts (a day may be a week)."""
_FILE, _LINE = "__millrace_file", "__millrace_line"

Window = tuple[datetime | None, datetime | None]


class Pin(FeastConfigBaseModel):
    """One Snapshot to read: its partition, its identity, and the key prefix under which it lies."""

    partition: StrictStr
    snapshot: StrictStr
    uri: StrictStr


class TableOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """`offline_store` in feature_store.yaml."""

    type: Literal["millrace.feast_stores.offline.TableOfflineStore"] = "millrace.feast_stores.offline.TableOfflineStore"
    store: StrictStr
    """ Root of the object store: a folder or s3://bucket/prefix. """
    pinned: dict[str, list[Pin]] | None = None
    """ Table -> the Snapshots to read, whatever the Table says; Tables not named here cannot be read then. """


def table_of(path: str) -> str | None:
    """Return `<pipeline>/<dataset>` of a `millrace://` path, None for any other. Raises SpecError for a bad one."""
    if not path.startswith(SCHEME):
        return None
    name = path.removeprefix(SCHEME).strip("/")
    if name.count("/") != 1:
        raise SpecError("not a Table", given=path, allowed=f"{SCHEME}<pipeline>/<dataset>")
    return name


def table_files(config: TableOfflineStoreConfig, table: str, window: Window = (None, None)) -> list[Path]:
    """Verified local files of a Table, in partition order; at least one, so that the columns are known.

    Without pins, partitions that lie wholly outside `window` are left out; superseded Snapshots never appear.
    Raises NotFound when the Table is empty, SpecError when pins are given and the Table is not among them.
    """
    objects = open_store(config.store)
    snapshots, tables = SnapshotStore(objects), Tables(objects)
    if config.pinned is not None:
        if table not in config.pinned:
            raise SpecError(
                "a feature view reads a Table that is not among the request's inputs",
                given=table,
                allowed=sorted(config.pinned),
                next_step="Let the FeatureService take features of its own pipeline only",
            )
        return [snapshots.path(pin.uri, pin.snapshot) for pin in config.pinned[table]]
    listed = tables.partitions(table)
    if not listed:
        raise NotFound(
            "the Table has no partitions",
            given=table,
            next_step="Run the pipeline's features DAG for a partition first",
        )
    wanted = [key for key in listed if _overlaps(key, *window)] or listed[:1]
    current = [tables.resolve(table, key) for key in wanted]
    return [snapshots.path(moved.uri, moved.snapshot) for moved in current]


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
        feature_views = [_with_exact_ttl(view) for view in feature_views]
        return get_historical_features_ibis(
            config=config,
            feature_views=feature_views,
            feature_refs=feature_refs,
            entity_df=entity_df,
            registry=registry,
            project=project,
            full_feature_names=full_feature_names,
            data_source_reader=_reader(config, feature_views, entity_df),
            data_source_writer=feast_duckdb._write_data_source,
            staging_location=config.offline_store.staging_location,
            staging_location_endpoint_override=config.offline_store.staging_location_endpoint_override,
            filter_by_created_timestamp=filter_by_created_timestamp,
        )

    @staticmethod
    def pull_latest_from_table_or_query(config: RepoConfig, **kwargs: Any) -> RetrievalJob:
        """As Feast's: the latest row per entity in a window of event time."""
        return pull_latest_from_table_or_query_ibis(config=config, **kwargs, **_reading(config, kwargs))

    @staticmethod
    def pull_all_from_table_or_query(config: RepoConfig, **kwargs: Any) -> RetrievalJob:
        """As Feast's: all rows in a window of event time."""
        return pull_all_from_table_or_query_ibis(config=config, **kwargs, **_reading(config, kwargs))

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

        schema = pq.read_schema(table_files(config.offline_store, table)[-1])
        return [(field.name, str(field.type)) for field in schema]


class _Microseconds(timedelta):
    """A time to live in one unit: ibis refuses one of days and seconds, such as 36 hours."""

    days = 0  # type: ignore[assignment]
    seconds = 0  # type: ignore[assignment]

    @property
    def microseconds(self) -> int:  # type: ignore[override]
        return self // timedelta(microseconds=1)


def _with_exact_ttl(view: FeatureView) -> FeatureView:
    if view.ttl:
        view = copy.copy(view)
        view.ttl = _Microseconds(microseconds=view.ttl // timedelta(microseconds=1))
    return view


def _reading(config: RepoConfig, kwargs: dict[str, Any]) -> dict[str, Any]:
    window = (_aware(kwargs.get("start_date")), _aware(kwargs.get("end_date")))

    def read(source: DataSource, repo_path: str) -> Any:
        table = table_of(str(getattr(source, "path", "")))
        if table is None:
            return feast_duckdb._read_data_source(source, repo_path)
        return _scan(table_files(config.offline_store, table, window))

    return {
        "data_source_reader": read,
        "data_source_writer": feast_duckdb._write_data_source,
        "staging_location": config.offline_store.staging_location,
        "staging_location_endpoint_override": config.offline_store.staging_location_endpoint_override,
    }


def _reader(config: RepoConfig, views: list[FeatureView], entity_df: pd.DataFrame) -> Callable[[DataSource, str], Any]:
    """A reader for one retrieval. Feast hands it each view's own source object, by which the view is found."""
    column = infer_event_timestamp_from_entity_df(dict(zip(entity_df.columns, entity_df.dtypes, strict=True)))
    moments = pd.to_datetime(entity_df[column], utc=True)
    first, last = (moments.min(), moments.max()) if len(moments) else (None, None)
    owners = {id(view.batch_source): view for view in views}

    def read(source: DataSource, repo_path: str) -> Any:
        table = table_of(str(getattr(source, "path", "")))
        if table is None:
            return feast_duckdb._read_data_source(source, repo_path)
        view = owners[id(source)]
        begin = first - view.ttl if first is not None and view.ttl else None
        files = table_files(config.offline_store, table, (begin, last))
        return _scan(files, _identity(view, source))

    return read


def _identity(view: FeatureView, source: DataSource) -> list[str]:
    """Columns of the source that name one value of a view: join keys, event time, created time."""
    inverse = {new: old for old, new in source.field_mapping.items()}
    keys = [inverse.get(column.name, column.name) for column in view.entity_columns if column.name != "__dummy_id"]
    return [*keys, source.timestamp_field, *filter(None, [source.created_timestamp_column])]


def _scan(files: list[Path], identity: list[str] | None = None) -> Any:
    """The files as one ibis table, lazily; without double rows, which Feast would choose among by chance."""
    import ibis

    backend = ibis.get_backend()
    for name in ("autoinstall_known_extensions", "autoload_known_extensions"):
        backend.con.execute(f"SET {name} = false")
    paths = [str(path) for path in files]
    if identity:
        named = ", ".join(_quoted(name) for name in identity)
        scan = f"read_parquet([{', '.join(_text(path) for path in paths)}], union_by_name = true"
        if backend.con.execute(f"SELECT 1 FROM {scan}) GROUP BY {named} HAVING count(*) > 1 LIMIT 1").fetchall():
            later = f"list_position([{', '.join(_text(path) for path in paths)}], {_FILE}) DESC, {_LINE} DESC"
            view = ibis.util.gen_name("single")
            backend.con.execute(
                f"CREATE TEMP VIEW {view} AS SELECT * EXCLUDE ({_FILE}, {_LINE}) FROM "
                f"(SELECT *, file_row_number AS {_LINE} FROM {scan}, filename = '{_FILE}')) "
                f"QUALIFY row_number() OVER (PARTITION BY {named} ORDER BY {later}) = 1"
            )
            return backend.table(view)
    return backend.read_parquet(paths, union_by_name=True)


def _overlaps(partition: str, begin: datetime | None, end: datetime | None) -> bool:
    """Whether a partition may hold rows between two moments; yes where its key cannot be read."""
    if len(partition) not in _LENGTH:
        return True
    form, hours = _LENGTH[len(partition)]
    try:
        start = datetime.strptime(partition, form).replace(tzinfo=UTC)
    except ValueError:
        return True
    if end is not None and start - _SLACK > end:
        return False
    return begin is None or start + timedelta(hours=hours) + _SLACK > begin


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
