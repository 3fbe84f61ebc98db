"""Keys of a duel that do not go together, or not with the pipeline, are refused at their place."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from support.learning import spec

from millrace.spec.duel import Costs, DuelCheck
from millrace.spec.evaluation import EvaluationSpec


def test_what_is_left_out_is_strict() -> None:
    asked = EvaluationSpec.model_validate({"thresholds": {"rmse": {"max": 1}}}).asked[-1]
    assert isinstance(asked, DuelCheck)
    assert (asked.tolerance, asked.slices.newest, asked.needs_champion) == (0, 8, False)


def test_columns_of_slices_are_held_by_the_training_set() -> None:
    made = EvaluationSpec.model_validate(
        {"thresholds": {"rmse": {"max": 1}}, "duel": {"slices": {"columns": ["carrier", "origin"]}}}
    )
    assert made.group_columns == ("carrier", "origin")


@pytest.mark.parametrize(
    ("task", "duel", "where", "words"),
    [
        ("binary", {"slices": {"columns": ["carrier", "tailnum"]}}, "columns", "only public columns make slices"),
        ("binary", {"costs": {"currency": "EUR", "over": 1, "under": 2}}, "costs", "given by matrix"),
        ("regression", {"costs": {"currency": "EUR", "matrix": {"a": {"b": 1}}}}, "costs", "over and under"),
        ("binary", {"costs": {"currency": "EUR", "matrix": {"2": {"0": 1}}}}, "matrix", "no class of a binary label"),
        ("regression", {"calibration": 0.1}, "calibration", "no probabilities"),
        ("binary", {"slices": {"newest": 7}}, "newest", "greater than or equal to 8"),
        ("binary", {"difference": 0}, "difference", "greater than 0"),
        ("binary", {"tolerance": -0.1}, "tolerance", "greater than or equal to 0"),
    ],
)
def test_what_does_not_go_together_is_refused(task: str, duel: dict[str, Any], where: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        spec(task, evaluation={"duel": duel})
    (error,) = refused.value.errors()
    assert where in error["loc"] and words in error["msg"]


@pytest.mark.parametrize(
    "costs", [{}, {"over": 1}, {"matrix": {"0": {"1": 1}}, "over": 1, "under": 1}, {"matrix": {"0": {"1": "much"}}}]
)
def test_costs_are_whole(costs: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Costs.model_validate({"currency": "EUR", **costs})


def test_classes_are_read_as_yaml_has_them() -> None:
    made = Costs.model_validate({"currency": "EUR", "matrix": {0: {True: 2}, True: {0: 3}}})
    assert made.matrix == {"0": {"1": 2.0}, "1": {"0": 3.0}}
