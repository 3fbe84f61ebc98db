"""Several processes that train one network: the same as one, but for the order of sums."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.core import interruption
from millrace.core.errors import DataError
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.learners.torch import ranks
from millrace.models.protocol import Column, Matrix, Settings
from millrace.spec.learner import TorchMLPLearner
from millrace.store import open_store

SETTINGS = Settings("binary", 7, 1)
TOLERANCE = 1e-5
"""Largest difference of a predicted probability, as docs/gpu.md states it."""


def data(count: int = 2000) -> tuple[Matrix, Matrix]:
    random = np.random.default_rng(0)
    x, city = random.normal(size=count), random.integers(1, 4, count)
    label = (x + (city == 2) + random.normal(0, 0.5, count) > 0.5).astype(np.float64)
    rows = Matrix((Column("x", "number"), Column("city", "category", 3)), np.column_stack([x, city]), label)
    return rows.take(np.arange(count) < 1501), rows.take(np.arange(count) >= 1501)


def learner(**changes: Any) -> TorchMLPLearner:
    base = {"hidden": [16], "epochs": 4, "batch_size": 100, "learning_rate": 0.01, "segments": 2}
    return TorchMLPLearner.model_validate({**base, **changes})


def fit(params: TorchMLPLearner, checkpoints: Checkpoints | None = None, report: Any = lambda points: None) -> Any:
    return ranks.fit(*data(), params, SETTINGS, checkpoints or Checkpoints(), report, ranks=2)


def test_two_processes_are_one_within_tolerance() -> None:
    params, reported = learner(), []
    two = fit(params, report=reported.extend)
    engine = learner_of(params)
    one = engine.fit(*data(), params, SETTINGS, Checkpoints(), lambda points: None)
    holdout = data()[1]
    first, second = (engine.predictor(w.data, holdout.columns, params, SETTINGS)(holdout) for w in (one, two))
    assert np.abs(first - second).max() < TOLERANCE
    assert two.data != one.data, "was there a second process at all?"
    assert reported == two.curve and [step for step, _ in reported] == [1, 2, 3, 4]
    for (_, mine), (_, theirs) in zip(one.curve, two.curve, strict=True):
        assert mine == pytest.approx(theirs, abs=TOLERANCE)


def test_ranks_that_must_leave_go_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_asked", None)
    params = learner(epochs=8, segments=4, dropout=0.2, batch_size=25)
    checkpoints = Checkpoints(open_store(tmp_path), "c", "sha256:r")

    def ask_after_a_segment() -> None:
        while not list(tmp_path.glob("c/00001.json")):
            time.sleep(0.01)
        interruption.ask()

    asking = threading.Thread(target=ask_after_a_segment)
    asking.start()
    with pytest.raises(interruption.Interrupted, match="batches of the next are kept"):
        fit(params, checkpoints)
    asking.join()
    assert len(list(tmp_path.glob("c/*-*.state"))) == 1

    monkeypatch.setattr(interruption, "_asked", None)
    reported: list[Any] = []
    again = fit(params, checkpoints, reported.extend)
    assert again.data == fit(params).data
    assert [step for step, _ in reported] == list(range(1, 9))


def test_a_killed_rank_ends_all_and_may_be_tried_again(tmp_path: Path) -> None:
    def kill_one() -> None:
        while not list(tmp_path.glob("c/00001.json")):
            time.sleep(0.01)
        os.kill(ranks_of(os.getpid())[-1], signal.SIGKILL)

    params = learner(epochs=200, segments=100, batch_size=25)
    killing = threading.Thread(target=kill_one)
    killing.start()
    with pytest.raises(ranks.RankLost) as said:
        fit(params, Checkpoints(open_store(tmp_path), "c", "sha256:r"))
    killing.join()
    assert said.value.retry == "resume"
    assert ranks_of(os.getpid()) == []


ORPHANS = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_learners_ranks import Checkpoints, fit, learner, open_store
fit(learner(epochs=4000, segments=2000, batch_size=25), Checkpoints(open_store(Path(sys.argv[2])), "c", "sha256:r"))
"""


def test_ranks_do_not_outlive_who_started_them(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ORPHANS, str(Path(__file__).parent), str(tmp_path)])
    while not list(tmp_path.glob("c/00001.json")):
        assert process.poll() is None
        time.sleep(0.01)
    ranks = ranks_of(process.pid)
    assert len(ranks) == 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 40
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < deadline, "they train on for nobody"
        time.sleep(0.05)


def test_what_a_rank_finds_wrong_is_said_as_it_would_be_alone() -> None:
    with pytest.raises(DataError, match="diverged"):
        fit(learner(learning_rate=1e30))


def ranks_of(parent: int) -> list[int]:
    """Processes below a process that run the ranks' module."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, waiting = [], [parent]
    while waiting:
        for child in children.get(waiting.pop(), []):
            waiting.append(child)
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"millrace.learners.torch.ranks" in words and b"torch.distributed.run" not in words:
                found.append(child)
    return found
