"""Which expectations GX's SQL engine answers as its pandas engine does, and why others go to pandas.

Proven is what tests/gates/test_gates_differential.py finds equal on rows that hold nulls, NaN, infinities, negative
zero, empty text, duplicates, unicode and times: verdict, message and counts; examples up to their order. What stands
in neither list is not proven and goes to pandas too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.gates.gx.suite import Entry

_NUMBERS = frozenset({"integer", "number"})
_PLAIN = frozenset({"integer", "number", "text"})
_SHOWN = frozenset({*_PLAIN, "boolean", "time", "clock", "date"})  # alike in examples
_COUNTED = frozenset({*_SHOWN, "zoned"})

PROVEN: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("expect_table_row_count_to_be_between", "expect_table_row_count_to_equal",
         "expect_table_column_count_to_be_between", "expect_table_column_count_to_equal",
         "expect_table_columns_to_match_set", "expect_table_columns_to_match_ordered_list"), frozenset(),
    ),
    **dict.fromkeys(
        ("expect_column_to_exist", "expect_column_values_to_not_be_null",
         "expect_column_proportion_of_non_null_values_to_be_between", "expect_column_unique_value_count_to_be_between",
         "expect_column_proportion_of_unique_values_to_be_between"), _COUNTED,
    ),
    **dict.fromkeys(
        ("expect_column_values_to_be_null", "expect_column_values_to_be_unique"), _SHOWN,
    ),
    **dict.fromkeys(
        ("expect_column_values_to_be_between", "expect_column_values_to_be_in_set",
         "expect_column_values_to_not_be_in_set", "expect_column_distinct_values_to_be_in_set",
         "expect_column_distinct_values_to_contain_set", "expect_column_distinct_values_to_equal_set",
         "expect_column_min_to_be_between", "expect_column_max_to_be_between", "expect_column_pair_values_to_be_equal",
         "expect_column_pair_values_a_to_be_greater_than_b", "expect_multicolumn_values_to_be_equal",
         "expect_select_column_values_to_be_unique_within_record"), _PLAIN,
    ),
    **dict.fromkeys(
        ("expect_column_mean_to_be_between", "expect_column_median_to_be_between", "expect_column_sum_to_be_between",
         "expect_column_stdev_to_be_between"), _NUMBERS,
    ),
    "expect_compound_columns_to_be_unique": frozenset({*_PLAIN, "boolean", "time"}),
    "expect_multicolumn_sum_to_equal": frozenset({"integer"}),
    "expect_column_value_lengths_to_be_between": frozenset({"text"}),
    "expect_column_value_lengths_to_equal": frozenset({"text"}),
}  # fmt: skip
"""Type -> the kinds of columns (`frame.kind_of`) on which it is proven."""

_NO_REGEX = "GX has no regular expressions for DuckDB"
_NAMES = "the types of SQL have other names"
_NOT_THERE = "GX computes it in pandas and not in SQL"
PANDAS_ONLY: dict[str, str] = {
    "expect_column_kl_divergence_to_be_less_than": "its histogram has other edges",
    "expect_column_most_common_value_to_be_in_set": "of values equally common SQL gives another order",
    "expect_column_pair_values_to_be_in_set": "SQL converts texts to the types of the pairs, and fails where it cannot",
    "expect_column_quantile_values_to_be_between": "between two rows SQL takes the lower one",
    "expect_column_type_to_be": _NAMES,
    "expect_column_value_z_scores_to_be_less_than": "not proven where the standard deviation is nearly 0",
    "expect_column_values_to_be_dateutil_parseable": _NOT_THERE,
    "expect_column_values_to_be_decreasing": _NOT_THERE,
    "expect_column_values_to_be_in_type_list": _NAMES,
    "expect_column_values_to_be_increasing": _NOT_THERE,
    "expect_column_values_to_be_json_parseable": _NOT_THERE,
    "expect_column_values_to_be_of_type": _NAMES,
    "expect_column_values_to_match_json_schema": _NOT_THERE,
    "expect_column_values_to_match_regex": _NO_REGEX,
    "expect_column_values_to_match_regex_list": _NO_REGEX,
    "expect_column_values_to_match_strftime_format": _NOT_THERE,
    "expect_column_values_to_not_match_regex": _NO_REGEX,
    "expect_column_values_to_not_match_regex_list": _NO_REGEX,
}
"""Type -> why it always goes to pandas."""
_ANY_MIX = ("expect_compound_columns_to_be_unique",)
_QUANTITIES = ("expect_column_value_lengths_to_be_between", "expect_column_value_lengths_to_equal",
               "expect_column_unique_value_count_to_be_between",
               "expect_column_proportion_of_unique_values_to_be_between",
               "expect_column_proportion_of_non_null_values_to_be_between")  # fmt: skip
"""Types that compare a number with the suite's values, whatever the column holds."""
_EXACT = 2**53


def falls_back(entry: Entry, kinds: Mapping[str, str], nulls: Mapping[str, int]) -> str | None:
    """Why an expectation goes to pandas, None when SQL is proven to answer alike.

    `kinds` and `nulls` are those of the columns, each of which the expectation finds there.
    """
    if entry.type in PANDAS_ONLY:
        return PANDAS_ONLY[entry.type]
    if entry.type not in PROVEN:
        return "not proven"
    if entry.kwargs.get("row_condition"):
        return "a row condition is pandas' own language, and compares nulls otherwise"
    used = {kinds[column] for column in entry.columns if column in kinds}
    if strange := used - PROVEN[entry.type]:
        return f"not proven on columns that hold {sorted(strange)[0]}"
    if len(entry.columns) > 1:
        if any(nulls.get(column) for column in entry.columns):
            return "SQL compares nulls of several columns otherwise"
        if len(used) > 1 and entry.type not in _ANY_MIX and used != _NUMBERS:
            return "SQL converts one column to the type of the other"
    if "text" in used and entry.type in _QUANTITIES:
        used = {"integer"}
    arguments = [v for key in ("min_value", "max_value", "value", "sum_total") for v in [entry.kwargs.get(key)]]
    members = entry.kwargs.get("value_set")
    arguments = [v for v in arguments if v is not None] + list(members if isinstance(members, list | tuple) else [])
    if entry.type.startswith("expect_column_") and not all(_like(v, used) for v in arguments):
        return "SQL converts the suite's values to the column's type, and fails where it cannot"
    return None


def _like(value: Any, kinds: set[str]) -> bool:
    """Whether a suite's value compares with a column in both engines alike."""
    if isinstance(value, str):
        return kinds == {"text"}
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "text" not in kinds and number and math.isfinite(value) and abs(value) <= _EXACT
