"""Parquet files that Feast writes into: rows appended to a feature view's file, logs of served features."""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource
from feast.repo_config import RepoConfig

from millrace.core.errors import SpecError
from millrace.feast_stores.tables import table_of


def append(config: RepoConfig, view: FeatureView, table: pa.Table) -> None:
    """Append rows: to a file by replacing it whole, one writer at a time; to a folder as one more file.

    Raises SpecError for a Table, which only `publish` moves, and for columns other than the file's.
    """
    source = view.batch_source
    if not isinstance(source, FileSource) or source.path.startswith("s3://"):
        raise SpecError("rows can be appended to local Parquet files only", given=view.name)
    if table_of(source.path) is not None:
        raise SpecError(
            "a Table cannot be written through Feast",
            given=view.name,
            next_step="Publish a Snapshot with the pipeline's features DAG",
        )
    path = Path(FileSource.get_uri_for_file_path(config.repo_path, source.path))
    if path.is_dir():
        held = sorted(path.rglob("*.parquet"))
        schema = pq.read_schema(held[0]) if held else table.schema
        _write(_as(table, schema, view), path / f"{uuid.uuid4().hex}.parquet")
        return
    with Path(f"{path}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = pq.read_table(path)
        _write(pa.concat_tables([before, _as(table, before.schema, view)]), path)


def log(config: RepoConfig, data: pa.Table | Path, logging: LoggingConfig) -> None:
    """Add rows, or the Parquet files of a folder, to the logging destination."""
    import pyarrow.dataset as ds

    destination = logging.destination
    if not isinstance(destination, FileLoggingDestination):
        raise SpecError(
            "served features are logged to Parquet files here", given=type(destination).__name__,
            allowed=["FileLoggingDestination"],
        )  # fmt: skip
    uri = FileSource.get_uri_for_file_path(config.repo_path, destination.path)
    filesystem, path = FileSource.create_filesystem_and_path(uri, destination.s3_endpoint_override)
    ds.write_dataset(
        ds.dataset(data, format="parquet") if isinstance(data, Path) else data,
        path,
        format="parquet",
        filesystem=filesystem,
        basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
        partitioning=destination.partition_by,
        partitioning_flavor="hive" if destination.partition_by else None,
        existing_data_behavior="overwrite_or_ignore",
    )


def _as(table: pa.Table, schema: pa.Schema, view: FeatureView) -> pa.Table:
    if table.column_names != schema.names:
        raise SpecError(
            "the rows have other columns than the data of the feature view", where=view.name,
            given=table.column_names, allowed=schema.names,
        )  # fmt: skip
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
        raise SpecError("the rows have other types than the data of the feature view", where=view.name) from err


def _write(table: pa.Table, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    os.close(handle)
    try:
        pq.write_table(table, temporary)
        if path.exists():
            os.chmod(temporary, path.stat().st_mode)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
