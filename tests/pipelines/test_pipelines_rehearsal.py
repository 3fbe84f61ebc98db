"""The project of the demo's last minute: each of its faults is one that checks, gates and evaluation let through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo import rehearsal
from millrace.spec import ProjectTree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def written(tmp_path: Path) -> ProjectTree:
    return rehearsal.write(ProjectTree(ROOT), tmp_path / "home", tmp_path / "home" / "demo" / "rollout")


def test_what_it_writes_is_a_pipeline_without_problems(written: ProjectTree):
    rehearsal.plant(ProjectTree(ROOT), written, rehearsal.FAULTS["one carrier always late"])
    done = subprocess.run(
        [sys.executable, "-m", "millrace.cli.app", "check"], cwd=written.root, capture_output=True, text=True
    )
    assert done.returncode == 0 and "no problems" in done.stdout, done.stdout + done.stderr


def test_its_state_is_that_of_the_project_it_was_written_for(written: ProjectTree, tmp_path: Path):
    assert (written.root / ".millrace").resolve() == tmp_path / "home"
    assert rehearsal.write(ProjectTree(ROOT), tmp_path / "home", written.root) == written
    spec = written.spec(rehearsal.NAME)
    assert spec.serving is not None and spec.serving.rollout.strategy == "canary"


def test_a_label_that_is_written_otherwise_is_not_left_as_it_is(written: ProjectTree, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(rehearsal, "LABEL", "CAST(s.arr_delay > 30 AS BIGINT) AS late")
    with pytest.raises(ValueError, match="another label"):
        rehearsal.plant(ProjectTree(ROOT), written, rehearsal.NONE)
