"""evaluation.checks in pipeline.yaml: what a label's task does not have, and a check without a bound, is refused at its
key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from support.learning import spec

from millrace.spec import PipelineSpec
from millrace.spec.evaluation import EvaluationSpec


def asked(task: str, *checks: dict[str, Any]) -> PipelineSpec:
    metric = "rmse" if task == "regression" else "log_loss"
    return PipelineSpec.model_validate(
        spec(task, evaluation={"thresholds": {metric: {"max": 1}}, "checks": list(checks)})
    )


FAIR = {"type": "fairness", "columns": ["carrier"], "max_difference": 0.1}
MISSING = {"kind": "missing", "columns": ["distance"]}


@pytest.mark.parametrize(
    ("task", "check", "loc", "words"),
    [
        ("regression", {**FAIR, "metric": "accuracy"}, ("metric",), "no metric of groups of a regression label"),
        ("binary", {**FAIR, "metric": "selection_rate"}, ("metric",), "needs 'decision'"),
        ("binary", {**FAIR, "metric": "brier", "decision": 0.5}, ("decision",), "goes with metrics of decisions"),
        ("multiclass", {"type": "calibration", "min_slope": 1}, ("min_slope",), "expected error only"),
        ("regression", {"type": "calibration", "max_error": 1}, ("max_error",), "has no probabilities"),
        (
            "multiclass",
            {
                "type": "robustness",
                "perturbations": [{"kind": "monotonic", "columns": ["a"], "direction": "increasing"}],
            },
            ("perturbations", 0),
            "classes have no order",
        ),
    ],
)
def test_what_the_task_does_not_have_is_refused_at_its_key(
    task: str, check: dict[str, Any], loc: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(ValidationError) as err:
        asked(task, check)
    (problem,) = err.value.errors()
    assert problem["loc"] == ("evaluation", "checks", 0, *loc)
    assert words in problem["msg"]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"type": "fairness", "columns": ["carrier"], "metric": "brier"}, "max_difference or min_ratio"),
        ({"type": "calibration"}, "max_error or max_intercept or min_slope or max_slope"),
        ({"type": "latency"}, "max_median_ms or max_p99_ms"),
        ({"type": "robustness", "perturbations": [MISSING]}, "max_loss_rise or max_change"),
        ({"type": "robustness", "perturbations": []}, "at least 1 item"),
        ({"type": "fair"}, "does not match any of the expected tags"),
        ({"type": "artifact", "formats": ["pickle"]}, "'ubj', 'safetensors' or 'onnx'"),
        ({"type": "size", "max_bytes": 1, "unit": "MB"}, "Extra inputs are not permitted"),
    ],
)
def test_a_check_without_a_bound_or_of_another_kind_is_refused(check: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        asked("binary", check)


def test_columns_to_group_by_are_named_once() -> None:
    checks = [{**FAIR, "metric": "brier"}, {"type": "explanations", "slices": ["origin", "carrier"]}]
    found = EvaluationSpec.model_validate({"thresholds": {"brier": {"max": 1}}, "checks": checks})
    assert found.group_columns == ("carrier", "origin")
