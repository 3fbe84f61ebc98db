"""Commands about what a version rests on: evidence, card, reproduce, import."""

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


def card(
    pipeline: PipelineArgument,
    version: VersionArgument,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; default: standard output.")] = None,
    public_key: PublicKeyOption = None,
    project: ProjectOption = None,
) -> None:
    """Write a version's model card as one HTML page, with its approvals and what was verified just now."""
    from millrace.cli import evidence as found

    tree = ProjectTree.at(project)
    settings = Settings.load(tree.root)
    html = found.card_of(found.subject(settings, opened(settings), pipeline, version, public_key))
    if output is None:
        typer.echo(html.decode())
    else:
        output.write_bytes(html)
        print(f"wrote {output}")


def reproduce(pipeline: PipelineArgument, version: VersionArgument, project: ProjectOption = None) -> None:
    """Train a version again from its Evidence alone, in a scratch place, and compare; exit 1 if it is not the same."""
    import tempfile

    from millrace.cli.reproduce import TOLERANCE
    from millrace.cli.reproduce import reproduce as again
    from millrace.evidence.subject import evidence_of, registered
    from millrace.store import open_store

    tree = ProjectTree.at(project)
    settings = Settings.load(tree.root)
    known = registered(opened(settings), pipeline, version)
    with tempfile.TemporaryDirectory(prefix="millrace-reproduce-") as place:
        found = again(tree, settings, evidence_of(open_store(settings.store), known.evidence), Path(place), print)
    what = f"{pipeline} version {version}"
    if found.model_equal:
        print(f"{what}: reproduced, equal bytes")
        return
    for line in found.differing:
        print(f"not as it was: {line}")
    if found.holds:
        print(
            f"{what}: reproduced within {TOLERANCE:.0%} of each metric; elsewhere than it was trained, bytes may differ"
        )
        return
    print(f"{what}: NOT reproduced" + ("" if found.differing else ": all is as it was, and the bytes are not"))
    raise typer.Exit(1)


def import_(
    pipeline: Annotated[str, typer.Argument(help="Whose model it is to be.")],
    file: Annotated[
        Path, typer.Argument(help="Weights: .ubj (XGBoost), .safetensors or .onnx.", exists=True, dir_okay=False)
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the Evidence.")],
    card: Annotated[
        Path | None,
        typer.Option(
            "--card", help="Its model.json, where features are no plain numbers.", exists=True, dir_okay=False
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Last partition it is judged on; default: the newest.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Judge a model that was trained elsewhere as one of one's own, and register it; exit 1 if it does not pass."""
    import getpass

    from millrace.cli.importing import bring

    tree = ProjectTree.at(project)
    settings = Settings.load(tree.root)
    found = bring(
        tree, settings, opened(settings), pipeline, file,
        reason=reason, by=getpass.getuser(), card=card, until=until, say=print,
    )  # fmt: skip
    if not found.passed:
        print(f"{pipeline}: the model did not pass; nothing is registered")
        raise typer.Exit(1)
    print(f"{pipeline}: imported as version {found.version}")
    print(f"Next: millrace promote {pipeline} --to {found.version} --reason ..")
