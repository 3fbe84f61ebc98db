"""The command that ships what a server which is gone has left on its disk."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from millrace.cli.options import ProjectOption


def ship_log(
    folder: Annotated[Path, typer.Argument(help="Log folder of a server, with a folder for each worker.")],
    server: Annotated[str, typer.Option("--server", help="Whose log it is; default: this machine's name.")] = "",
    store: Annotated[
        str, typer.Option("--store", envvar="MILLRACE_STORE", help="Folder or s3://..; default: the project's.")
    ] = "",
    project: ProjectOption = None,
) -> None:
    """Ship the prediction log that a server left, its open segments too; exit 1 where not all is in the store."""
    from millrace.core.settings import Settings
    from millrace.serving.shipping import ship
    from millrace.spec import ProjectTree
    from millrace.store import open_store

    if not folder.is_dir():
        raise typer.BadParameter(f"there is no folder {folder}")
    objects = open_store(store or Settings.load(ProjectTree.at(project).root).store)
    found = ship(folder, objects, server or socket.gethostname(), left_for=0)
    print(f"{found.segments} segments with {found.records} records are in the store")
    for path in found.set_aside:
        print(f"broken, and set aside: {path}")
    if found.away is not None:
        print(f"{found.waiting} segments are still here: {found.away}")
    if found.away is not None or found.set_aside:
        raise typer.Exit(1)
