"""Rows that count less teach less: every learner of ours takes weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.protocol import Code, Column, Matrix, Settings
from millrace.spec.learner import LEARNERS

XGB = {"kind": "xgboost", "rounds": 20, "max_depth": 2, "segments": 1}
MLP = {"kind": "torch_mlp", "hidden": [8], "epochs": 20, "batch_size": 100, "learning_rate": 0.02, "segments": 1}


def turned(weight: float | None) -> Matrix:
    """Rows whose first half says the opposite of the second, and counts `weight` times as much."""
    random = np.random.default_rng(1)
    x = random.normal(size=(1200, 1))
    old = np.arange(1200) < 600
    label = np.where(old, x[:, 0] > 0, x[:, 0] < 0) * 1.0
    weights = np.empty(0) if weight is None else np.where(old, weight, 1.0)
    return Matrix((Column("x", "number"),), x, label, weights / weights.mean() if len(weights) else weights)


def at_one(given: dict[str, Any], rows: Matrix, code: Code | None = None) -> float:
    """Probability at x = 1: near 1 by the first half, near 0 by the second."""
    params = LEARNERS.resolve(given["kind"]).model_validate(given)
    engine, settings = learner_of(params, code), Settings("binary", 7, 1)
    made = engine.fit(rows, rows.take(np.arange(20)), params, settings, Checkpoints(), lambda points: None)
    predict = engine.predictor(made.data, rows.columns, params, settings)
    return float(predict(Matrix(rows.columns, np.ones((1, 1))))[0])


@pytest.mark.parametrize("given", [XGB, MLP], ids=["xgboost", "torch_mlp"])
def test_the_half_that_counts_for_more_is_believed(given: dict[str, Any]) -> None:
    assert at_one(given, turned(0.05)) < 0.2
    assert at_one(given, turned(20.0)) > 0.8
    assert 0.3 < at_one(given, turned(None)) < 0.7


@pytest.mark.parametrize("given", [XGB, MLP], ids=["xgboost", "torch_mlp"])
def test_equal_weights_are_no_weights(given: dict[str, Any]) -> None:
    assert at_one(given, turned(1.0)) == pytest.approx(at_one(given, turned(None)), abs=1e-4)


def test_code_of_ones_own_sees_the_weights() -> None:
    text = """
import numpy as np

def fit(train, params, settings):
    weight = train.weight if len(train.weight) else np.ones(len(train))
    return {"mean": np.array([np.average(train.label[train.values[:, 0] > 0], weights=weight[train.values[:, 0] > 0])])}

def predict(weights, rows, params, settings):
    return np.full(len(rows), weights["mean"][0])
"""
    code = Code(text, "trainer.py")
    assert at_one({"kind": "custom"}, turned(20.0), code) > 0.9
    assert at_one({"kind": "custom"}, turned(0.05), code) < 0.1


def test_weights_go_where_their_rows_go() -> None:
    rows = turned(2.0).take(np.array([0, 700]))
    assert rows.weight[0] == 2 * rows.weight[1]
    assert len(turned(None).take(np.array([0, 700])).weight) == 0
