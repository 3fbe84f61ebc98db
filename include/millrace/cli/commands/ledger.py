"""Commands about the ledger's record: verify, show, export, anchor."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.cli.options import ProjectOption
from millrace.core.settings import Settings
from millrace.spec import ProjectTree

if TYPE_CHECKING:
    from millrace.ledger import Ledger

MomentOption = Annotated[str | None, typer.Option(help="A time with its zone.")]


def verify(
    file: Annotated[Path | None, typer.Option("--file", help="An export, in place of the database.")] = None,
    project: ProjectOption = None,
) -> None:
    """Check all chains, and against the anchors; exit 1 and the first bad entry of each chain that does not hold."""
    from millrace.cli import record
    from millrace.store.anchors import Anchors

    settings = _settings(project)
    anchors = Anchors.of(settings)
    kept = anchors.read()
    chains = record.chains_of(file, kept) if file else opened(settings).chains(kept)
    for each in chains:
        print(record.line(each), file=sys.stderr if each.problem else sys.stdout)
    print(record.standing(anchors))
    if any(each.problem for each in chains):
        raise typer.Exit(1)


def show(
    pipeline: Annotated[str | None, typer.Argument(help="Default: all.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Such as gate, approval, promoted.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="What it is about, within its kind.")] = None,
    since: MomentOption = None,
    until: MomentOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="How many, the newest; default: all.", min=1)] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    project: ProjectOption = None,
) -> None:
    """Print entries, each whole, in the order in which they were made."""
    from millrace.cli import record

    found = opened(_settings(project)).entries(
        pipeline, kind, subject, limit, _moment("--since", since), _moment("--until", until)
    )
    for entry in found:
        print(record.as_json(entry) if json else record.as_text(entry))


def export(
    file: Annotated[Path | None, typer.Argument(help="Default: standard output.")] = None,
    project: ProjectOption = None,
) -> None:
    """Write all entries with their hashes as JSON lines, which 'verify --file' checks without the database."""
    from millrace.cli import record

    ledger = opened(_settings(project))
    if file is None:
        ledger.export(lambda row: print(record.row_as_json(row)))
        return
    with file.open("w", encoding="utf-8") as out:
        count = ledger.export(lambda row: print(record.row_as_json(row), file=out))
    print(f"wrote {count} entries to {file}")


def anchor(project: ProjectOption = None) -> None:
    """Check all chains, then anchor the newest entry of each, and let a promotion count that was killed before it."""
    from millrace.cli import record
    from millrace.store.anchors import Anchors

    settings = _settings(project)
    anchors = Anchors.of(settings)
    for each in record.anchor(opened(settings), anchors):
        print(record.line(each))
    print(record.standing(anchors))


def opened(settings: Settings) -> Ledger:
    """The ledger, in a folder that is made where there is none."""
    from millrace.ledger import Ledger

    settings.home.mkdir(parents=True, exist_ok=True)
    return Ledger.open(settings.ledger)


def _settings(project: Path | None) -> Settings:
    return Settings.load(ProjectTree.at(project).root)


def _moment(option: str, text: str | None) -> datetime | None:
    from millrace.cli.promotion import moment

    return moment(option, text) if text is not None else None
