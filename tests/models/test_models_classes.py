"""Several classes: metrics, intervals and engines, against scikit-learn and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from millrace.core.errors import DataError
from millrace.evaluation.plots import confusion
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.classes import MOST, classes_of, likeliest, places
from millrace.models.encoding import Encoder, labels
from millrace.models.metrics import CLIP, block_bootstrap, metrics, row_losses
from millrace.models.protocol import Matrix, Settings, engine_of
from millrace.rules.blocks import resample_counts
from millrace.spec.learner import LEARNERS

XGB: dict[str, Any] = {"kind": "xgboost", "rounds": 20, "max_depth": 3, "subsample": 0.6, "segments": 2}
MLP: dict[str, Any] = {"kind": "torch_mlp", "hidden": [16], "epochs": 30, "batch_size": 128, "learning_rate": 0.01,
                       "dropout": 0.1, "segments": 3}  # fmt: skip
BOTH = pytest.mark.parametrize("given", [XGB, MLP], ids=["xgboost", "torch_mlp"])


def guesses(count: int = 800, kinds: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    label = random.integers(0, kinds, count)
    raw = random.random((count, kinds)) + 0.5 * np.eye(kinds)[label]
    return label.astype(float), np.round(raw / raw.sum(axis=1, keepdims=True), 3)


def test_metrics_agree_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    label, prediction = guesses()
    prediction[:, 3] = 0  # a class that is never predicted has an F1 of 0 and counts
    found = metrics("multiclass", label, prediction)

    assert set(found) == {"log_loss", "accuracy", "macro_f1"}
    clipped = np.clip(prediction[np.arange(len(label)), label.astype(int)], CLIP, 1)
    assert found["log_loss"] == pytest.approx(-np.log(clipped).mean(), rel=1e-12)
    assert found["accuracy"] == pytest.approx(accuracy_score(label, prediction.argmax(axis=1)), rel=1e-12)
    assert found["macro_f1"] == pytest.approx(
        f1_score(label, prediction.argmax(axis=1), average="macro", zero_division=0), rel=1e-12
    )


def test_a_class_that_training_never_had_costs_as_much_as_can_be() -> None:
    label, prediction = np.array([0.0, -1.0]), np.array([[1.0, 0.0], [1.0, 0.0]])
    assert row_losses("multiclass", label, prediction).tolist() == [0.0, -math.log(CLIP)]
    found = metrics("multiclass", label, prediction)
    assert found["accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_intervals_resample_whole_blocks() -> None:
    label, prediction = guesses(600)
    keys = np.repeat([f"2024-01-{d:02d}" for d in range(1, 13)], 50)
    found = block_bootstrap("multiclass", label, prediction, keys, seed=3, samples=50)

    # Given the same draws, done by hand on rows
    counts = resample_counts(12, seed=3, samples=50).astype(int)
    draws: dict[str, list[float]] = {"log_loss": [], "accuracy": [], "macro_f1": []}
    for drawn in counts:
        rows = np.concatenate([np.flatnonzero(keys == k) for k, n in zip(np.unique(keys), drawn, strict=True)
                               for _ in range(n)])  # fmt: skip
        for name, value in metrics("multiclass", label[rows], prediction[rows]).items():
            draws[name].append(value)
    for name, values in draws.items():
        assert found[name] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), rel=1e-9), name


def test_one_probability_that_is_not_a_number_makes_every_metric_so() -> None:
    label, prediction = guesses(20)
    prediction[3, 1] = np.nan
    assert all(math.isnan(value) for value in metrics("multiclass", label, prediction).values())


@pytest.mark.parametrize(
    ("values", "classes", "found"),
    [
        (["b", "a", "b", "c"], ("a", "b", "c"), [1, 0, 1, 2]),
        ([9, 3, 9, 10], (3, 9, 10), [1, 0, 1, 2]),  # sorted as numbers
    ],
)
def test_classes_keep_their_type_and_order(values: list[Any], classes: tuple[Any, ...], found: list[int]) -> None:
    table = pa.table({"kind": values})
    assert classes_of(table, "kind") == classes
    assert labels(table, "kind", "multiclass", classes).tolist() == found
    assert labels(table, "kind", "multiclass", classes[1:]).tolist() == [n - 1 for n in found]  # -1 is unknown
    back = likeliest(np.eye(3)[found], classes)
    assert back.to_pylist() == values and back.type == table["kind"].type


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([1.5, 2.5]), "of a multiclass task is"),
        (pa.array([2**63, 1], pa.uint64()), "something else in 1 of 2 rows"),
        (pa.array([True, False]), "of a multiclass task is"),
        (pa.array(["a", "a"]), "one class only"),
        (pa.array(range(MOST + 1)), "at most 100"),
    ],
)
def test_what_is_no_class_is_refused(values: pa.Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classes_of(pa.table({"kind": values}), "kind")


def test_a_label_that_changed_its_type_is_refused() -> None:
    with pytest.raises(DataError, match="was text in training"):
        places(pa.chunked_array([[1, 2]]), "kind", ("1", "2"))
    with pytest.raises(DataError, match="null in 1 rows"):
        labels(pa.table({"kind": ["a", None]}), "kind", "multiclass", ("a", "b"))


def data(count: int = 900) -> tuple[Matrix, Matrix]:
    random = np.random.default_rng(1)
    x, y = random.normal(0, 1, count), random.normal(0, 1, count)
    table = pa.table({"x": x, "y": y})
    rows = Encoder.learn(table, ["x", "y"]).encode(table)
    whole = Matrix(rows.columns, rows.values, ((x > 0) + 2 * (y > 0.5)).astype(float))
    return whole.take(np.arange(count) < 600), whole.take(np.arange(count) >= 600)


def fit(given: dict[str, Any], holdout: Matrix | None = None, kinds: int = 4) -> Any:
    train, held = data()
    params = LEARNERS.resolve(given["kind"]).model_validate(given)
    return learner_of(params).fit(
        train, holdout or held, params, Settings("multiclass", 7, 1, kinds), Checkpoints(), lambda points: None
    )


@BOTH
def test_a_learner_gives_each_class_a_probability(given: dict[str, Any]) -> None:
    params, (_, held) = LEARNERS.resolve(given["kind"]).model_validate(given), data()
    weights = fit(given)
    prediction = engine_of(params).predictor(weights.data, held.columns, params, Settings("multiclass", 7, 1, 4))(held)

    assert prediction.shape == (300, 4) and prediction.dtype == np.float64
    np.testing.assert_allclose(prediction.sum(axis=1), 1, rtol=1e-5)
    found = metrics("multiclass", held.label, prediction)
    assert found["accuracy"] > 0.85
    # and the curve ends with the loss of these very predictions
    assert weights.curve[-1][1]["holdout"] == pytest.approx(found["log_loss"], rel=1e-4)
    assert fit(given).data == weights.data


@BOTH
def test_a_class_that_only_the_held_out_rows_have_does_not_stop_a_training(given: dict[str, Any]) -> None:
    _, held = data()
    label = held.label.copy()
    label[:5] = -1
    assert fit(given, Matrix(held.columns, held.values, label)).data == fit(given).data


def test_the_confusion_is_drawn_with_the_names_it_is_given() -> None:
    label, prediction = guesses(50, 3)
    assert confusion(label, prediction, ("a", "b", "c")).startswith(b"\x89PNG")
