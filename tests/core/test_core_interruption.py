"""A training that is asked to leave at any moment, and goes on later, ends with the bytes of an undisturbed one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.core import interruption
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.files import check_weights
from millrace.models.protocol import Column, Matrix, Settings
from millrace.spec.learner import LEARNERS
from millrace.store import open_store

SAMPLING: dict[str, Any] = {
    "kind": "xgboost",
    "rounds": 24,
    "max_depth": 3,
    "subsample": 0.6,
    "colsample_bytree": 0.7,
    "segments": 3,
}
PLAIN = {**SAMPLING, "subsample": 1, "colsample_bytree": 1}
MLP: dict[str, Any] = {
    "kind": "torch_mlp",
    "hidden": [16],
    "epochs": 6,
    "batch_size": 100,
    "dropout": 0.2,
    "learning_rate": 0.01,
    "segments": 3,
}
BATCHES = 9  # of an epoch of 900 rows


def data(task: str = "binary", count: int = 1200) -> tuple[Matrix, Matrix]:
    random = np.random.default_rng(0)
    x, city = random.normal(size=count), random.integers(1, 4, count)
    y = x + (city == 2) + random.normal(0, 0.5, count)
    label = {"binary": y > 0.5, "multiclass": np.digitize(y, [-0.3, 0.8]), "regression": y}[task].astype(np.float64)
    columns = (Column("x", "number"), Column("city", "category", 3))
    rows = Matrix(columns, np.column_stack([x, city]), label)
    return rows.take(np.arange(count) < 900), rows.take(np.arange(count) >= 900)


class Asked:
    """Stands for the signal: the answer to `leaving.asked` is yes from the given look on."""

    def __init__(self, look: int | None) -> None:
        self.look, self.looks = look, 0

    def __call__(self) -> bool:
        self.looks += 1
        return self.look is not None and self.looks >= self.look


@pytest.fixture
def leave_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_moment(look: int | None, seconds: float = 0.0) -> None:
        monkeypatch.setattr(interruption, "asked", Asked(look))
        monkeypatch.setattr(interruption, "seconds_left", lambda: seconds)

    return set_moment


def fit(
    given: dict[str, Any], checkpoints: Checkpoints, task: str = "binary", report: Any = lambda points: None
) -> Any:
    params = LEARNERS.resolve(given["kind"]).model_validate(given)
    train, holdout = data(task)
    settings = Settings(task, 7, 1, 3 if task == "multiclass" else 0)  # type: ignore[arg-type]
    return learner_of(params).fit(train, holdout, params, settings, checkpoints, report)


def kept(tmp_path: Path) -> Checkpoints:
    return Checkpoints(open_store(tmp_path), "c", "sha256:r")


@pytest.mark.parametrize("look", [1, 2, 9, 10, 17, 20, 29, 50, 54])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_torch_keeps_every_batch(tmp_path: Path, leave_at: Any, look: int, task: str) -> None:
    undisturbed = fit(MLP, Checkpoints(), task)

    leave_at(look)
    with pytest.raises(interruption.Interrupted) as said:
        fit(MLP, kept(tmp_path), task)
    epochs, batches = divmod(look - 1, BATCHES)
    assert f"{epochs} of 6 epochs and {batches} of 9 batches of the next are kept" in str(said.value)
    assert said.value.retry == "resume"

    # when it goes on, then it looks once before each batch that is left, and at nothing that was done
    leave_at(None)
    reported: list[Any] = []
    again = fit(MLP, kept(tmp_path), task, reported.append)
    assert interruption.asked.looks == 6 * BATCHES - look + 1  # type: ignore[attr-defined]
    assert again.data == undisturbed.data
    assert again.curve == undisturbed.curve
    assert len(reported[0]) == epochs
    assert [step for points in reported for step, _ in points] == [1, 2, 3, 4, 5, 6]


def test_torch_may_be_asked_again_and_again(tmp_path: Path, leave_at: Any) -> None:
    undisturbed, tries = fit(MLP, Checkpoints()), 0
    while True:
        leave_at(6)  # five batches a try
        try:
            again = fit(MLP, kept(tmp_path))
            break
        except interruption.Interrupted:
            tries += 1
    assert tries == 10  # 54 batches
    assert again.data == undisturbed.data
    assert again.curve == undisturbed.curve


@pytest.mark.parametrize("look", [1, 5, 8, 9, 10, 17, 23, 25])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_xgboost_without_sampling_keeps_every_round(tmp_path: Path, leave_at: Any, look: int, task: str) -> None:
    undisturbed = fit(PLAIN, Checkpoints(), task)

    leave_at(look)  # it looks after every round, and once more after a segment
    rounds = look - look // 9
    with pytest.raises(interruption.Interrupted, match=f"{rounds} of 24 rounds are kept"):
        fit(PLAIN, kept(tmp_path), task)

    leave_at(None)
    reported: list[Any] = []
    again = fit(PLAIN, kept(tmp_path), task, reported.append)
    assert again.data == undisturbed.data
    assert again.curve == undisturbed.curve
    assert len(reported[0]) == rounds and sum(map(len, reported[1:])) == 24 - rounds


@pytest.mark.parametrize(("seconds", "rounds"), [(1e6, 16), (0.0, 8)], ids=["time enough", "no time"])
def test_xgboost_with_sampling_ends_its_segment_where_it_can(
    tmp_path: Path, leave_at: Any, seconds: float, rounds: int
) -> None:
    undisturbed = fit(SAMPLING, Checkpoints())

    leave_at(12, seconds)  # in the second segment of eight rounds
    with pytest.raises(interruption.Interrupted, match=f"{rounds} of 24 rounds are kept"):
        fit(SAMPLING, kept(tmp_path))

    leave_at(None)
    reported: list[Any] = []
    again = fit(SAMPLING, kept(tmp_path), report=reported.append)
    assert again.data == undisturbed.data
    assert len(reported[0]) == rounds


@pytest.mark.parametrize("given", [PLAIN, MLP], ids=["xgboost", "torch_mlp"])
def test_who_has_nothing_left_to_do_stays(leave_at: Any, given: dict[str, Any]) -> None:
    leave_at(None)
    undisturbed = fit(given, Checkpoints())
    leave_at(interruption.asked.looks + 1 if given is MLP else interruption.asked.looks)  # type: ignore[attr-defined]
    assert fit(given, Checkpoints()).data == undisturbed.data


@pytest.mark.parametrize("given", [PLAIN, MLP], ids=["xgboost", "torch_mlp"])
def test_states_hold_no_code(tmp_path: Path, leave_at: Any, given: dict[str, Any]) -> None:
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args)) if event == "pickle.find_class" else None)
    leave_at(22 if given is MLP else 13)
    with pytest.raises(interruption.Interrupted):
        fit(given, kept(tmp_path))
    states = [path.read_bytes() for path in tmp_path.rglob("*.state")]
    assert len(states) == 2  # of a segment and of a part
    for state in states:
        check_weights("w.ubj" if given is PLAIN else "w.safetensors", state)
    leave_at(None)
    fit(given, kept(tmp_path))
    assert opened == []


def test_parts_stand_between_segments(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path)
    for segment, part in ((1, 0), (1, 900), (1, 1000), (0, 5)):
        checkpoints.save(segment, f"{segment}-{part}".encode(), [], part)
    found = checkpoints.last()
    assert found is not None and (found.segment, found.part, found.data) == (1, 1000, b"1-1000")
    checkpoints.save(2, b"2", [])
    found = checkpoints.last()
    assert found is not None and (found.segment, found.part, found.data) == (2, 0, b"2")
    checkpoints.clear()
    assert not list(tmp_path.rglob("*.state"))


def test_a_request_to_leave_ends_what_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_asked", None)
    assert interruption.seconds_left() == interruption.GRACE
    with interruption.watched():
        interruption.ask()
    assert interruption.asked() and interruption.seconds_left() < interruption.GRACE
    interruption.ask()  # a second signal changes nothing

    monkeypatch.setattr(interruption, "_asked", None)
    with pytest.raises(interruption.Left):
        interruption.ask()
    assert not issubclass(interruption.Left, Exception)
