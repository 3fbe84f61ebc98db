"""Run a pipeline's SQL in DuckDB: one SELECT, shut off from the outside, the same bytes at every run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from millrace.core.errors import DataError, SpecError, Unavailable
from millrace.sql.zones import agree

T = TypeVar("T")
FILE = "transform.sql"
# Keywords that DuckDB's parser reads as names; a source's column of that name would have to be qualified.
CLOCK = {"current_timestamp", "current_date", "current_time", "localtimestamp", "localtime"}
# Unstable too, whatever DuckDB's catalogue says; `query` runs SQL that nobody has seen.
UNSTABLE = {"ago", "current_localtimestamp", "current_localtime", "query", "reservoir_quantile"}
# These speak of the SQL alone. All other errors may quote a row's values.
_ABOUT_SQL = (
    duckdb.ParserException, duckdb.SyntaxException, duckdb.BinderException, duckdb.CatalogException,
    duckdb.PermissionException, duckdb.NotImplementedException,
)  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """The partition that the SQL makes: its key, from when until before when it lasts, and the zone of its clocks."""

    partition_key: str
    start_time: datetime
    end_time: datetime
    timezone: str


def connect(
    folder: str, timezone: str, reads: Iterable[str] = (), memory_limit: str | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB that gives the same bytes everywhere and reaches nothing but `folder`, where it spills, and the files
    `reads`. Its clocks are those of `timezone`: what hour, weekday or date a moment has.

    One thread, whatever the machine: a sum of doubles depends on how many add it up. Raises SpecError for a
    `memory_limit` that is none (`8GB`); left out, DuckDB takes 80 % of the memory it may have.
    """
    connection = duckdb.connect()
    clocks(connection, timezone)
    allowed = ", ".join(f"'{_escaped(path)}'" for path in reads)
    connection.execute(f"SET allowed_paths = [{allowed}]")
    if memory_limit is not None:
        try:
            connection.execute(f"SET memory_limit = '{_escaped(memory_limit)}'")
        except duckdb.Error:
            raise SpecError("not a memory limit", given=memory_limit, allowed="a size such as 8GB") from None
    for name, value in (
        ("threads", 1), ("temp_directory", _escaped(folder)),
        ("autoinstall_known_extensions", False), ("autoload_known_extensions", False),
        ("python_enable_replacements", False), ("enable_external_access", False), ("lock_configuration", True),
    ):  # fmt: skip
        connection.execute(f"SET {name} = '{value}'")
    return connection


def clocks(connection: duckdb.DuckDBPyConnection, timezone: str) -> None:
    """Set the zone in which the SQL reads clocks. Raises SpecError for one that DuckDB's own list lacks."""
    try:
        connection.execute(f"SET TimeZone = '{_escaped(timezone)}'")
    except duckdb.Error:
        raise SpecError(
            "DuckDB does not know the time zone", where=f"{FILE} (partition.timezone)", given=timezone,
            next_step="Name it as IANA does, such as America/New_York",
        ) from None  # fmt: skip


def show(connection: duckdb.DuckDBPyConnection, sources: Mapping[str, Sequence[str]], scope: Scope) -> None:
    """Make what the SQL sees: `scope`, and a view per source over its Parquet files, rows in the files' order.

    Raises SpecError where DuckDB's clocks of the scope's zone are not those by which the partition was cut.
    """

    def local_times(moments: Sequence[int]) -> list[int]:
        query = "SELECT epoch_us(make_timestamptz(m)::TIMESTAMP) FROM (SELECT unnest(?::BIGINT[]) AS m)"
        return [row[0] for row in connection.execute(query, [list(moments)]).fetchall()]

    agree("DuckDB", scope.timezone, scope.start_time, scope.end_time, local_times)
    connection.execute(
        "CREATE TABLE scope AS SELECT ?::VARCHAR AS partition_key, ?::TIMESTAMPTZ AS start_time, "
        "?::TIMESTAMPTZ AS end_time", [scope.partition_key, scope.start_time, scope.end_time],
    )  # fmt: skip
    for name, paths in sources.items():
        files = ", ".join(f"'{_escaped(path)}'" for path in paths)
        connection.execute(f'CREATE VIEW "{name}" AS SELECT * FROM read_parquet([{files}])')


def _escaped(text: str) -> str:
    return text.replace("'", "''")


def select(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """Run the SQL's one SELECT.

    Raises SpecError naming the line of SQL that does not run, does more than select, or gives something else at each
    run; DataError, without the value, where it fails on a row; MemoryError.
    """
    bind(connection, sql)
    return _guarded(lambda: connection.sql(sql).to_arrow_table())


def bind(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Make sure, reading no rows, that the SQL is one that `select` takes. Raises SpecError as it does."""
    _guarded(lambda: check_select(connection, sql))
    _guarded(lambda: connection.execute("EXPLAIN " + sql))  # only `execute` tells the line of an error


def _guarded(call: Callable[[], T]) -> T:
    try:
        return call()
    except duckdb.OutOfMemoryException:
        failed: Exception = MemoryError(f"{FILE} needs more memory than there is")
    except duckdb.IOException:
        failed = Unavailable("DuckDB cannot write to its temporary folder", where=FILE)
    except _ABOUT_SQL as err:
        failed = SpecError(str(err).splitlines()[0], where=_where(str(err)))
    except duckdb.ConversionException as err:
        failed = DataError(
            "a value cannot be converted to the type that the SQL casts to",
            where=_where(str(err)),
            next_step="Use TRY_CAST, or a gate on the raw column",
        )
    except duckdb.Error as err:
        kind = type(err).__name__.removesuffix("Exception")
        failed = DataError(
            f"the SQL fails on a row ({kind})",
            where=_where(str(err)),
            next_step="Use TRY(..), or a gate on raw columns",
        )
    raise failed  # outside of `except`, so that no traceback shows DuckDB's text


def _where(text: str) -> str:
    line = re.search(r"LINE (\d+):", text)
    return f"{FILE}:{line.group(1)}" if line else FILE


def check_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise SpecError for SQL that is not one SELECT, or has clocks, random numbers or samples in it.

    The same inputs must make the same features. DuckDB's own error is left to the caller.
    """
    kinds = [str(statement.type).rpartition(".")[2] for statement in duckdb.extract_statements(sql)]
    if kinds != ["SELECT"]:
        raise SpecError("the file must hold one SELECT", where=FILE, given=", ".join(kinds) or "nothing")
    unstable = {
        str(row[0])
        for row in connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
        ).fetchall()
    }
    unstable = unstable - {"error"} | UNSTABLE
    (tree,) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0]
    for node in _nodes(json.loads(tree)):
        name = str(node.get("function_name", "")).lower()
        if node.get("class") == "COLUMN_REF" and len(node["column_names"]) == 1:
            name = name or str(node["column_names"][0]).lower()
            wrong = name in CLOCK
        elif sample := node.get("sample"):
            name, wrong = "SAMPLE", not sample["repeatable"]
        else:
            wrong = name in unstable or (name == "age" and len(node["arguments"]) == 1)
        if wrong:
            line = sql.encode()[: node.get("query_location") or 0].count(b"\n") + 1
            raise SpecError(
                f"'{name}' gives something else at each run; the same inputs must make the same features",
                where=f"{FILE}:{line}",
                next_step="The partition's bounds are scope.start_time and scope.end_time",
            )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for child in tree:
            yield from _nodes(child)
