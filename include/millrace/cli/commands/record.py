"""Commands about releases: promote, champion."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.cli.commands.ledger import opened
from millrace.cli.options import ProjectOption
from millrace.core.settings import Settings
from millrace.spec import ProjectTree


def promote(
    pipeline: Annotated[str, typer.Argument(help="Whose champion.")],
    to: Annotated[int, typer.Option("--to", help="A challenger's version, or one that was champion: a rollback.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")],
    project: ProjectOption = None,
) -> None:
    """Ask for the release of a version, new or old, by a run of the pipeline's release DAG."""
    from millrace.cli.promotion import promote as ask

    tree = ProjectTree.at(project)
    settings = Settings.load(tree.root)
    started = ask(tree, settings, opened(settings), pipeline, to, reason)
    what = "rollback" if started.rollback else "release"
    print(f"started the {what} of {pipeline} to version {to}: run {started.run_id} of {started.dag_id}")
    print(f"  {started.url}")
    if started.by == "human":
        print("It waits for an approval in Airflow, under Required actions")
    if started.paused:
        print(f"The DAG is paused: the run waits until somebody unpauses {started.dag_id}")


def champion(
    pipeline: Annotated[str, typer.Argument(help="Whose champion.")],
    at: Annotated[str | None, typer.Option("--at", help="A time with its zone; default: now.")] = None,
    project: ProjectOption = None,
) -> None:
    """Say which version is champion, or was at a time."""
    from millrace.cli.promotion import champion_at

    tree = ProjectTree.at(project)
    tree.spec(pipeline)
    ledger = opened(Settings.load(tree.root))
    found, moment = champion_at(ledger, pipeline, at)
    when = f" at {moment.isoformat()}" if moment else ""
    if found is None:
        print(f"{pipeline}: no champion{when}")
        return
    print(f"{pipeline}: version {found.version}{when}, since {found.since:%Y-%m-%d %H:%M:%S} UTC "
          f"(generation {found.generation})")  # fmt: skip
    print(f"  trained to {found.trained.trained_to} because: {found.trained.reason}")
    if found.reason:
        print(f"  released because: {found.reason}")
    print(f"  model {found.model_digest}, Evidence {found.evidence_digest}")
    life = next((each for each in ledger.lives(pipeline) if each.version == found.version), None)
    if moment is None and life is not None and life.state != "champion" and life.moved is not None:
        print(f"  {life.state.upper()}: {life.moved.reason} ({life.moved.by}); release another version")
