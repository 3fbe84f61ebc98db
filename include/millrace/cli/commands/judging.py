"""Commands that say whether something is right: check, try, gate."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from millrace.cli.options import ProjectOption
from millrace.core.errors import StoreError, Unavailable
from millrace.core.settings import Settings
from millrace.spec import ProjectTree


def check(
    what: Annotated[list[str] | None, typer.Argument(help="Pipelines or folders; default: the whole project.")] = None,
    data: Annotated[bool, typer.Option("--data", help="Also land the newest file of each source, for a try.")] = False,
    project: ProjectOption = None,
) -> None:
    """Check specs, SQL, suites and feature definitions, by themselves and against each other."""
    from millrace.checks.project import check as find
    from millrace.checks.project import choose

    tree, names = choose(what or [], project)
    problems = find(tree, names)
    if data and not problems:
        from millrace.cli.trial import delivered

        settings = Settings.load(tree.root)
        problems = [line for name in names for line in delivered(tree, settings, name, print)]
    for line in problems:
        print(line, file=sys.stderr)
    count = f"{len(names)} pipeline{'' if len(names) == 1 else 's'} checked"
    if problems:
        print(f"{count}, {len(problems)} problem{'' if len(problems) == 1 else 's'}", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{count}, no problems")
    for name in names:
        _say_overdue(tree, name)
    _say_stale(tree, names)


def try_(
    pipeline: Annotated[str, typer.Argument(help="Whose features.")],
    partition: Annotated[str, typer.Argument(help="Such as 2024-01-05.")],
    rows: Annotated[int, typer.Option("--rows", help="How many rows of the result are shown.", min=0)] = 5,
    show: Annotated[bool, typer.Option("--show", help="Also the values of columns that are not public.")] = False,
    project: ProjectOption = None,
) -> None:
    """Land, gate and transform one partition here, without Airflow and without a trace; exit 1 if a gate fails."""
    from millrace.cli.trial import attempt

    tree = ProjectTree.at(project)
    if not attempt(tree, Settings.load(tree.root), pipeline, partition, print, rows, show):
        raise typer.Exit(1)


def gate(
    pipeline: Annotated[str, typer.Argument(help="Whose suite, and whose classification of columns.")],
    suite: Annotated[str, typer.Argument(help="As the spec names it, such as suites/flights.yaml.")],
    file: Annotated[Path | None, typer.Argument(help="A Parquet file.")] = None,
    table: Annotated[str | None, typer.Option("--table", help="A table in PostgreSQL (MILLRACE_DATABASE).")] = None,
    project: ProjectOption = None,
) -> None:
    """Try a suite on a file, or on a table where it lies; exit 1 if it fails."""
    from millrace.cli.gate import run

    verdict = run(ProjectTree.at(project), pipeline, suite, file, table).verdict
    for found in verdict.checks:
        print(f"{'passed' if found.passed else 'FAILED'}  {found.message}")
        for example in found.examples if not found.passed else ():
            print(f"        such as {example}")
    print(f"{len(verdict.checks)} checks, {len(verdict.failures)} failed")
    if not verdict.passed:
        raise typer.Exit(1)


def _say_overdue(tree: ProjectTree, name: str) -> None:
    """That the model of a pipeline must be reviewed before another version is promoted."""
    inventory = tree.spec(name).inventory
    why = inventory.overdue(datetime.now(UTC).date()) if inventory else None
    if why:
        print(f"{name}: no version is promoted: {why}")


def _say_stale(tree: ProjectTree, names: list[str]) -> None:
    """What of the published features the files no longer make; no word where this machine does not reach the store."""
    from millrace.cli.rebuild import stale

    for name in names:
        try:
            text = stale(tree, Settings.load(tree.root), name).text
        except (StoreError, Unavailable):
            return
        if text:
            print(text)
