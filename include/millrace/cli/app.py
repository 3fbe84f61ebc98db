"""The `millrace` command. Each subcommand imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace import __version__
from millrace.cli.foreign import foreign
from millrace.core.errors import MillraceError, StoreError, Unavailable
from millrace.core.settings import Settings
from millrace.spec import ProjectTree

if TYPE_CHECKING:
    from millrace.ledger import Ledger

app = typer.Typer(
    help="Millrace: from raw data to a model in production, and keeping it good there.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
ledger_app = typer.Typer(help="The hash-chained record of verdicts, promotions and decisions.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
ProjectOption = Annotated[Path | None, typer.Option("--project", help="Project folder; default: the one you are in.")]


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Nothing in it is overwritten.")]) -> None:
    """Write a new project."""
    from millrace.cli.scaffold import init as write

    for path in write(folder):
        print(f"wrote {path}")
    print(f"Next: cd {shlex.quote(str(folder))} && millrace new my_pipeline")


@app.command()
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


@app.command()
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
    _say_stale(tree, names)


@app.command("try")
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def up(
    project: ProjectOption = None,
    also: Annotated[list[Path] | None, typer.Option("--also", help="Further projects for the same Airflow.")] = None,
) -> None:
    """Start Airflow and the MLflow UI for this project on free ports."""
    from millrace.local.stack import up as start

    tree = ProjectTree.at(project)
    running = start(tree, Settings.load(tree.root), [ProjectTree.at(path) for path in also or []])
    print(f"Airflow: {running.airflow_url}   user {running.user}   password {running.password}")
    print(f"MLflow:  {running.mlflow_url}")
    print('The airflow command in this shell:  eval "$(millrace env)"')
    print("Stop both with: millrace down")


@app.command()
def down(project: ProjectOption = None) -> None:
    """Stop what `up` started; state stays."""
    from millrace.local.stack import down as stop

    tree = ProjectTree.at(project)
    print("stopped" if stop(Settings.load(tree.root)) else "nothing was running")


@app.command()
def env(project: ProjectOption = None) -> None:
    """Print the shell variables with which the `airflow` command speaks to this project's Airflow."""
    from millrace.local.stack import airflow_environment

    tree = ProjectTree.at(project)
    settings = Settings.load(tree.root)
    whose = f"project '{tree.project.name}' ({tree.root}), environment '{settings.environment}'"
    print(f"# {whose}")
    for name, value in airflow_environment(tree, settings).items():
        print(f"export {name}={shlex.quote(value)}")
    print(f"airflow: {whose}", file=sys.stderr)  # not for the shell: for who evaluates the rest
    print(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH")


@app.command()
def collect(project: ProjectOption = None) -> None:
    """Remove what killed writers left in the store, older than a day."""
    from millrace.store import SnapshotStore, open_store

    tree = ProjectTree.at(project)
    left = SnapshotStore(open_store(Settings.load(tree.root).store)).collect()
    print(f"{len(left)} leftover object{'' if len(left) == 1 else 's'} removed")


@app.command()
def promote(
    pipeline: Annotated[str, typer.Argument(help="Whose champion.")],
    to: Annotated[int, typer.Option("--to", help="A challenger's version, or one that was champion: a rollback.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")],
    project: ProjectOption = None,
) -> None:
    """Ask for the release of a version, new or old, by a run of the pipeline's release DAG."""
    from millrace.cli.promotion import promote as ask

    tree = ProjectTree.at(project)
    started = ask(tree, Settings.load(tree.root), _ledger(project), pipeline, to, reason)
    what = "rollback" if started.rollback else "release"
    print(f"started the {what} of {pipeline} to version {to}: run {started.run_id} of {started.dag_id}")
    print(f"  {started.url}")
    if started.by == "human":
        print("It waits for an approval in Airflow, under Required actions")
    if started.paused:
        print(f"The DAG is paused: the run waits until somebody unpauses {started.dag_id}")


@app.command()
def champion(
    pipeline: Annotated[str, typer.Argument(help="Whose champion.")],
    at: Annotated[str | None, typer.Option("--at", help="A time with its zone; default: now.")] = None,
    project: ProjectOption = None,
) -> None:
    """Say which version is champion, or was at a time."""
    from millrace.cli.promotion import champion_at

    tree = ProjectTree.at(project)
    tree.spec(pipeline)
    found, moment = champion_at(_ledger(project), pipeline, at)
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


@ledger_app.command()
def verify(project: ProjectOption = None) -> None:
    """Check the hash chain."""
    ledger = _ledger(project)
    print(f"{ledger.verify()} entries, unbroken; head {ledger.head()}")


@ledger_app.command()
def show(
    pipeline: Annotated[str | None, typer.Argument(help="Default: all.")] = None,
    last: Annotated[int, typer.Option("--last", help="How many.", min=1)] = 20,
    project: ProjectOption = None,
) -> None:
    """Print the newest entries."""
    import json

    for entry in _ledger(project).entries(pipeline, limit=last):
        text = json.dumps(entry.body)
        print(f"{entry.seq:6} {entry.at:%Y-%m-%d %H:%M:%S} {entry.pipeline} {entry.kind} {entry.subject} {text[:160]}")


def _ledger(project: Path | None) -> Ledger:
    from millrace.ledger import Ledger

    settings = Settings.load(ProjectTree.at(project).root)
    settings.home.mkdir(parents=True, exist_ok=True)
    return Ledger.open(settings.ledger)


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
