"""What stock Great Expectations passes because it looks at nothing, a gate fails."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from millrace.contract import Check
from millrace.gates import gx
from millrace.gates.engine import validate
from millrace.gates.gx.frame import to_frame

NULLS = pa.table({"id": [1, 2, 3], "n": pa.array([None] * 3, pa.float64()), "s": pa.array([None] * 3, pa.string())})
NAN = pa.table({"id": [1, 2], "n": [float("nan"), float("nan")]})
EMPTY = pa.table({"id": pa.array([], pa.int64()), "n": pa.array([], pa.float64()), "s": pa.array([], pa.string())})
NEW_YEAR = datetime(2013, 1, 1, tzinfo=UTC)
VALUES = pa.table({"id": [1, 2, 3], "n": [1.0, 2.0, None], "s": ["a", "b", None], "t": [NEW_YEAR] * 3,
                   "d": [NEW_YEAR.date()] * 3})  # fmt: skip


def stock(frame: pd.DataFrame, kind: str, **kwargs: Any) -> bool:
    """GX's own answer."""
    from great_expectations import ExpectationSuite
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    with gx.quiet():
        expectation = ExpectationConfiguration(type=kind, kwargs=kwargs).to_domain_obj()
        return bool(gx.over_frame(frame).validate(ExpectationSuite(name="s", expectations=[expectation])).success)


def ours(table: pa.Table, kind: str, meta: dict[str, Any] | None = None, **kwargs: Any) -> Check:
    """The check that a gate makes of the same expectation."""
    item = {"type": kind, "kwargs": kwargs, **({"meta": meta} if meta else {})}
    result = validate(table, {"name": "s", "expectations": [item]}, "s.yaml", lambda column: "public")
    assert result.verdict.checks[-1].name == kind
    return result.verdict.checks[-1]


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_values_to_be_between", {"column": "n", "min_value": 0}),
        ("expect_column_values_to_be_between", {"column": "n", "min_value": 0, "mostly": 0.9}),
        ("expect_column_values_to_match_regex", {"column": "s", "regex": "^x$"}),
        ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["x"]}),
        ("expect_column_values_to_be_unique", {"column": "n"}),
        ("expect_column_values_to_be_of_type", {"column": "s", "type_": "datetime64"}),
        ("expect_column_values_to_be_increasing", {"column": "n"}),
        ("expect_column_value_lengths_to_equal", {"column": "s", "value": 7}),
        ("expect_column_distinct_values_to_be_in_set", {"column": "s", "value_set": ["x"]}),
        ("expect_column_sum_to_be_between", {"column": "n", "min_value": -1, "max_value": 1}),
        ("expect_column_unique_value_count_to_be_between", {"column": "s", "max_value": 5}),
        ("expect_column_pair_values_to_be_equal", {"column_A": "n", "column_B": "s"}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["n", "s"]}),
    ],
)
@pytest.mark.parametrize("table", [NULLS, EMPTY], ids=["nulls", "empty"])
def test_an_expectation_without_a_value_to_check_fails(table: pa.Table, kind: str, kwargs: dict[str, Any]) -> None:
    if kind != "expect_column_values_to_be_of_type" or table is NULLS:
        assert stock(to_frame(table), kind, **kwargs), "GX has mended this: the guard may go"
    check = ours(table, kind, **kwargs)
    assert not check.passed
    assert "no value to check" in check.message or "no row is selected" in check.message


def test_nan_counts_as_null_when_there_is_nothing_else() -> None:
    assert stock(to_frame(NAN), "expect_column_values_to_be_between", column="n", min_value=0)
    assert not ours(NAN, "expect_column_values_to_be_between", column="n", min_value=0).passed


@pytest.mark.parametrize("kind", ["expect_column_values_to_not_be_null", "expect_column_values_to_be_null"])
def test_null_checks_on_no_rows_fail(kind: str) -> None:
    assert stock(to_frame(EMPTY), kind, column="n")
    assert not ours(EMPTY, kind, column="n").passed


