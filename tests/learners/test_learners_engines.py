from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from millrace.core.canonical import digest
from millrace.core.errors import DataError, MillraceError
from millrace.evaluation.importance import importance
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import check_finite, learner_of, segment_bounds
from millrace.models.encoding import Encoder
from millrace.models.metrics import metrics
from millrace.models.protocol import Matrix, Settings, engine_of
from millrace.spec.learner import LEARNERS, XGBoostLearner
from millrace.spec.training import TrainingSpec
from millrace.store import open_store

# Chance in every segment: a training that forgets its seed, its moments or its place gives other bytes.
XGB: dict[str, Any] = {
    "kind": "xgboost",
    "rounds": 30,
    "max_depth": 3,
    "subsample": 0.6,
    "colsample_bytree": 0.7,
    "segments": 3,
}
MLP: dict[str, Any] = {
    "kind": "torch_mlp",
    "hidden": [16, 8],
    "epochs": 9,
    "batch_size": 128,
    "dropout": 0.2,
    "learning_rate": 0.01,
    "segments": 3,
}
BOTH = pytest.mark.parametrize("given", [XGB, MLP], ids=["xgboost", "torch_mlp"])


def data(task: str, count: int = 1200, seed: int = 0) -> tuple[Matrix, Matrix]:
    random = np.random.default_rng(seed)
    x, z = random.normal(1e6, 1000, count), random.random(count)
    city = random.choice(["a", "b", "c"], count)
    y = (x - 1e6) / 1000 + 2 * (city == "b") + random.normal(0, 0.5, count)
    table = pa.table({"x": pa.array(x, mask=z < 0.1), "noise": z, "city": city.tolist()})
    rows = Encoder.learn(table, table.column_names).encode(table)
    whole = Matrix(rows.columns, rows.values, (y > 1) * 1.0 if task == "binary" else 50 + 10 * y)
    return whole.take(np.arange(count) < 900), whole.take(np.arange(count) >= 900)


def learner(given: dict[str, Any], **changes: Any) -> Any:
    return LEARNERS.resolve(given["kind"]).model_validate({**given, **changes})


def fit(
    params: Any, task: str = "binary", checkpoints: Checkpoints | None = None, threads: int = 1, seed: int = 7
) -> Any:
    train, holdout = data(task)
    return learner_of(params).fit(
        train, holdout, params, Settings(task, seed, threads), checkpoints or Checkpoints(), lambda points: None
    )


class Stop(Exception):
    pass


class Dying(Checkpoints):
    """Ends the training right after a checkpoint is complete."""

    def save(self, segment: int, data: bytes, curve: Any) -> None:
        super().save(segment, data, curve)
        if segment == 2:
            raise Stop


@BOTH
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_learner_learns(given: dict[str, Any], task: str) -> None:
    params = learner(given, **({"epochs": 30} if given is MLP else {}))
    weights = fit(params, task)
    _, holdout = data(task)

    prediction = engine_of(params).predictor(weights.data, holdout.columns, params, Settings(task, 7, 1))(holdout)

    found = metrics(task, holdout.label, prediction)
    assert prediction.dtype == np.float64
    assert found["roc_auc"] > 0.85 if task == "binary" else found["r2"] > 0.6
    # and the curve ends with the loss of these very predictions
    expected = found["log_loss"] if task == "binary" else found["rmse"] ** 2
    assert weights.curve[-1][1]["holdout"] == pytest.approx(expected, rel=1e-4)


@BOTH
def test_the_same_request_gives_the_same_bytes_and_another_seed_does_not(given: dict[str, Any]) -> None:
    params = learner(given)
    first = fit(params).data
    assert fit(params).data == first
    assert fit(params, seed=8).data != first
    assert fit(learner(given, segments=2)).data != first


def test_xgboost_gives_the_same_bytes_with_one_and_two_threads() -> None:
    assert fit(learner(XGB), threads=1).data == fit(learner(XGB), threads=2).data


