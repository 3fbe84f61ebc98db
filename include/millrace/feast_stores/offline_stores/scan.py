"""Scan: the rows of a Feast data source as something that a DuckDB query can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.file_source import FileSource

from millrace.core.errors import NotFound, SpecError
from millrace.feast_stores.tables import Pin, Window, table_files, table_of
from millrace.sql.duck import name, text, without_nan

_TIMES = {
    "TIMESTAMP WITH TIME ZONE": "{0}",
    "TIMESTAMP": "({0} AT TIME ZONE 'UTC')",
    "TIMESTAMP_S": "({0}::TIMESTAMP AT TIME ZONE 'UTC')",
    "TIMESTAMP_MS": "({0}::TIMESTAMP AT TIME ZONE 'UTC')",
    "DATE": "({0}::TIMESTAMP AT TIME ZONE 'UTC')",
    # The next microsecond: a value must never be seen before its time, not even by a nanosecond.
    "TIMESTAMP_NS": "make_timestamptz(epoch_ns({0}) // 1000 + (epoch_ns({0}) % 1000 > 0)::BIGINT)",
    "TIMESTAMP_NS WITH TIME ZONE": "make_timestamptz(epoch_ns({0}) // 1000 + (epoch_ns({0}) % 1000 > 0)::BIGINT)",
    "TIMESTAMPTZ_NS": "make_timestamptz(epoch_ns({0}) // 1000 + (epoch_ns({0}) % 1000 > 0)::BIGINT)",
}
"""Type of a time column -> expression of the moment in UTC; without a zone it is UTC."""


@dataclass(frozen=True)
class Tables:
    """Where `millrace://` paths lead: the store's root, and the only Snapshots to read when some are pinned."""

    store: str
    pinned: Mapping[str, Sequence[Pin]] | None = None


@dataclass(frozen=True)
class Scan:
    """Rows of a source. Expressions speak of them as `s`, as in FROM {scan.sql} AS s."""

    sql: str
    types: Mapping[str, str]
    """Column -> DuckDB's type."""
    where: str
    """The source's name, for messages."""

    def value(self, column: str) -> str:
        """Expression of a column."""
        return f"s.{name(column)}"

    def column(self, wanted: str, mapping: Mapping[str, str]) -> str:
        """The source's column behind a name of the feature view. Raises SpecError with the columns that there are."""
        inverse = {new: old for old, new in mapping.items()}
        for candidate in (inverse.get(wanted, wanted), wanted):
            if candidate in self.types:
                return candidate
        raise SpecError("the data lack a column", where=self.where, given=wanted, allowed=sorted(self.types))

    def moment(self, column: str) -> str:
        """Expression of a time column as TIMESTAMPTZ. Raises SpecError for a column that holds no times."""
        kind = self.types[column]
        if kind not in _TIMES:
            raise SpecError(f"column '{column}' holds no times", where=self.where, given=kind, allowed="TIMESTAMP")
        return _TIMES[kind].format(self.value(column))


def scan(
    connection: duckdb.DuckDBPyConnection,
    source: DataSource | None,
    repo: Path,
    tables: Tables,
    window: Window = (None, None),
) -> Scan:
    """Make a source readable in this connection: a Table, a Parquet file, a folder of them, a glob, or `s3://`.

    Of a Table only the partitions that may hold rows of `window` are read. Raises SpecError for a source of another
    kind, NotFound for one that is not there.
    """
    if not isinstance(source, FileSource):
        raise SpecError(
            "this offline store reads files and Tables",
            given=type(source).__name__,
            allowed="FileSource with a Parquet path or millrace://<pipeline>/<dataset>",
        )
    if source.file_format is not None and not isinstance(source.file_format, ParquetFormat):
        raise SpecError(
            "this offline store reads Parquet", where=source.name, given=type(source.file_format).__name__,
            allowed=["ParquetFormat"],
        )  # fmt: skip
    table = table_of(source.path)
    if table is not None:
        (folder,) = connection.execute("SELECT current_setting('temp_directory')").fetchall()[0]
        held = table_files(tables.store, table, tables.pinned, window)
        files = [str(without_nan(path, folder)) for path in held]
        sql = f"read_parquet([{', '.join(map(text, files))}], union_by_name = true)"
    elif source.path.startswith("s3://"):
        sql = _s3(connection, source)
    else:
        sql = _local(source, repo)
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {sql}").fetchall()
    except duckdb.IOException as err:
        raise NotFound("the data of a source are not there", where=source.name, given=source.path) from err
    return Scan(sql, {row[0]: row[1] for row in described}, source.name)


def _local(source: FileSource, repo: Path) -> str:
    path = Path(FileSource.get_uri_for_file_path(repo, source.path.removeprefix("file://")))
    if path.is_dir():
        return f"read_parquet({text(str(path / '**' / '*.parquet'))}, hive_partitioning = true, union_by_name = true)"
    return f"read_parquet({text(str(path))}, union_by_name = true)"


def _s3(connection: duckdb.DuckDBPyConnection, source: FileSource) -> str:
    """DuckDB's own S3 reader is an extension that it would have to download; Arrow's is at hand."""
    import pyarrow.dataset as ds

    filesystem, path = FileSource.create_filesystem_and_path(
        source.path, source.s3_endpoint_override, source.resolve_credentials()
    )
    try:
        held: Any = ds.dataset(path, filesystem=filesystem, format="parquet", partitioning="hive")
    except (FileNotFoundError, OSError) as err:
        raise NotFound("the data of a source are not there", where=source.name, given=source.path) from err
    view = f"s3_{len(connection.execute('SHOW TABLES').fetchall())}"
    connection.register(view, held)
    return name(view)
