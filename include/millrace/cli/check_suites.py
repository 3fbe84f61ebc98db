"""Suites: every expectation by itself, and the columns they name against those that the gate will see."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.cli.check import attempt, near
from millrace.spec import PipelineSpec, ProjectTree
from millrace.spec.yaml_file import line_of

if TYPE_CHECKING:
    from millrace.gates.suite import Entry


def check_suite_of(
    tree: ProjectTree, spec: PipelineSpec, name: str, columns: Collection[str] | None, why: str
) -> list[str]:
    """One line for each mistake of a suite; `columns` None: not known, because the SQL is wrong itself."""
    from millrace.gates.suite import read

    path = tree.folder(spec.name) / name
    problems: list[str] = []
    entries = attempt(problems, lambda: read(tree.suite(spec.name, name), str(path)))
    if entries is None:
        return problems
    if not entries:
        return [f"{path}:1: the suite has no expectations: it would pass anything; write at least one"]
    for number, entry in enumerate(entries):
        if entry.problem is not None:
            text = str(entry.problem).removeprefix(f"{entry.problem.where}: ")
            line = line_of(path, "expectations", number)
            problems.append(f"{path}:{line}: expectations[{number}]: {text}")
        for column in entry.named if columns is not None else ():
            if column not in columns:  # type: ignore[operator]
                line = _line(path, number, entry, column)
                problems.append(f"{path}:{line}: no column '{column}': {why}{near(column, list(columns or ()))}")
    return problems


def _line(path: Path, number: int, entry: Entry, column: str) -> int:
    from millrace.gates.suite import COLUMN_KEYS

    for key in COLUMN_KEYS:
        value = entry.kwargs.get(key)
        if value == column:
            return line_of(path, "expectations", number, "kwargs", key)
        if isinstance(value, list) and column in value:
            return line_of(path, "expectations", number, "kwargs", key, value.index(column))
    return line_of(path, "expectations", number)
