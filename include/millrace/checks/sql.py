"""What transform.sql makes, told by DuckDB from the declared types alone: no data are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from millrace.checks.sql_spark import refuse
from millrace.core.errors import SpecError, nearest
from millrace.spec import PipelineSpec
from millrace.spec.media import EMBEDDED
from millrace.spec.yaml_file import read_text

TYPES = {
    "string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "timestamp": "TIMESTAMPTZ",
    "date": "DATE", "time": "TIME", "binary": "BLOB",
}  # fmt: skip
"""Type of a source's column -> DuckDB's."""
UNKNOWN = ""
"""Type of a column of which only the name is known, since the SQL cannot be bound."""
SCOPE = {"partition_key": "VARCHAR", "start_time": "TIMESTAMPTZ", "end_time": "TIMESTAMPTZ"}
# DuckDB counts lines from the first word of the statement.
_LEAD = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def sql_columns(path: Path, spec: PipelineSpec) -> dict[str, str]:
    """Column -> DuckDB type of what the SQL makes from empty sources.

    Raises SpecError with the line for SQL that cannot be bound, is not one SELECT, or makes two columns of one name,
    and, where the engine is Spark, for each construct that means something else there.
    As in the transform job, the SQL reaches no file, loads no extension, and reads clocks in the pipeline's zone.
    """
    import duckdb

    from millrace.sql.select import clocks

    sql = read_text(path)
    connection = duckdb.connect()
    try:
        for name in ("autoinstall_known_extensions", "autoload_known_extensions", "enable_external_access"):
            connection.execute(f"SET {name} = false")
        clocks(connection, spec.partition.timezone)
        for name, source in spec.sources.items():
            _table(connection, name, {c: TYPES[source.types.get(c, "string")] for c in source.columns})
        if spec.features.embedding is not None:
            _table(connection, EMBEDDED, {c: TYPES[kind] for c, kind in spec.features.embedded.items()})
        _table(connection, "scope", SCOPE)
        lead = _LEAD.match(sql)
        start = lead.end() if lead else 0
        statements = connection.extract_statements(sql[start:])
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise SpecError("the file must hold one SELECT, whose columns do not depend on data", where=f"{path}:1")
        described = connection.execute(statements[0]).description
        if spec.features.engine == "spark":
            refuse(connection, sql, path)
    except duckdb.Error as err:
        message, line = _explain(str(err), sql, start)
        raise SpecError(message, where=f"{path}:{line}") from None
    finally:
        connection.close()
    names = [column[0] for column in described]
    if twice := sorted({name for name in names if [n.lower() for n in names].count(name.lower()) > 1}):
        raise SpecError(f"the SQL makes two columns of one name: {', '.join(twice)}", where=f"{path}:1")
    return {column[0]: str(column[1]) for column in described}


def sql_names(path: Path, spec: PipelineSpec) -> dict[str, str] | None:
    """Names that the SQL gives its columns, though it cannot be bound; None where that does not stand in it.

    A bare column that no source has counts as the one that is nearest to it: its misspelling is named already.
    """
    import sqlglot
    from sqlglot.errors import SqlglotError
    from sqlglot.expressions import Column

    try:
        parsed = sqlglot.parse_one(read_text(path), read="duckdb")
    except (SqlglotError, SpecError):
        return None
    known = {*SCOPE, *spec.features.embedded, *(c for source in spec.sources.values() for c in source.columns)}
    names = [
        nearest(item.name, known) if isinstance(item, Column) and item.name not in known else item.alias_or_name
        for item in getattr(parsed, "selects", ())
    ]
    return {str(name): UNKNOWN for name in names} if names and all(names) and "*" not in names else None


def sql_syntax(path: Path) -> None:
    """Raise SpecError with the line for a file that is no SQL, whatever the sources are."""
    import duckdb

    sql = read_text(path)
    with duckdb.connect() as connection:
        try:
            connection.extract_statements(sql)
        except duckdb.Error as err:
            message, line = _explain(str(err), sql, 0)
            raise SpecError(message, where=f"{path}:{line}") from None


def _explain(text: str, sql: str, start: int) -> tuple[str, int]:
    """DuckDB's message in one line, and the line of the file: the one it names, or where the name it names stands."""
    message, _, rest = text.partition("LINE ")
    message = " ".join(message.partition("Candidate functions:")[0].split())
    if number := re.match(r"\d+", rest):
        return message, int(number.group()) + sql[:start].count("\n")
    plain = _COMMENT.sub(lambda m: "\n" * m.group().count("\n"), sql)
    for quoted, named in re.findall(r'"(\w+)"|with name "?(\w+)', message):
        if found := re.search(rf"\b{quoted or named}\b", plain):
            return message, plain[: found.start()].count("\n") + 1
    return message, 1


def _table(connection: Any, name: str, columns: dict[str, str]) -> None:
    described = ", ".join(f"{_quoted(column)} {kind}" for column, kind in columns.items())
    connection.execute(f"CREATE TABLE {_quoted(name)} ({described})")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
