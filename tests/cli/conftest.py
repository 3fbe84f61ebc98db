"""The command as a person calls it, and a project to call it in."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest


class Said(NamedTuple):
    """What a call of the command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """Only a project's own state: no variable of the person who runs the tests."""
    import os

    for name in [n for n in os.environ if n.startswith(("MILLRACE_", "AIRFLOW"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def feast() -> None:
    """Import Feast once: without it each check would start a process of its own for that."""
    import millrace.feast_stores  # noqa: F401


@pytest.fixture
def millrace(feast, monkeypatch, capsys) -> Callable[..., Said]:
    """Call `millrace <words>` in this process."""
    from millrace.cli import app

    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["millrace", *map(str, words)])
        capsys.readouterr()
        try:
            app.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    """What `millrace init shop` and `millrace new visits` write."""
    from millrace.cli import scaffold
    from millrace.spec import ProjectTree

    folder = tmp_path_factory.mktemp("written") / "shop"
    scaffold.init(folder)
    scaffold.new(ProjectTree(folder), "visits")
    return folder


@pytest.fixture
def shop(written, tmp_path, monkeypatch) -> Path:
    """A copy that a test may break, as working directory."""
    folder = tmp_path / "shop"
    shutil.copytree(written, folder)
    monkeypatch.chdir(folder)
    return folder