@BOTH
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_resumed_training_gives_the_bytes_of_an_undisturbed_one(
    given: dict[str, Any], task: str, tmp_path: Path
) -> None:
    params, objects = learner(given), open_store(tmp_path)
    undisturbed = fit(params, task)
    with pytest.raises(Stop):
        fit(params, task, Dying(objects, "checkpoints/r", "sha256:r"))

    # when the same request starts again
    reported: list[Any] = []
    train, holdout = data(task)
    again = learner_of(params).fit(
        train, holdout, params, Settings(task, 7, 1), Checkpoints(objects, "checkpoints/r", "sha256:r"), reported.append
    )

    # then two segments come from the checkpoint, one is trained, and nothing differs
    assert [len(points) for points in reported] == [20, 10] if given is XGB else [6, 3]
    assert again.data == undisturbed.data
    assert again.curve == undisturbed.curve


def test_a_checkpoint_of_another_request_or_with_changed_bytes_does_not_count(tmp_path: Path) -> None:
    objects = open_store(tmp_path)
    mine = Checkpoints(objects, "c", "sha256:mine")
    mine.save(1, b"one", [(1, {"train": 0.5})])
    mine.save(2, b"two", [(1, {"train": 0.5}), (2, {"train": 0.4})])
    assert Checkpoints(objects, "c", "sha256:other").last() is None

    objects.put("c/00002.state", b"tw")  # torn
    found = mine.last()
    assert found is not None and (found.segment, found.data, found.curve) == (1, b"one", [(1, {"train": 0.5})])

    objects.delete("c/00001.json")  # killed between state and note
    assert mine.last() is None
    mine.clear()
    assert list(objects.list("c")) == []


def test_without_a_place_no_checkpoint_is_kept() -> None:
    nowhere = Checkpoints()
    nowhere.save(1, b"x", [])
    assert nowhere.last() is None
    nowhere.clear()


@pytest.mark.parametrize(("total", "segments"), [(200, 4), (7, 3), (2, 5), (1, 1)])
def test_segments_cover_all_rounds_once(total: int, segments: int) -> None:
    bounds = segment_bounds(total, segments)
    assert [r for first, stop in bounds for r in range(first, stop)] == list(range(total))
    assert len(bounds) == min(total, segments)


def test_torch_ignores_what_it_has_not_learned() -> None:
    # given training rows without gaps, and new rows with an unseen category and a gap
    train, holdout = data("binary")
    full = train.take(~np.isnan(train.values).any(axis=1))
    params = learner(MLP)
    engine = learner_of(params)
    settings = Settings("binary", 7, 1)
    weights = engine.fit(full, holdout, params, settings, Checkpoints(), lambda points: None)
    row = full.take(np.arange(1))
    values = np.repeat(row.values, 2, axis=0)
    mean = full.values[:, 0].mean()
    values[0, 0], values[1, 0] = np.nan, mean
    values[:, 2] = 0

    # then the gap counts as the mean, no more and no less
    gap, at_mean = engine.predictor(weights.data, row.columns, params, settings)(Matrix(row.columns, values))
    assert gap == pytest.approx(at_mean, abs=1e-6)


