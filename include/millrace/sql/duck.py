"""DuckDB as engines use it: UTC, no downloads, limits of its own. `sources.sql` locks it down further."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from millrace.core.errors import SpecError, Unavailable


@dataclass(frozen=True)
class Limits:
    """What one query may use; None leaves it to DuckDB: all cores, 80 % of the memory it may have, the system's
    temporary folder for what does not fit."""

    threads: int | None = None
    memory_limit: str | None = None
    temp_directory: str | None = None


@contextmanager
def connection(limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that spills to a folder of its own, which goes with it.

    DuckDB's errors become MemoryError, Unavailable or SpecError; none of them quotes a value of a row.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-duckdb-", dir=limits.temp_directory) as folder:
        opened = duckdb.connect()
        try:
            opened.execute("SET TimeZone = 'UTC'")
            opened.execute(f"SET temp_directory = {text(folder)}")
            for name in ("autoinstall_known_extensions", "autoload_known_extensions"):
                opened.execute(f"SET {name} = false")
            if limits.threads is not None:
                opened.execute(f"SET threads = {limits.threads}")
            if limits.memory_limit is not None:
                opened.execute(f"SET memory_limit = {text(limits.memory_limit)}")
            yield opened
        except duckdb.OutOfMemoryException as err:
            raise MemoryError("the query needs more memory and disk than it may use") from err
        except duckdb.ParserException as err:
            raise SpecError("DuckDB cannot read this", given=str(err).splitlines()[0]) from err
        except duckdb.IOException as err:
            raise Unavailable("DuckDB cannot read or write a file", given=str(err).splitlines()[0]) from err
        finally:
            opened.close()


def without_nan(path: Path, folder: str) -> Path:
    """The Parquet file, or a copy in `folder` with null for NaN, where its statistics leave out NaN that it holds.

    DuckDB trusts the statistics and answers as if there were no NaN. Snapshots have none for floats, but those of
    earlier versions do. Nothing but the footer is read of a file that cannot be wrong.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    footer = pq.read_metadata(path)
    groups = [footer.row_group(n) for n in range(footer.num_row_groups)]
    chunks = [group.column(n) for group in groups for n in range(group.num_columns)]
    floats = {c.path_in_schema for c in chunks if c.physical_type in ("FLOAT", "DOUBLE") and c.statistics is not None}
    if not floats or not any(
        pc.any(pc.is_nan(column)).as_py() for column in pq.read_table(path, columns=[*floats]).columns
    ):
        return path
    table = pq.read_table(path)
    for index, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            values = pc.if_else(pc.is_nan(table[index]), pa.scalar(None, field.type), table[index])
            table = table.set_column(index, field, values)
    handle, copied = tempfile.mkstemp(dir=folder, suffix=".parquet")
    os.close(handle)
    pq.write_table(table, copied, write_statistics=False)
    return Path(copied)


def name(identifier: str) -> str:
    """A quoted identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """A quoted text."""
    return "'" + value.replace("'", "''") + "'"
