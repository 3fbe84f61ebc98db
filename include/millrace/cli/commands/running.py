"""Commands for what runs on this machine, and what it leaves: up, down, env, serve, collect."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from millrace.cli.options import ProjectOption
from millrace.core.settings import Settings
from millrace.spec import ProjectTree


def up(
    project: ProjectOption = None,
    also: Annotated[list[Path] | None, typer.Option("--also", help="Further projects for the same Airflow.")] = None,
    user: Annotated[
        list[str] | None, typer.Option("--user", metavar="NAME:ROLE", help="A further user: viewer, user, op or admin.")
    ] = None,
) -> None:
    """Start Airflow and the MLflow UI for this project on free ports."""
    from millrace.local.stack import up as start

    tree = ProjectTree.at(project)
    settings = Settings.load(tree.root)
    approval = tree.environment(settings.environment).approval.by
    people = {name: role for name, _, role in (given.partition(":") for given in user or [])}
    running = start(tree, settings, [ProjectTree.at(path) for path in also or []], people)
    print(f"Environment: {settings.environment} (approval: {approval})")
    for name, password in running.passwords.items():
        print(f"Airflow: {running.airflow_url}   user {name}   password {password}")
    print(f"MLflow:  {running.mlflow_url}")
    for what, url in running.serving_urls.items():
        print(f"Serving: {url}   ({what}; OpenAPI: {url}/openapi.json)")
    print('The airflow command in this shell:  eval "$(millrace env)"')
    print("Stop both with: millrace down")


def down(project: ProjectOption = None) -> None:
    """Stop what `up` started; state stays."""
    from millrace.local.stack import down as stop

    tree = ProjectTree.at(project)
    print("stopped" if stop(Settings.load(tree.root)) else "nothing was running")


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


def serve(
    project: ProjectOption = None,
    only: Annotated[
        list[str] | None,
        typer.Argument(help="Pipelines; all that have a plan if left out, but for those with a trainer.py."),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="0: any free one.")] = 8800,
    host: Annotated[
        str, typer.Option("--host", help="Beyond this machine only with tokens or an issuer.")
    ] = "127.0.0.1",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that answer.")] = 1,
    buffered: Annotated[
        bool, typer.Option("--buffered", help="Answer before the disk has the prediction log.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option("--log", help="Folder of the prediction log, of this server alone.")
    ] = None,
) -> None:
    """Answer predictions over HTTP until stopped; `python -m millrace.serving --help` has all options."""
    from millrace.local.serving import serving_command

    tree = ProjectTree.at(project)
    further = ["--host", host, "--workers", str(workers), *(["--buffered"] if buffered else [])]
    if log is not None:
        further += ["--log", str(log)]
    command = serving_command([tree], Settings.load(tree.root), port=port, only=only or [], further=further)
    # in this process' place: what serves has none of what a command line imports
    os.execv(command[0], command)


def serving_policy(
    pipeline: Annotated[str, typer.Argument(help="Pipeline that has a server of its own.")],
    principal: Annotated[
        str, typer.Option("--principal", help="User of the key: makes it a bucket's policy instead of the user's.")
    ] = "",
    store: Annotated[str, typer.Option("--store", help="s3://bucket/prefix; default: the project's.")] = "",
    project: ProjectOption = None,
) -> None:
    """Print the S3 policy of a key with which one pipeline's prediction server reads and writes what it must."""
    import json

    from millrace.store.policy import serving_policy as policy

    tree = ProjectTree.at(project)
    tree.spec(pipeline)
    print(json.dumps(policy(store or Settings.load(tree.root).store, pipeline, principal), indent=2))


def collect(project: ProjectOption = None) -> None:
    """Remove what killed writers left in the store, older than a day."""
    from millrace.store import SnapshotStore, open_store

    tree = ProjectTree.at(project)
    left = SnapshotStore(open_store(Settings.load(tree.root).store)).collect()
    print(f"{len(left)} leftover object{'' if len(left) == 1 else 's'} removed")