@pytest.mark.parametrize(
    "condition",
    ["s == 'zzz'", {"type": "comparison", "column": {"name": "s"}, "operator": "==", "parameter": "zzz"}],
    ids=["text", "structured"],
)
def test_a_row_condition_that_selects_nothing_fails(condition: Any) -> None:
    kwargs = {"column": "n", "min_value": 100, "row_condition": condition}
    assert stock(to_frame(VALUES), "expect_column_values_to_be_between", **kwargs, condition_parser="pandas")
    check = ours(VALUES, "expect_column_values_to_be_between", **kwargs, condition_parser="pandas")
    assert not check.passed
    assert "no row is selected" in check.message


def test_a_row_condition_that_selects_only_nulls_fails() -> None:
    kwargs = {"column": "n", "min_value": 100, "row_condition": "id == 3", "condition_parser": "pandas"}
    assert stock(to_frame(VALUES), "expect_column_values_to_be_between", **kwargs)
    assert not ours(VALUES, "expect_column_values_to_be_between", **kwargs).passed


def test_mostly_zero_fails() -> None:
    kwargs = {"column": "n", "min_value": 100, "mostly": 0}
    assert stock(to_frame(VALUES), "expect_column_values_to_be_between", **kwargs)
    assert not ours(VALUES, "expect_column_values_to_be_between", **kwargs).passed


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_max_to_be_between", {"column": "n"}),
        ("expect_table_row_count_to_be_between", {}),
        ("expect_column_values_to_not_be_in_set", {"column": "n", "value_set": []}),
        ("expect_column_values_to_be_in_type_list", {"column": "n"}),
        ("expect_table_columns_to_match_ordered_list", {}),
        ("expect_table_columns_to_match_set", {"exact_match": False}),
    ],
)
def test_an_expectation_without_a_bound_fails(kind: str, kwargs: dict[str, Any]) -> None:
    assert stock(to_frame(VALUES), kind, **kwargs)
    check = ours(VALUES, kind, **kwargs)
    assert not check.passed
    assert "cannot fail" in check.message


@pytest.mark.parametrize(
    ("column", "members"), [("n", ["1", "2"]), ("id", ["1"]), ("s", [1, 2]), ("d", ["2013-01-01"]), ("t", [1])]
)
def test_a_forbidden_set_of_another_type_fails(column: str, members: list[Any]) -> None:
    assert stock(to_frame(VALUES), "expect_column_values_to_not_be_in_set", column=column, value_set=members)
    assert not ours(VALUES, "expect_column_values_to_not_be_in_set", column=column, value_set=members).passed


def test_a_forbidden_set_of_the_columns_type_is_judged_by_gx() -> None:
    assert ours(VALUES, "expect_column_values_to_not_be_in_set", column="n", value_set=[9, "x"]).passed
    for column, member in (("n", 2), ("s", "a"), ("t", "2013-01-01T00:00:00Z")):
        assert not ours(VALUES, "expect_column_values_to_not_be_in_set", column=column, value_set=[member]).passed


@pytest.mark.parametrize("severity", ["info", "warning", "critical"])
def test_a_failed_expectation_fails_the_gate_whatever_its_severity(severity: str) -> None:
    item = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "k"}, "severity": severity}
    table = pa.table({"k": [1, 1]})
    assert not validate(table, {"name": "s", "expectations": [item]}, "s.yaml", lambda column: "public").verdict.passed


def test_the_suite_can_allow_a_column_without_values() -> None:
    allowed = {"millrace": {"may_be_null": True}}
    assert ours(NULLS, "expect_column_values_to_be_between", meta=allowed, column="n", min_value=0).passed
    assert not ours(NULLS, "expect_column_values_to_not_be_null", meta=allowed, column="n").passed


def test_the_suite_can_allow_a_row_condition_that_selects_nothing() -> None:
    kwargs = {"column": "n", "min_value": 100, "row_condition": "s == 'zzz'", "condition_parser": "pandas"}
    allowed = {"millrace": {"may_be_null": True}}
    assert ours(VALUES, "expect_column_values_to_be_between", meta=allowed, **kwargs).passed
