"""Suites: every expectation by itself, and the columns they name against those that the gate will see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.checks.words import attempt, near
from millrace.core.errors import SpecError
from millrace.spec import ProjectTree
from millrace.spec.yaml_file import line_of

if TYPE_CHECKING:
    from millrace.gates.gx.suite import Entry

KINDS = {
    "VARCHAR": "text", "ENUM": "text", "UUID": "text", "BOOLEAN": "boolean", "DATE": "date", "TIMESTAMP": "clock",
    "TIMESTAMP WITH TIME ZONE": "time", "TIMESTAMPTZ": "time",
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
                     "UBIGINT"), "integer"),
    **dict.fromkeys(("FLOAT", "DOUBLE", "DECIMAL"), "number"),
}  # fmt: skip
"""DuckDB's type -> what a column of it holds, as gates call it."""


def check_suite_of(
    tree: ProjectTree,
    pipeline: str,
    name: str,
    columns: Mapping[str, str] | None = None,
    why: str = "",
    sources: Mapping[str, Collection[str]] | None = None,
) -> list[str]:
    """One line for each mistake of a suite. None are `columns`, with DuckDB's types, where what makes them is wrong
    itself, and `sources`, with theirs, where pipeline.yaml is."""
    from millrace.gates.gx.suite import read

    path = tree.folder(pipeline) / name
    problems: list[str] = []
    entries = attempt(problems, lambda: read(tree.suite(pipeline, name), str(path)))
    if entries is None:
        return problems
    if not entries:
        return [f"{path}:1: the suite has no expectations: it would pass anything; write at least one"]
    problems += _checks(tree.suite(pipeline, name), path, columns, why, sources)
    for number, entry in enumerate(entries):
        if entry.problem is not None:
            text = str(entry.problem).removeprefix(f"{entry.problem.where}: ")
            line = line_of(path, "expectations", number)
            problems.append(f"{path}:{line}: expectations[{number}]: {text}")
        for column in entry.named if columns is not None else ():
            if column not in columns:  # type: ignore[operator]
                line = _line(path, number, entry, column)
                problems.append(f"{path}:{line}: no column '{column}': {why}{near(column, list(columns or ()))}")
        if columns is not None and entry.problem is None and (other := _other_kind(entry, columns)):
            line = line_of(path, "expectations", number, "kwargs", "value_set")
            problems.append(f"{path}:{line}: expectations[{number}]: no value of the set can be in it: {other}")
    return problems


def _other_kind(entry: Entry, columns: Mapping[str, str]) -> str | None:
    """Why no member of the suite's set can stand in its column, None where one can."""
    from millrace.gates.mismatch import set_of_another_kind

    kind = KINDS.get(columns.get(entry.columns[0], "").split("(")[0]) if entry.columns else None
    return set_of_another_kind(entry, kind) if kind else None


def _checks(
    suite: Mapping[str, Any],
    path: Path,
    columns: Collection[str] | None,
    why: str,
    sources: Mapping[str, Collection[str]] | None,
) -> list[str]:
    """Mistakes of the suite's `checks`: each by itself, and the columns and sources that it names."""
    from millrace.spec.gate import Reference, gate_checks

    problems: list[str] = []
    for number, item in enumerate(suite.get("checks") or []):
        where = f"{path}:{line_of(path, 'checks', number)}"
        try:
            (found,) = gate_checks({"checks": [item]}, where)
            named = _named(found)
        except SpecError as err:
            text = str(err) if err.where else f"{where}: checks[0]: {err}"
            problems.append(text.replace(": checks[0]", f": checks[{number}]", 1))
            continue
        lacking = [(column, columns, why) for column in named if columns is not None and column not in columns]
        if isinstance(found, Reference) and sources is not None:
            if found.source not in sources:
                known = list(sources)
                problems.append(f"{where}: checks[{number}]: no source '{found.source}'{near(found.source, known)}")
                continue
            theirs = sources[found.source]
            said = f"source '{found.source}' does not have it"
            lacking += [(column, theirs, said) for column in found.theirs if column not in theirs]
        for column, known_columns, reason in lacking:
            text = f"no column '{column}': {reason}{near(column, list(known_columns or ()))}"
            problems.append(f"{where}: checks[{number}]: {text}")
    return problems


def _named(check: Any) -> list[str]:
    """Columns of the gated data that a check names. Raises SpecError for a rule that cannot be read."""
    from millrace.spec.gate import Bias, Rule

    if isinstance(check, Rule):
        return _rule_columns(check.sql)
    if isinstance(check, Bias):
        return [check.column, *([check.label] if check.label else [])]
    return list(getattr(check, "columns", ()))


def _rule_columns(sql: str) -> list[str]:
    """Columns that a rule names. Raises SpecError for SQL that cannot be read."""
    import sqlglot
    from sqlglot.errors import SqlglotError
    from sqlglot.expressions import Column

    try:
        parsed = sqlglot.parse_one(f"SELECT ({sql})", read="duckdb")
    except SqlglotError as err:
        raise SpecError(f"the rule cannot be read: {str(err).splitlines()[0]}", given=sql) from err
    return sorted({column.name for column in parsed.find_all(Column)})


def _line(path: Path, number: int, entry: Entry, column: str) -> int:
    from millrace.gates.gx.suite import COLUMN_KEYS

    for key in COLUMN_KEYS:
        value = entry.kwargs.get(key)
        if value == column:
            return line_of(path, "expectations", number, "kwargs", key)
        if isinstance(value, list) and column in value:
            return line_of(path, "expectations", number, "kwargs", key, value.index(column))
    return line_of(path, "expectations", number)
