"""Commands that bring features up to what the files say: apply, rebuild, embed."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.cli.options import ProjectOption
from millrace.core.settings import Settings
from millrace.spec import ProjectTree


def apply(
    delete: Annotated[bool, typer.Option("--delete", help="Also remove what no file defines any more.")] = False,
    project: ProjectOption = None,
) -> None:
    """Bring the project's Feast definitions into the registry; deletes nothing unasked."""
    tree = ProjectTree.at(project)
    from millrace.feast_stores.apply import apply as register  # ten seconds; a wrong folder is said at once

    report = register(tree, Settings.load(tree.root), delete=delete)
    for word, names in (("added", report.added), ("changed", report.changed)):
        for name in names:
            print(f"{word} {name}")
    for name in report.absent:
        print(f"{'deleted' if report.deleted else 'kept, though no file defines it:'} {name}")
    if not (report.added or report.changed or report.absent):
        print("nothing to do")


def rebuild(
    pipeline: Annotated[str, typer.Argument(help="Whose features.")],
    first: Annotated[str | None, typer.Option("--from", help="Partition; default: the first stale one.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Partition; default: the last stale one.")] = None,
    project: ProjectOption = None,
) -> None:
    """Make features anew that an earlier transform.sql, source or embedding made; scores and retrains nothing."""
    from millrace.cli.rebuild import rebuild as start

    tree = ProjectTree.at(project)
    tree.folder(pipeline)
    if not start(tree, Settings.load(tree.root), pipeline, first, last, print):
        print("nothing to do: no published partition is stale")


def embed(
    pipeline: Annotated[str, typer.Argument(help="A pipeline whose features have an embedding.")],
    first: Annotated[str | None, typer.Option("--first", help="Partition; default: the first landed.")] = None,
    last: Annotated[str | None, typer.Option("--last", help="Partition; default: the last landed.")] = None,
    project: ProjectOption = None,
) -> None:
    """Fit a pipeline's embedding on landed partitions, and write it into the pipeline's folder."""
    from millrace.cli.embedding import fit

    tree = ProjectTree.at(project)
    made = fit(tree, Settings.load(tree.root), pipeline, first, last)
    print(f"wrote {made.path}: {made.rows} files of {made.partitions[0]} to {made.partitions[-1]}")
    print(made.digest)
    if made.changed:
        print(f"Its features are stale now: make them anew (millrace rebuild {pipeline}), train, and promote a model")
