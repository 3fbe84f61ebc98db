"""What transform.sql makes, told by DuckDB from the declared types alone: no data are read, nothing is run."""

from __future__ import annotations

import re
from pathlib import Path

from millrace.errors import SpecError
from millrace.spec import PipelineSpec
from millrace.spec.yaml_file import read_text

TYPES = {
    "string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "timestamp": "TIMESTAMPTZ",
}  # fmt: skip
"""Type of a source's column -> DuckDB's."""
SCOPE = {"partition_key": "VARCHAR", "start_time": "TIMESTAMPTZ", "end_time": "TIMESTAMPTZ"}


def sql_columns(path: Path, spec: PipelineSpec) -> dict[str, str]:
    """Column -> DuckDB type of what the SQL makes from empty sources.

    Raises SpecError with the line for SQL that cannot be bound or names a column twice. As in the transform job, the
    SQL reaches no file and loads no extension.
    """
    import duckdb

    sql = read_text(path)
    connection = duckdb.connect()
    try:
        for name in ("autoinstall_known_extensions", "autoload_known_extensions", "enable_external_access"):
            connection.execute(f"SET {name} = false")
        connection.execute("SET TimeZone = 'UTC'")
        for name, source in spec.sources.items():
            _table(connection, name, {c: TYPES[source.types.get(c, "string")] for c in source.columns})
        _table(connection, "scope", SCOPE)
        relation = connection.sql(sql)
        if relation is None:
            raise SpecError("the file must hold one SELECT", where=f"{path}:1")
        columns, types = list(relation.columns), [str(kind) for kind in relation.types]
    except duckdb.Error as err:
        text, _, where = str(err).partition("LINE ")
        line = re.match(r"\d+", where)
        raise SpecError(" ".join(text.split()), where=f"{path}:{line.group() if line else 1}") from None
    finally:
        connection.close()
    if twice := sorted({c for c in columns if columns.count(c) > 1}):
        raise SpecError(f"the SQL makes two columns of one name: {', '.join(twice)}", where=f"{path}:1")
    return dict(zip(columns, types, strict=True))


def _table(connection: object, name: str, columns: dict[str, str]) -> None:
    described = ", ".join(f"{_quoted(column)} {kind}" for column, kind in columns.items())
    connection.execute(f"CREATE TABLE {_quoted(name)} ({described})")  # type: ignore[attr-defined]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
