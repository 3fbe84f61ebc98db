"""Commands about the life of model versions: versions, aliases, quarantine, reinstate, retire."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Literal

import typer

from millrace.cli.commands.ledger import opened
from millrace.cli.options import ProjectOption
from millrace.core.settings import Settings
from millrace.spec import ProjectTree

PipelineArgument = Annotated[str, typer.Argument(help="Whose version.")]
VersionArgument = Annotated[int, typer.Argument(help="Its number.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")]


def versions(pipeline: Annotated[str, typer.Argument(help="Whose versions.")], project: ProjectOption = None) -> None:
    """Say of every registered version in which state it is: candidate, challenger, champion, retired, quarantined."""
    tree = ProjectTree.at(project)
    tree.spec(pipeline)
    for life in opened(Settings.load(tree.root)).lives(pipeline):
        text = f"version {life.version}: {life.state}"
        if life.serving and life.state != "champion":
            text += ", AND STILL THE CHAMPION OF RECORD: release another version"
        if life.moved is not None:
            text += f" ({life.moved.reason}; {life.moved.by})"
        print(text)


def aliases(
    pipeline: Annotated[str, typer.Argument(help="Whose registered model.")], project: ProjectOption = None
) -> None:
    """Find MLflow aliases and runs changed past the ledger; set right where the environment says, else exit 1."""
    from millrace.cli.aliases import look
    from millrace.spec import Placed
    from millrace.store import open_store

    tree = ProjectTree.at(project)
    settings = Settings.load(tree.root)
    policy = Placed.of(tree, settings.environment, pipeline).environment.aliases
    wrong = look(opened(settings), open_store(settings.store), settings.mlflow, pipeline, revert=policy == "revert")
    for each in wrong:
        print(f"{pipeline}: {each}{'; set right' if policy == 'revert' else ''}")
    if not wrong:
        print(f"{pipeline}: MLflow's aliases and runs are as the ledger has it")
    if wrong and policy == "report":
        raise typer.Exit(1)


def quarantine(
    pipeline: PipelineArgument, version: VersionArgument, reason: ReasonOption, project: ProjectOption = None
) -> None:
    """Keep a version from being released; its open request ends. A champion stays until another is released."""
    _move(project, pipeline, version, "quarantined", reason)


def reinstate(
    pipeline: PipelineArgument, version: VersionArgument, reason: ReasonOption, project: ProjectOption = None
) -> None:
    """Let a version out of quarantine."""
    _move(project, pipeline, version, "candidate", reason)


def retire(
    pipeline: PipelineArgument, version: VersionArgument, reason: ReasonOption, project: ProjectOption = None
) -> None:
    """End the life of a version for good: it is never released again."""
    _move(project, pipeline, version, "retired", reason)


def erase(
    pipeline: Annotated[str, typer.Argument(help="Whose data.")],
    keys: Annotated[Path, typer.Option("--keys", help="CSV: columns that name a subject, then a row for each.")],
    reason: ReasonOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it only says what would be done.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the Snapshots' bytes away too, all rows of them, for good.")
    ] = False,
    project: ProjectOption = None,
) -> None:
    """Find the data and versions that hold rows of subjects that withdrew; quarantine them as the environment says."""
    from millrace.cli.erasure import carry_out, find
    from millrace.core.errors import MillraceError
    from millrace.spec import Placed
    from millrace.store import open_store

    tree = ProjectTree.at(project)
    settings = Settings.load(tree.root)
    policy = Placed.of(tree, settings.environment, pipeline).environment.erasure
    if not reason.strip():
        raise MillraceError("it needs a reason, which the ledger keeps", next_step="Say why, with --reason")
    objects, ledger = open_store(settings.store), opened(settings)
    found = find(objects, ledger, pipeline, keys)
    print(f"{found.count} subjects by {', '.join(found.columns)} ({found.keys[:19]})")
    for each in found.snapshots:
        print(f"{each.dataset} of {each.partition}: {each.rows} rows of theirs ({each.snapshot[:19]})")
    if found.segments:
        print(
            f"shipped prediction logs: {sum(found.segments.values())} rows of theirs in {len(found.segments)} segments"
        )
    print(f"versions trained on rows of theirs: {', '.join(map(str, found.versions)) or 'none'}")
    if found.unread:
        print(f"not looked into, as it has no such columns: {', '.join(found.unread)}")
    if found.unsure:
        print(f"cannot be said of versions whose Evidence cannot be read: {', '.join(map(str, found.unsure))}")
    what = [*(["versions are put into quarantine"] if policy == "quarantine" and found.versions else []),
            *(["the bytes of these Snapshots are taken away"] if remove and found.snapshots else []),
            *(["these rows are taken out of the prediction logs"] if remove and found.segments else [])]  # fmt: skip
    said = " and ".join(what) or "it is put on record"
    if not yes:
        print(f"Nothing was done. With --yes {said}")
        return
    carry_out(objects, ledger, pipeline, found, reason=reason.strip(), by=getpass.getuser(),
              quarantine=policy == "quarantine", remove=remove)  # fmt: skip
    print(f"Done: {said}")
    for life in ledger.lives(pipeline):
        if life.version in found.versions and life.serving:
            print(f"Version {life.version} is the champion of record and goes on scoring until another is released")


def _move(
    project: Path | None, pipeline: str, version: int, to: Literal["quarantined", "retired", "candidate"], reason: str
) -> None:
    from millrace.core.errors import MillraceError
    from millrace.ledger import Moved

    tree = ProjectTree.at(project)
    tree.spec(pipeline)
    if not reason.strip():
        raise MillraceError("it needs a reason, which the ledger keeps", next_step="Say why, with --reason")
    event = Moved(pipeline=pipeline, version=version, to=to, reason=reason.strip(), by=getpass.getuser())
    life = opened(Settings.load(tree.root)).move(event)
    print(f"{pipeline} version {version}: {life.state}")
    if life.serving and life.state != "champion":
        print(f"It is still the champion of record and goes on scoring until another version is released, such as by "
              f"'millrace promote {pipeline} --to VERSION --reason ..'")  # fmt: skip
