"""Commands that write files of a project: init, new, schema."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from millrace.cli.options import ProjectOption
from millrace.core.errors import MillraceError
from millrace.spec import ProjectTree


def init(folder: Annotated[Path, typer.Argument(help="Nothing in it is overwritten.")]) -> None:
    """Write a new project."""
    from millrace.cli.scaffold import init as write

    for path in write(folder):
        print(f"wrote {path}")
    print(f"Next: cd {shlex.quote(str(folder))} && millrace new my_pipeline")


def new(
    name: Annotated[str, typer.Argument(help="Lower case, digits, underscores.")],
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Further files of --from.")] = None,
    data: Annotated[list[Path] | None, typer.Option(
        "--from", metavar="FILE...", help="Delivered files, a source each, from which it is proposed.")] = None,
    project: ProjectOption = None,
) -> None:  # fmt: skip
    """Write a pipeline into the project: one that works on sample data, or one proposed from data of your own."""
    from millrace.cli.scaffold import new as write

    if files and not data:
        raise MillraceError("one pipeline at a time", given=str(files[0]),
                            next_step=f"To propose it from files: millrace new {name} --from FILE...")  # fmt: skip
    tree = ProjectTree.at(project)
    made = write(tree, name, [*(data or []), *(files or [])])
    for path in made.paths:
        print(f"wrote {path}")
    if data:
        print("Each guess in them is marked '# guessed' (-- in SQL): read them all")
        print(f"Next: millrace check {name} && millrace try {name} {made.partition}")
    else:
        print("Next: millrace check && millrace apply && millrace up")


def schema(
    check: Annotated[bool, typer.Option("--check", help="Only say whether they are up to date.")] = False,
    project: ProjectOption = None,
) -> None:
    """Write the JSON Schemas with which an editor completes and checks the project's files."""
    from millrace.cli import schemas

    tree = ProjectTree.at(project)
    if check:
        if stale := schemas.differing(tree):
            raise MillraceError(
                "schemas are out of date",
                given=", ".join(path.name for path in stale),
                next_step="Run 'millrace schema' and commit",
            )
        print("schemas are up to date")
        return
    for path in schemas.write(tree):
        print(f"wrote {path}")
