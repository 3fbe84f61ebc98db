"""DuckDB as engines use it: UTC, no downloads, limits of its own. `sources.sql` locks it down further."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from millrace.errors import SpecError, Unavailable


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


def name(identifier: str) -> str:
    """A quoted identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """A quoted text."""
    return "'" + value.replace("'", "''") + "'"
