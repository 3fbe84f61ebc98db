"""robustness: what perturbations do to loss and predictions, and a model that does not stand them is not registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.judged import Judging, blocked, grouped_rows, passing
from support.learning import FAST_MLP

from millrace.evaluation.perturbations import perturbed
from millrace.models.protocol import Column, Matrix
from millrace.spec.perturbations import Missing, Noise, UnitChange, UnseenCategory

ROWS = Matrix(
    (Column("a", "number"), Column("b", "category", 3), Column("c", "number")),
    np.column_stack([np.arange(1.0, 101), np.tile([1.0, 2.0], 50), np.full(100, np.nan)]),
)


NETWORK = {**FAST_MLP, "epochs": 20, "learning_rate": 0.02}


def asked(**keys: Any) -> dict[str, Any]:
    return {"type": "robustness", "perturbations": [keys]}


TIGHT = [
    {"kind": "noise", "columns": ["distance"], "scale": 1, "max_loss_rise": 0.01},
    {"kind": "missing", "columns": ["distance"], "max_change": 0.01},
    {"kind": "unit_change", "columns": ["distance"], "factor": 100, "max_loss_rise": 0.01},
    {"kind": "unseen_category", "columns": ["carrier"], "max_change": 0.01},
    {"kind": "monotonic", "columns": ["distance"], "direction": "decreasing"},
]


@pytest.mark.parametrize("one", TIGHT, ids=lambda one: one["kind"])
def test_a_model_that_does_not_stand_it_is_blocked(tmp_path: Path, one: dict[str, Any]) -> None:
    words = "is not decreasing in distance" if one["kind"] == "monotonic" else f"under {one['kind']} of"
    outcome = blocked(Judging(tmp_path, asked(**one)), "robustness", words, "it must be at most")
    (fact,) = outcome.facts["robustness"]
    (figure,) = fact["figures"]
    assert figure["low"] <= figure["value"] <= figure["high"] and not figure["passed"]
    assert fact["perturbations"][0]["kind"] == one["kind"]


LOOSE = {
    "noise": {"max_loss_rise": 9}, "missing": {"max_change": 1, "share": 0.1}, "unit_change": {"max_loss_rise": 9},
    "unseen_category": {"max_change": 1, "share": 0.1},
    "monotonic": {"max_violations": 0.999, "direction": "increasing"},
}  # fmt: skip


@pytest.mark.parametrize("learner", [None, NETWORK], ids=["xgboost", "torch_mlp"])
def test_within_its_bounds_every_perturbation_passes(tmp_path: Path, learner: dict[str, Any] | None) -> None:
    kept = ("kind", "columns", "scale", "factor")
    several = [{**{key: one[key] for key in kept if key in one}, **LOOSE[one["kind"]]} for one in TIGHT]
    judging = Judging(tmp_path, {"type": "robustness", "perturbations": several}, learner=learner)
    outcome, said = passing(judging, "robustness")
    assert len(said) == len(several)
    assert judging.outcome() == outcome


def test_a_network_is_judged_by_its_trend(tmp_path: Path) -> None:
    # given a label that only grows with the distance, and a learner that has to find that out
    table = grouped_rows(gap=0)
    one = {"kind": "monotonic", "columns": ["distance"], "direction": "increasing", "max_violations": 0.2}
    passing(Judging(tmp_path, asked(**one), table=table, learner=NETWORK), "robustness")


@pytest.mark.parametrize(
    ("one", "words"),
    [
        ({"kind": "noise", "columns": ["carrier"], "scale": 1, "max_change": 1}, "'carrier' is a category"),
        ({"kind": "unseen_category", "columns": ["hour"], "max_change": 1}, "'hour' is a number"),
        ({"kind": "missing", "columns": ["gone"], "max_change": 1}, "'gone' is no feature of the model"),
        ({"kind": "monotonic", "columns": ["constant"], "direction": "increasing"}, "does not vary"),
        ({"kind": "noise", "columns": ["constant"], "scale": 1, "max_change": 1}, "does not vary"),
    ],
)
def test_what_cannot_be_tried_fails(tmp_path: Path, one: dict[str, Any], words: str) -> None:
    table = grouped_rows(900).append_column("constant", pa.array(np.ones(900)))
    blocked(Judging(tmp_path, asked(**one), table=table), "robustness", "robustness could not be computed", words)


def test_noise_is_as_large_as_it_says_and_leaves_other_features_alone() -> None:
    random = np.random.default_rng(1)
    many = Matrix(ROWS.columns, np.tile(ROWS.values, (100, 1)))
    made = perturbed(Noise(kind="noise", columns=("a",), scale=0.5, max_change=1), many, random)
    added = made.values[:, 0] - many.values[:, 0]
    assert added.std() == pytest.approx(0.5 * many.values[:, 0].std(), rel=0.05)
    assert np.array_equal(made.values[:, 1:], many.values[:, 1:], equal_nan=True)


def test_missing_values_and_unseen_categories_are_what_the_encoder_makes_of_them() -> None:
    random = np.random.default_rng(1)
    made = perturbed(Missing(kind="missing", columns=("a", "b"), share=0.3, max_change=1), ROWS, random)
    gone = np.isnan(made.values[:, 0])
    assert gone.sum() == 30 and (made.values[gone, 1] == 0).all() and (made.values[~gone, 1] > 0).all()
    made = perturbed(UnseenCategory(kind="unseen_category", columns=("b",), max_change=1), ROWS, random)
    assert (made.values[:, 1] == 0).all() and np.array_equal(made.values[:, 0], ROWS.values[:, 0])


def test_a_unit_is_changed_as_declared() -> None:
    one = UnitChange(kind="unit_change", columns=("a",), factor=1.8, offset=32, max_change=1)
    made = perturbed(one, ROWS, np.random.default_rng(1))
    assert made.values[:2, 0].tolist() == [33.8, 35.6] and ROWS.values[0, 0] == 1
