"""Commands about what a version rests on: evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from millrace.cli.commands.ledger import opened
from millrace.cli.options import ProjectOption
from millrace.core.settings import Settings
from millrace.spec import ProjectTree

PipelineArgument = Annotated[str, typer.Argument(help="Whose version.")]
VersionArgument = Annotated[int, typer.Argument(help="Its number.")]
PublicKeyOption = Annotated[
    Path | None, typer.Option("--public-key", help="Instead of MILLRACE_SIGNING_PUBLIC_KEY.", dir_okay=False)
]


def evidence(
    pipeline: PipelineArgument,
    version: VersionArgument,
    json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
    export: Annotated[
        Path | None, typer.Option("--export", help="Also write the signed folder there, to be verified elsewhere.")
    ] = None,
    public_key: PublicKeyOption = None,
    project: ProjectOption = None,
) -> None:
    """Verify offline what a version rests on: digests, verdicts, approvals, signature; exit 1 if anything is wrong."""
    from millrace.cli import evidence as found
    from millrace.evidence.verification import verify

    tree = ProjectTree.at(project)
    settings = Settings.load(tree.root)
    given = found.subject(settings, opened(settings), pipeline, version, public_key)
    findings = verify(given)
    if json:
        print(found.as_json(pipeline, version, findings))
    else:
        for line in found.lines(findings):
            print(line)
    if export is not None:
        for line in found.write(given, export):
            typer.echo(line, err=json)
    if any(each.holds is False for each in findings):
        raise typer.Exit(1)
