from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from millrace.core.errors import DataError
from millrace.models.metrics import block_bootstrap, block_keys, block_sums, metrics, rounded, row_losses
from millrace.rules.blocks import resample_counts


def test_binary_metrics_agree_with_scikit_learn_on_tied_predictions() -> None:
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    random = np.random.default_rng(0)
    label = (random.random(3000) < 0.3) * 1.0
    prediction = np.round(0.3 * label + 0.7 * random.random(3000), 2)

    found = metrics("binary", label, prediction)

    assert found["roc_auc"] == pytest.approx(roc_auc_score(label, prediction), rel=1e-12)
    assert found["brier"] == pytest.approx(brier_score_loss(label, prediction), rel=1e-12)
    assert found["log_loss"] == pytest.approx(log_loss(label, np.clip(prediction, 1e-7, 1 - 1e-7)), rel=1e-9)


def test_regression_metrics_agree_with_scikit_learn() -> None:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    random = np.random.default_rng(1)
    label = random.normal(1e6, 3, 2000)
    prediction = label + random.normal(0, 1, 2000)

    found = metrics("regression", label, prediction)

    assert found["rmse"] == pytest.approx(root_mean_squared_error(label, prediction), rel=1e-9)
    assert found["mae"] == pytest.approx(mean_absolute_error(label, prediction), rel=1e-9)
    assert found["r2"] == pytest.approx(r2_score(label, prediction), rel=1e-9)


def test_a_certain_and_wrong_prediction_costs_a_finite_loss() -> None:
    losses = row_losses("binary", [1, 0, 1], [0.0, 1.0, 1.0])
    assert losses[0] == pytest.approx(-np.log(1e-7), rel=1e-9)
    assert losses[1] == pytest.approx(-np.log(1e-7), rel=1e-6)
    assert 0 < losses[2] < 1e-6


def test_undefined_metrics_are_left_out_and_nan_predictions_spoil_all() -> None:
    assert "roc_auc" not in metrics("binary", [1, 1], [0.2, 0.3])
    assert "r2" not in metrics("regression", [2, 2], [1, 2])
    assert all(np.isnan(value) for value in metrics("binary", [1, 0], [np.nan, 0.3]).values())
    with pytest.raises(DataError, match="no rows"):
        metrics("binary", [], [])
    with pytest.raises(DataError, match="shape"):
        row_losses("binary", [1, 0], [0.5])


@pytest.mark.parametrize("prediction", [1e200, 3.41e38, np.inf, -np.inf])
def test_one_prediction_beyond_float32_spoils_every_metric_and_raises_nothing(prediction: float) -> None:
    with np.errstate(all="raise"):
        found = metrics("regression", [1.0, 2.0, 3.0], [1.0, prediction, prediction])
        assert row_losses("regression", [1.0, 2.0], [1.0, 1e200]).tolist() == [0.0, np.inf]
    assert set(found) == {"rmse", "mae", "r2"} and all(np.isnan(value) for value in found.values())


def test_the_largest_numbers_overflow_no_metric_and_no_interval() -> None:
    largest = float(np.finfo(np.float32).max)
    label = np.tile([largest, -largest], 5000)
    keys = np.repeat([f"2024-01-{d:02d}" for d in range(1, 11)], 1000)
    with np.errstate(all="raise", under="ignore"):
        found = metrics("regression", label, -label)
        intervals = block_bootstrap("regression", label, -label, keys, seed=1)
    assert found == pytest.approx({"rmse": 2 * largest, "mae": 2 * largest, "r2": -3.0})
    assert all(np.isfinite(interval).all() for interval in intervals.values())


