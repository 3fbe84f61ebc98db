"""Model checks: what a spec asks for, and a loop in which each answers for itself."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from millrace.contract import Check, Metric
from millrace.core.errors import DataError, StoreError
from millrace.evaluation import checks
from millrace.evaluation.checks import Judged, Subject, judge
from millrace.evaluation.checks.subject import Figure
from millrace.evaluation.measure import Measured
from millrace.models.files import Model
from millrace.spec.evaluation import DuelCheck, EvaluationSpec, ModelCheck, ThresholdCheck
from millrace.spec.model_checks import SizeCheck

NOBODY: Any = None
BOUNDED = ThresholdCheck(metric="log_loss", max=0.5)


def subject(champion: Model | None = NOBODY, undefined: tuple[str, ...] = (), **metrics: float) -> Subject:
    measured = Measured(
        rows=pa.table({}),
        label=np.zeros(9),
        prediction=np.zeros(9),
        blocks=np.array(["2013-01-01"] * 9),
        losses=np.zeros(9),
        metrics={name: Metric(value=value, low=None, high=None, rows=9) for name, value in metrics.items()},
        undefined=undefined,
    )
    return Subject(model=NOBODY, measured=measured, champion=champion, seed=7)


def said(judged: Judged) -> list[tuple[str, bool, str]]:
    return [(check.name, check.passed, check.message) for check in judged.checks]


def test_the_keys_of_evaluation_are_read_into_checks() -> None:
    spec = EvaluationSpec.model_validate(
        {"thresholds": {"roc_auc": {"min": 0.6}, "log_loss": {"min": 0.1, "max": 0.7}}, "duel": {"tolerance": 0.02}}
    )
    assert spec.asked == (
        ThresholdCheck(metric="log_loss", min=0.1, max=0.7),
        ThresholdCheck(metric="roc_auc", min=0.6),
        DuelCheck(tolerance=0.02),
    )
    assert EvaluationSpec.model_validate({"thresholds": {"rmse": {"max": 1}}}).asked[-1] == DuelCheck(tolerance=0)


def test_every_kind_of_check_has_a_module_that_makes_it() -> None:
    assert set(checks._RUN) == set(get_args(ModelCheck))


def test_a_threshold_says_what_was_measured_once_for_each_bound() -> None:
    both = ThresholdCheck(metric="log_loss", min=0.1, max=0.3)
    assert said(judge([both], subject(log_loss=0.4))) == [
        ("log_loss", True, "log_loss is 0.4000 on 9 held out rows; it must be at least 0.1"),
        ("log_loss", False, "log_loss is 0.4000 on 9 held out rows; it must be at most 0.3"),
    ]


@pytest.mark.parametrize(
    ("undefined", "why"),
    [(("log_loss",), "it is not a number"), ((), "it was not measured (measured: brier)")],
)
def test_a_threshold_on_what_has_no_value_fails(undefined: tuple[str, ...], why: str) -> None:
    judged = judge([BOUNDED], subject(undefined=undefined, brier=0.1))
    assert said(judged) == [("log_loss", False, f"log_loss must be at most 0.5, but {why}")]


def test_a_check_that_needs_a_champion_is_left_out_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DuelCheck, "needs_champion", True)
    judged = judge([BOUNDED, DuelCheck(tolerance=0)], subject(log_loss=0.4))
    assert [check.name for check in judged.checks] == ["log_loss"]
    assert judged.facts == {}


@pytest.mark.parametrize(
    ("error", "why"),
    [(ZeroDivisionError("of a value 4711"), "ZeroDivisionError"), (DataError("no such group"), "no such group")],
)
def test_a_check_that_cannot_be_computed_fails_and_hides_nothing_of_the_others(
    monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    # given a check whose module fails, before one that passes
    def broken(asked: Any, subject: Subject) -> Judged:
        raise error

    monkeypatch.setitem(checks._RUN, DuelCheck, broken)
    judged = judge([DuelCheck(tolerance=0), BOUNDED], subject(champion=object(), log_loss=0.4))  # type: ignore[arg-type]
    assert said(judged)[0] == ("duel", False, f"duel could not be computed: {why}")
    assert judged.checks[1].passed


def test_a_check_that_says_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checks._RUN, ThresholdCheck, lambda asked, subject: Judged(()))
    assert said(judge([BOUNDED], subject(log_loss=0.4))) == [
        ("log_loss", False, "threshold could not be computed: it says nothing")
    ]


@pytest.mark.parametrize("error", [StoreError("no answer"), ConnectionError(), MemoryError()])
def test_what_may_go_well_another_time_is_no_verdict(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def cut_off(asked: Any, subject: Subject) -> Judged:
        raise error

    monkeypatch.setitem(checks._RUN, ThresholdCheck, cut_off)
    with pytest.raises(type(error)):
        judge([BOUNDED], subject(log_loss=0.4))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0.31])
def test_a_figure_passes_within_its_bounds_only(value: float) -> None:
    figure = Figure("share", value, min=-1, max=0.3)
    assert not figure.passed and not figure.check("c").passed
    assert figure.fact()["value"] == (0.31 if value == 0.31 else None)
    assert Figure("share", 0.3, min=0.3, max=0.3).passed
    assert not Figure("share", float("inf"), min=-1).passed and not Figure("share", -float("inf"), max=1).passed


def test_of_several_checks_of_a_type_facts_are_a_list_and_files_have_names_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Judged(
        (Check(name="size", passed=True, message="small"),), {"size": {"name": "size"}}, files={"a.json": b"1"}
    )
    monkeypatch.setitem(checks._RUN, SizeCheck, lambda asked, subject: made)
    judged = judge([SizeCheck(type="size", max_bytes=1)] * 2, subject())
    assert judged.facts == {"size": [{"name": "size"}, {"name": "size"}]}
    assert judged.files == {"a.json": b"1", "2_a.json": b"1"}


def test_a_declared_check_that_cannot_be_computed_says_so_among_the_facts() -> None:
    judged = judge([SizeCheck(type="size", max_bytes=1)], subject())
    assert not judged.checks[0].passed
    assert judged.facts["size"][0]["figures"] == [] and judged.facts["size"][0]["error"] == "AssertionError"


def test_facts_are_kept_by_the_type_of_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Judged((Check(name="duel", passed=True, message="won"),), {"duel": {"difference": -0.1}})
    monkeypatch.setitem(checks._RUN, DuelCheck, lambda asked, subject: made)
    judged = judge([BOUNDED, DuelCheck(tolerance=0)], subject(champion=object(), log_loss=0.4))  # type: ignore[arg-type]
    assert judged.facts == {"duel": {"difference": -0.1}}