def test_torch_leaves_the_process_as_it_was() -> None:
    import torch

    torch.manual_seed(1)
    before = torch.get_rng_state().clone(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fit(learner(MLP))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[1:]


def test_our_adamw_takes_the_steps_of_torch() -> None:
    import torch

    from millrace.learners.torch.adamw import AdamW

    torch.manual_seed(0)
    start, unused = torch.randn(5, 3), torch.randn(2)
    mine, theirs = ([start.clone().requires_grad_(), unused.clone().requires_grad_()] for _ in range(2))
    ours, reference = AdamW(mine, 0.1), torch.optim.AdamW(theirs, lr=0.0, weight_decay=0.1)
    for step in range(20):
        rate = 0.05 / (step + 1)
        reference.param_groups[0]["lr"] = rate
        for parameters, optimizer in ((mine, ours), (theirs, reference)):
            ours.clear() if optimizer is ours else reference.zero_grad()
            (parameters[0].sin() * (step + 1)).sum().backward()
            ours.step(rate) if optimizer is ours else reference.step()
    assert torch.allclose(mine[0], theirs[0], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(mine[0], start)
    assert torch.equal(mine[1], unused)


def test_a_torch_training_does_not_import_the_compiler() -> None:
    code = """
import sys
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.protocol import Column, Matrix, Settings
from millrace.spec.learner import TorchMLPLearner
import numpy as np
rows = Matrix((Column("a", "number"),), np.arange(20.0)[:, None], np.arange(20.0))
params = TorchMLPLearner(hidden=(4,), epochs=1)
learner_of(params).fit(rows, rows, params, Settings("regression", 7, 1), Checkpoints(), lambda points: None)
assert "torch._dynamo" not in sys.modules and "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_diverging_training_says_so() -> None:
    with pytest.raises(DataError, match="diverged.*Lower the learner's learning_rate"):
        fit(learner(MLP, learning_rate=1e30), "regression")
    with pytest.raises(DataError, match="holdout loss is not a number after 3"):
        check_finite([(2, {"train": 0.1}), (3, {"holdout": float("inf")})])


def test_importance_puts_the_signal_first_and_noise_at_zero() -> None:
    params = learner(XGB)
    weights, (_, holdout) = fit(params), data("binary")
    settings = Settings("binary", 7, 1)

    def predict(rows: Matrix) -> Any:
        return engine_of(params).predictor(weights.data, rows.columns, params, settings)(rows)

    found = importance(predict, holdout, "binary", seed=1)

    assert set(list(found)[:2]) == {"x", "city"}
    assert found["x"] > 0.1
    assert abs(found["noise"]) < 0.02


RIDGE = """
    from typing import ClassVar, Literal
    import numpy as np
    from pydantic import BaseModel, ConfigDict
    from safetensors.numpy import load, save
    from millrace.learners.protocol import Weights

    class RidgeLearner(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        kind: Literal["ridge"] = "ridge"
        penalty: float = 1.0
        engine: ClassVar[str] = "ridge_learner:Ridge"

    class Ridge:
        file = "weights.safetensors"
        media_type = "application/vnd.safetensors"

        def _x(self, rows):
            return np.column_stack([np.nan_to_num(rows.values), np.ones(len(rows))])

        def fit(self, train, holdout, params, settings, checkpoints, report):
            x = self._x(train)
            w = np.linalg.solve(x.T @ x + params.penalty * np.eye(x.shape[1]), x.T @ train.label)
            return Weights(save({"w": w}), [])

        def predictor(self, weights, columns, params, settings):
            w = load(weights)["w"]
            return lambda rows: self._x(rows) @ w
"""


@pytest.fixture
def ridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A distribution with a learner of its own, as `pip install` would leave it."""
    info = tmp_path / "ridge_learner-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ridge-learner\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[millrace.learners]\nridge = ridge_learner:RidgeLearner\n")
    (tmp_path / "ridge_learner.py").write_text(textwrap.dedent(RIDGE))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("ridge_learner", None)


def test_a_learner_of_another_package_is_found_by_its_entry_point(ridge: Path) -> None:
    spec = TrainingSpec.model_validate({"learner": {"kind": "ridge", "penalty": 2}, "window": "P2M"})
    assert spec.learner.kind == "ridge"
    weights = fit(spec.learner, "regression")
    rows = data("regression")[1]
    predict = engine_of(spec.learner).predictor(weights.data, rows.columns, spec.learner, Settings("regression", 7, 1))
    prediction = predict(rows)
    assert np.isfinite(prediction).all()
    assert digest(weights.data) == digest(fit(spec.learner, "regression").data)


def test_without_that_package_the_kind_is_unknown() -> None:
    with pytest.raises(ValidationError, match="unknown kind 'ridge'; allowed: custom, torch_mlp, xgboost"):
        TrainingSpec.model_validate({"learner": {"kind": "ridge"}, "window": "P2M"})


def test_an_engine_that_is_not_installed_says_what_to_do() -> None:
    class Elsewhere(XGBoostLearner):
        engine = "no_such_package:Engine"  # type: ignore[misc]

    with pytest.raises(MillraceError, match="cannot be imported.*Install the package that brings this learner"):
        learner_of(Elsewhere())
