"""The `millrace` command: its subcommands in the order of `--help`, and what a person sees of an error.

Each subcommand imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from millrace import __version__
from millrace.cli.commands import evidence as proof
from millrace.cli.commands import features, judging, lifecycle, record, running, shipping, writing
from millrace.cli.commands import ledger as entries
from millrace.cli.commands import rollout as rollouts
from millrace.cli.foreign import foreign
from millrace.core.errors import MillraceError

app = typer.Typer(
    help="Millrace: from raw data to a model in production, and keeping it good there.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
for command in (
    writing.init,
    writing.new,
    judging.check,
    judging.try_,
    features.rebuild,
    features.apply,
    writing.schema,
    judging.gate,
    features.embed,
    running.up,
    running.down,
    running.env,
    running.serve,
    running.serving_policy,
    running.collect,
    shipping.ship_log,
    record.promote,
    record.champion,
    proof.evidence,
    proof.card,
    proof.reproduce,
    proof.import_,
    lifecycle.versions,
    lifecycle.aliases,
    lifecycle.quarantine,
    lifecycle.reinstate,
    lifecycle.retire,
    lifecycle.erase,
):
    app.command(command.__name__.rstrip("_").replace("_", "-"))(command)
ledger = typer.Typer(help="The hash-chained record of verdicts, promotions and decisions.", no_args_is_help=True)
app.add_typer(ledger, name="ledger")
for entry in (entries.verify, entries.show, entries.export, entries.anchor):
    ledger.command(entry.__name__)(entry)
rollout = typer.Typer(help="How a new version takes over, and what a person may do to it.", no_args_is_help=True)
app.add_typer(rollout, name="rollout")
for action in (
    rollouts.status,
    rollouts.pause,
    rollouts.resume,
    rollouts.hasten,
    rollouts.abort,
    rollouts.rollback,
    rollouts.stop,
    rollouts.start,
    rollouts.force,
):
    rollout.command(action.__name__)(action)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if note := foreign():
        print(f"millrace: {note}", file=sys.stderr)


def main() -> None:
    """Entry point: errors are plain text on stderr and exit code 1."""
    try:
        app()
    except MillraceError as err:
        print(f"millrace: {err}", file=sys.stderr)
        sys.exit(1)
    except OSError as err:  # a folder that cannot be written, a full disk
        print(f"millrace: {err.strerror or err}: {err.filename or 'no file named'}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
