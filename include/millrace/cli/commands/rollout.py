"""Commands about rollouts: status, pause, resume, hasten, abort, rollback; and stop, start, force."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.cli.commands.ledger import opened
from millrace.cli.options import ProjectOption
from millrace.core.settings import Settings
from millrace.spec import ProjectTree

if TYPE_CHECKING:
    from millrace.ledger import Ledger
    from millrace.ledger.rollouts import Steering
    from millrace.store import ObjectStore

PipelineArgument = Annotated[str, typer.Argument(help="Whose rollout.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the ledger with your name.")]
VersionOption = Annotated[int | None, typer.Option("--version", help="Default: the one on its way, or the champion.")]


def status(pipeline: PipelineArgument, project: ProjectOption = None) -> None:
    """Say which versions answer, how the rollout stands, and what guards have said."""
    from millrace.cli.rollout import status as lines

    for line in lines(*_at(project, pipeline), pipeline):
        print(line)


def pause(pipeline: PipelineArgument, reason: ReasonOption, project: ProjectOption = None) -> None:
    """Let the rollout stay where it is; guards go on watching."""
    _steer(project, pipeline, "pause", reason)


def resume(pipeline: PipelineArgument, reason: ReasonOption, project: ProjectOption = None) -> None:
    """Let a paused rollout go on."""
    _steer(project, pipeline, "resume", reason)


def hasten(pipeline: PipelineArgument, reason: ReasonOption, project: ProjectOption = None) -> None:
    """Let the rollout take its next step at once, unless a guard has seen harm."""
    _steer(project, pipeline, "hasten", reason)


def abort(pipeline: PipelineArgument, reason: ReasonOption, project: ProjectOption = None) -> None:
    """End the rollout: the champion answers alone, and the version may be released again."""
    _steer(project, pipeline, "abort", reason)


def rollback(
    pipeline: PipelineArgument, reason: ReasonOption, version: VersionOption = None, project: ProjectOption = None
) -> None:
    """Take a version out of the traffic at once; of a champion, bring the one before back. Its model is quarantined."""
    from millrace.cli.rollout import roll_back
    from millrace.spec import Placed

    ledger, objects = _at(project, pipeline)
    tree = ProjectTree.at(project)
    approval = Placed.of(tree, Settings.load(tree.root).environment, pipeline).approval.by == "human"
    made = roll_back(ledger, objects, pipeline, version, by=getpass.getuser(), reason=reason, approval=approval)
    bad = made.quarantined
    print(f"{pipeline} version {bad.version} answers no more: rolled back by {bad.by} ({bad.why})")
    if made.release is not None and made.release.state == "approved":
        print(f"Version {made.release.version} answers, and becomes champion by {pipeline}__rollback in Airflow")


def stop(pipeline: PipelineArgument, reason: ReasonOption, project: ProjectOption = None) -> None:
    """Let no model answer: the constant of the fallback, or 503."""
    _toggle(project, pipeline, reason, stopped=True)


def start(pipeline: PipelineArgument, reason: ReasonOption, project: ProjectOption = None) -> None:
    """Take back 'stop' and 'force'."""
    _toggle(project, pipeline, reason)


def force(
    pipeline: PipelineArgument,
    version: Annotated[int, typer.Option("--version", help="One of those that the plan names.")],
    reason: ReasonOption,
    project: ProjectOption = None,
) -> None:
    """Let one version of the plan answer everything."""
    _toggle(project, pipeline, reason, version=version)


def _steer(project: Path | None, pipeline: str, what: Steering, reason: str) -> None:
    from millrace.cli.rollout import steer
    from millrace.ledger import rollout_words

    made = steer(*_at(project, pipeline), pipeline, what, by=getpass.getuser(), reason=reason)
    print(f"{pipeline} version {made.version}: {rollout_words(made)}")


def _toggle(
    project: Path | None, pipeline: str, reason: str, *, stopped: bool = False, version: int | None = None
) -> None:
    from millrace.cli.rollout import toggle

    made = toggle(*_at(project, pipeline), pipeline, by=getpass.getuser(), reason=reason, stopped=stopped,
                  version=version)  # fmt: skip
    what = "no model answers" if stopped else f"version {version} answers everything" if version else "as planned"
    print(f"{pipeline}: {what} (plan {made.generation})")


def _at(project: Path | None, pipeline: str) -> tuple[Ledger, ObjectStore]:
    from millrace.store import open_store

    tree = ProjectTree.at(project)
    tree.spec(pipeline)
    settings = Settings.load(tree.root)
    return opened(settings), open_store(settings.store)
