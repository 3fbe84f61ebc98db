"""Suites are read strictly: a misspelt word, or an expectation that cannot fail, is named where it stands."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.core.errors import SpecError
from millrace.gates import gx
from millrace.gates.gx.suite import check_suite

WHERE = "flights/suites/raw.yaml"


def suite(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"name": "raw", "expectations": [{"type": kind, "kwargs": kwargs}]}


def refused(given: Any) -> str:
    with pytest.raises(SpecError) as caught:
        check_suite(given, WHERE)
    assert WHERE in str(caught.value)
    return str(caught.value)


def test_the_columns_that_a_suite_names_come_back_once_and_sorted() -> None:
    condition = {"type": "comparison", "column": {"name": "d"}, "operator": "==", "parameter": 1}
    given = {
        "name": "raw",
        "expectations": [
            {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "b", "row_condition": condition}},
            {"type": "expect_column_pair_values_to_be_equal", "kwargs": {"column_A": "c", "column_B": "a"}},
            {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["a", "b"]}},
            {"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": ["e"], "exact_match": False}},
            {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}},
        ],
    }
    assert check_suite(given, WHERE) == ["a", "b", "c", "d", "e"]


def test_every_type_that_runs_in_pandas_is_accepted_and_every_other_refused() -> None:
    from great_expectations.expectations.registry import get_expectation_impl

    kwargs: dict[str, Any] = {
        "column": "a", "column_A": "a", "column_B": "b", "column_list": ["a", "b"], "column_set": ["a"],
        "value_set": [1], "min_value": 0.1, "max_value": 0.9, "regex": "a", "regex_list": ["a"], "like_pattern": "a",
        "like_pattern_list": ["a"], "type_": "str", "type_list": ["str"], "value": 3, "threshold": 0.1,
        "double_sided": True, "json_schema": {"type": "object"}, "strftime_format": "%Y", "sum_total": 1,
        "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}, "value_pairs_set": [["a", "b"]],
        "partition_object": {"values": ["a"], "weights": [1.0]}, "unexpected_rows_query": "select * from {batch}",
        "other_table_name": "x", "base_query": "q", "comparison_data_source_name": "d", "comparison_query": "q",
    }  # fmt: skip
    sql = []
    for kind in gx.types():
        fields = get_expectation_impl(kind).__fields__
        try:
            check_suite(suite(kind, **{k: v for k, v in kwargs.items() if k in fields}), WHERE)
        except SpecError as err:
            assert "needs an SQL engine" in str(err), err
            sql.append(kind)
    assert len(gx.types()) > 50
    assert sql == [
        "expect_column_values_to_match_like_pattern",
        "expect_column_values_to_match_like_pattern_list",
        "expect_column_values_to_not_match_like_pattern",
        "expect_column_values_to_not_match_like_pattern_list",
        "expect_query_results_to_match_comparison",
        "expect_table_row_count_to_equal_other_table",
        "unexpected_rows_expectation",
    ]


def test_a_misspelt_type_gets_the_nearest_name() -> None:
    message = refused(suite("expect_column_values_to_be_betwen", column="a", min_value=1))
    assert "expectations[0]" in message
    assert "did you mean 'expect_column_values_to_be_between'?" in message


def test_a_misspelt_kwarg_gets_the_nearest_name() -> None:
    message = refused(suite("expect_column_values_to_be_between", column="a", min_valu=1))
    assert "did you mean 'min_value'?" in message


@pytest.mark.parametrize("key", ["result_format", "catch_exceptions", "windows"])
def test_kwargs_that_decide_what_a_result_holds_are_not_a_suites_to_give(key: str) -> None:
    assert f"given: '{key}'" in refused(suite("expect_column_values_to_be_unique", column="a", **{key: None}))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "raw", "expectations": []}, "no expectations"),
        ({"name": "raw"}, "list under 'expectations'"),
        ({"expectations": []}, "'name'"),
        ({"name": "raw", "expectation": []}, "did you mean 'expectations'?"),
        ({"name": "raw", "expectations": ["expect_column_to_exist"]}, "mapping with 'type'"),
        ({"name": "raw", "expectations": [{"type": "expect_column_to_exist", "kwarg": {}}]}, "did you mean 'kwargs'?"),
        (["expect_column_to_exist"], "a suite is a mapping"),
        (suite("expect_column_values_to_be_unique"), "column: field required"),
        (suite("expect_column_values_to_be_unique", column="a", mostly=2), "mostly"),
        (suite("expect_column_values_to_be_between", column="a", min_value={"$PARAMETER": "low"}), "no parameters"),
    ],
)
def test_a_suite_of_the_wrong_shape_is_refused(given: Any, says: str) -> None:
    assert says in refused(given)


def test_meta_of_millrace_knows_one_word() -> None:
    given = suite("expect_column_values_to_be_unique", column="a")
    given["expectations"][0]["meta"] = {"millrace": {"may_be_nul": True}, "owner": "anything else is GX's"}
    assert "did you mean 'may_be_null'?" in refused(given)


@pytest.mark.parametrize(
    "given",
    [
        suite("expect_column_values_to_not_be_null", column="a", mostly=0),
        suite("expect_column_max_to_be_between", column="a"),
        suite("expect_table_row_count_to_be_between"),
        suite("expect_table_row_count_to_be_between", min_value=0),
        suite("expect_column_proportion_of_unique_values_to_be_between", column="a", min_value=0, max_value=1),
        suite("expect_column_values_to_not_be_in_set", column="a", value_set=[]),
        suite("expect_column_distinct_values_to_contain_set", column="a", value_set=[]),
        suite("expect_column_values_to_match_regex", column="a"),
        suite("expect_column_values_to_be_in_type_list", column="a"),
        suite("expect_table_columns_to_match_ordered_list"),
        suite("expect_table_columns_to_match_set", exact_match=False),
        suite("expect_multicolumn_values_to_be_equal", column_list=["a", "a"]),
        suite("expect_column_pair_values_to_be_equal", column_A="a", column_B="a"),
        suite("expect_column_kl_divergence_to_be_less_than", column="a", partition_object={"values": []}),
        suite("expect_column_quantile_values_to_be_between", column="a",
              quantile_ranges={"quantiles": [0.5], "value_ranges": [[None, None]]}),
    ],
    ids=lambda given: given["expectations"][0]["type"],
)  # fmt: skip
def test_an_expectation_that_cannot_fail_is_refused(given: dict[str, Any]) -> None:
    assert "cannot fail" in refused(given)
