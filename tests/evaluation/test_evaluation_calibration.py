"""calibration: predictions that do not mean what they say block a model; the numbers are those of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.judged import Judging, blocked, passing
from support.learning import FAST, rows

from millrace.evaluation.blocks import Blocks
from millrace.evaluation.checks.calibration import _coefficient, _expected_error
from millrace.models.metrics import log_odds
from millrace.spec.model_checks import CalibrationCheck

SHY = {**FAST, "rounds": 1, "learning_rate": 0.05}
"""A learner that hardly moves from the base rate: its slope is far above 1."""


def asked(**keys: Any) -> dict[str, Any]:
    return {"type": "calibration", **keys}


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_model_that_is_shy_is_blocked(tmp_path: Path, task: str) -> None:
    judging = Judging(tmp_path, asked(max_slope=1.5), task=task, learner=SHY)
    outcome = blocked(judging, "calibration", "calibration: slope is", "(95 %: ", "it must be at most 1.5")
    (figure,) = outcome.facts["calibration"][0]["figures"]
    assert figure["value"] > 1.5 and figure["low"] < figure["value"] < figure["high"]


def test_a_large_expected_error_is_blocked(tmp_path: Path) -> None:
    judging = Judging(
        tmp_path, asked(max_error=0.01), learner={**FAST, "rounds": 300, "max_depth": 8, "min_child_weight": 0}
    )
    blocked(judging, "calibration", "expected calibration error is", "it must be at most 0.01")


@pytest.mark.parametrize(
    ("task", "keys"),
    [
        ("binary", {"max_error": 0.2, "max_intercept": 1, "min_slope": 0.3, "max_slope": 3}),
        ("multiclass", {"max_error": 0.3}),
        ("regression", {"max_intercept": 0.3, "min_slope": 0.7, "max_slope": 1.5}),
    ],
)
def test_a_model_that_means_what_it_says_passes(tmp_path: Path, task: str, keys: dict[str, float]) -> None:
    _, said = passing(Judging(tmp_path, asked(**keys), task=task, table=rows(3000, task=task)), "calibration")
    assert len(said) == {"binary": 3, "multiclass": 1, "regression": 2}[task]


def test_a_constant_model_has_no_slope_and_fails(tmp_path: Path) -> None:
    constant = {**FAST, "rounds": 1, "min_child_weight": 1e9}
    blocked(Judging(tmp_path, asked(min_slope=0), learner=constant), "calibration", "could not be computed", "no slope")


def data(count: int = 4000) -> tuple[Any, Any, Blocks]:
    random = np.random.default_rng(3)
    raw = random.normal(-1, 1.5, count)
    label = (random.random(count) < 1 / (1 + np.exp(-(0.4 + 0.7 * raw)))).astype(float)
    return label, 1 / (1 + np.exp(-raw)), Blocks(np.arange(count).astype(str), seed=1)


def test_slope_and_intercept_are_those_of_a_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    label, prediction, blocks = data()
    line = log_odds(prediction)
    design = np.column_stack([line, np.ones(len(line))])
    slope = _coefficient("slope", design, label, np.zeros(len(line)), "binary", blocks, 0.9, 1.1)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(line[:, None], label)
    assert slope.value == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    # and its interval, where every row is a block, is that of the theory
    weight = prediction_weight(reference, line)
    error = np.sqrt(np.linalg.inv(design.T @ (design * weight[:, None]))[0, 0])
    assert (slope.high - slope.low) / (2 * 1.96) == pytest.approx(error, rel=0.15)  # type: ignore[operator]
    # the intercept at slope 1 makes the mean prediction the mean label
    at = _coefficient("intercept", np.ones((len(line), 1)), label, line, "binary", blocks, -1, 1)
    assert (1 / (1 + np.exp(-(line + at.value)))).mean() == pytest.approx(label.mean(), abs=1e-9)


def prediction_weight(model: Any, line: Any) -> Any:
    p = model.predict_proba(line[:, None])[:, 1]
    return p * (1 - p)


def test_the_expected_error_is_that_of_bins_of_equal_counts() -> None:
    label, prediction, blocks = data()
    figure = _expected_error(label, prediction, blocks, CalibrationCheck(type="calibration", bins=8, max_error=1))
    order = np.argsort(prediction)
    gaps = [abs((label[part] - prediction[part]).sum()) for part in np.array_split(order, 8)]
    assert figure.value == pytest.approx(sum(gaps) / len(label), rel=1e-9)
    # what is calibrated by itself has none: equal predictions stay in one bin
    even = _expected_error(np.tile([0.0, 1.0], 50), np.full(100, 0.5), Blocks(np.array(["a"] * 100), seed=1),
                           CalibrationCheck(type="calibration", max_error=1))  # fmt: skip
    assert (even.value, even.low) == (0.0, None)


def test_intervals_hold_in_simulation() -> None:
    """Of 120 streams with days of their own, the slope's interval holds the truth in nine of ten or more."""
    held = 0
    for stream in range(120):
        random = np.random.default_rng(stream)
        days = np.repeat(np.arange(60), 40)
        line = random.normal(0, 1, len(days)) + random.normal(0, 0.7, 60)[days]
        label = 0.9 * line + random.normal(0, 1, len(days)) + random.normal(0, 0.5, 60)[days]
        design = np.column_stack([line, np.ones(len(line))])
        found = _coefficient("slope", design, label, np.zeros(len(line)), "regression",
                             Blocks(days.astype(str), seed=stream), 0, 2)  # fmt: skip
        assert found.low is not None and found.high is not None
        held += found.low <= 0.9 <= found.high
    assert held >= 108