@pytest.mark.parametrize(
    ("task", "label"),
    [("binary", [0, 2]), ("binary", [0, np.nan]), ("binary", [-1, 1]), ("regression", [1, np.nan]),
     ("regression", [1, 1e200]), ("multiclass", [0, -2])],
)  # fmt: skip
def test_a_label_of_no_outcome_has_no_loss(task: Any, label: list[float]) -> None:
    prediction = np.full((2, 3), 1 / 3) if task == "multiclass" else [0.5, 0.5]
    for function in (row_losses, metrics):
        with pytest.raises(DataError, match=f"1 of 2 labels are none of a {task} task"):
            function(task, label, prediction)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("hour", ["2013-03-10T01", "2013-03-10T03", "2013-03-11T00"]),
        ("day", ["2013-03-10", "2013-03-10", "2013-03-11"]),
        ("week", ["2013-03-04", "2013-03-04", "2013-03-11"]),
    ],
)
def test_blocks_are_local_across_a_clock_change(block: str, expected: list[str]) -> None:
    # given the last minute of winter time, the first of summer time, and the next local midnight in New York
    moments = [datetime(2013, 3, 10, 6, 59), datetime(2013, 3, 10, 7, 0), datetime(2013, 3, 11, 4, 0)]
    zoned = pa.array([m.replace(tzinfo=UTC) for m in moments], pa.timestamp("ns", "UTC"))
    elsewhere = zoned.cast(pa.timestamp("ms", "Asia/Tokyo"))
    naive = pa.chunked_array([pa.array(moments, pa.timestamp("us"))])

    # then the moment decides, whatever zone or unit it is written in
    for column in (zoned, elsewhere, naive):
        assert block_keys(column, block, "America/New_York").tolist() == expected  # type: ignore[arg-type]


def test_blocks_refuse_a_null_event_time() -> None:
    with pytest.raises(DataError, match="1 rows have no event time"):
        block_keys(pa.array([None, datetime(2013, 1, 1)], pa.timestamp("us")), "day", "UTC")


def test_block_sums_add_up() -> None:
    sums = block_sums(np.array(["b", "a", "b"]), np.array([1.0, 2.0, 3.5]))
    assert sums == {"a": (2.0, 1), "b": (4.5, 2)}
    assert list(sums) == ["a", "b"]


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_bootstrap_is_that_of_rows_put_together_by_block(task: str) -> None:
    # given blocks of different sizes, and the draws that the bootstrap makes
    random = np.random.default_rng(2)
    keys = np.sort(random.choice([f"2013-01-{d:02}" for d in range(1, 9)], 300))
    prediction = np.round(random.random(300), 2)
    label = (random.random(300) < prediction) * 1.0 if task == "binary" else prediction + random.normal(0, 1, 300)
    names = np.unique(keys)

    # when every resample is built row by row
    slow: dict[str, list[float]] = {}
    for counts in resample_counts(len(names), seed=5, samples=60):
        drawn = np.repeat(names, counts.astype(int))
        taken = np.concatenate([np.flatnonzero(keys == name) for name in drawn])
        for name, value in metrics(task, label[taken], prediction[taken]).items():  # type: ignore[arg-type]
            slow.setdefault(name, []).append(value)

    # then the vectorised intervals are the same
    fast = block_bootstrap(task, label, prediction, keys, seed=5, samples=60)  # type: ignore[arg-type]
    assert fast.keys() == slow.keys()
    for name, (low, high) in fast.items():
        assert (low, high) == pytest.approx(tuple(np.quantile(slow[name], [0.025, 0.975])), rel=1e-9)


def test_bootstrap_of_blocks_is_wider_than_of_rows_when_days_differ() -> None:
    # given days with a common fate
    random = np.random.default_rng(3)
    days = np.repeat(np.arange(40), 100)
    label = (random.random(4000) < np.repeat(random.uniform(0.1, 0.6, 40), 100)) * 1.0
    prediction = np.full(4000, 0.35)

    def width(keys: np.ndarray) -> float:
        low, high = block_bootstrap("binary", label, prediction, keys, seed=1)["log_loss"]
        return high - low

    assert width(days.astype(str)) > 2 * width(np.arange(4000).astype(str))


def test_one_block_has_no_interval() -> None:
    assert block_bootstrap("binary", [1, 0], [0.6, 0.4], np.array(["d", "d"]), seed=1) == {}


def test_rounding_hides_the_last_bits() -> None:
    assert rounded(0.1 + 0.2) == rounded(0.3)
    assert rounded(123456.78912345) == 123456.7891
