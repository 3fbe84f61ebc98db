"""A gate judges every expectation by itself, says in plain words what it found, and adds checks of its own."""

from __future__ import annotations

import decimal
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from millrace.contract import Check
from millrace.core.canonical import canonical_json
from millrace.gates import gx
from millrace.gates.checks.builtin import Within
from millrace.gates.engine import validate
from millrace.gates.gx.frame import to_frame
from millrace.gates.result import GateResult

JANUARY = Within("t", "2013-01", datetime(2013, 1, 1, 5, tzinfo=UTC), datetime(2013, 2, 1, 5, tzinfo=UTC))


def expect(kind: str, meta: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, **({"meta": meta} if meta else {})}


def gate(table: pa.Table, *expectations: dict[str, Any], within: Within | None = None) -> GateResult:
    suite = {"name": "raw", "expectations": list(expectations)}
    return validate(table, suite, "suites/raw.yaml", lambda column: "public", within)


def named(result: GateResult, name: str) -> list[Check]:
    return [check for check in result.verdict.checks if check.name == name]


PRESENT = expect("expect_column_to_exist", column="n")


def test_good_data_pass() -> None:
    table = pa.table({"n": [1, 2, 3], "t": pa.array([datetime(2013, 1, 9, tzinfo=UTC)] * 3)})
    result = gate(table, expect("expect_column_values_to_be_between", column="n", min_value=1), within=JANUARY)
    assert result.verdict.passed
    assert [c.name for c in result.verdict.checks] == [
        "columns", "rows", "suite", "nulls", "finite", "partition", "expect_column_values_to_be_between"]  # fmt: skip


def test_an_infinite_number_fails_and_nan_is_absent() -> None:
    inf, nan = float("inf"), float("nan")
    table = pa.table({"n": [1.0, inf, -inf, nan], "m": pa.array([1, 2, nan, inf], pa.float32()), "k": [1.0, 2, 3, nan]})
    result = gate(table, *(expect("expect_column_values_to_be_between", column=c, min_value=0) for c in "mk"))
    # Then each column with an infinity fails, whatever the suite asks, and NaN is outside of no bounds
    assert [(c.name, c.column, c.unexpected) for c in result.verdict.failures] == [
        ("finite", "n", 2), ("finite", "m", 1)]  # fmt: skip
    assert result.verdict.failures[0].message == "column 'n': finite numbers expected; 2 of 4 rows are infinite"


def test_a_failed_check_says_what_was_expected_and_how_many_rows_differ() -> None:
    table = pa.table({"n": list(range(27_004))})
    result = gate(table, expect("expect_column_values_to_be_between", column="n", min_value=12, max_value=60_000))
    (check,) = result.verdict.failures
    assert check.message == "column 'n': values between 12 and 60,000 expected; 12 of 27,004 rows are outside"
    assert (check.column, check.unexpected, check.total) == ("n", 12, 27_004)
    assert check.examples == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (expect("expect_column_values_to_be_in_set", column="s", value_set=["a", "b"]),
         "column 's': values in [a, b] expected; 1 of 3 rows holds another"),
        (expect("expect_column_values_to_not_be_null", column="n", mostly=0.95),
         "column 'n': values that are not null in at least 95 % of rows expected; 1 of 3 rows is null"),
        (expect("expect_column_mean_to_be_between", column="n", min_value=5),
         "column 'n': a mean at least 5 expected; found 1.5"),
        (expect("expect_column_distinct_values_to_equal_set", column="s", value_set=["a", "z"]),
         "column 's': exactly the values [a, z] expected; 2 other values, 1 missing"),
        (expect("expect_table_row_count_to_be_between", min_value=10),
         "the table: a number of rows at least 10 expected; found 3"),
        (expect("expect_column_to_exist", column="zz"), "column 'zz': that it is there expected; column 'zz' not in "
                                                        "the data"),
        (expect("expect_column_values_to_be_between", column="n", max_value=1, row_condition="s == 'b'",
                condition_parser="pandas"),
         "column 'n': where the row condition holds, values at most 1 expected; 1 of 1 row is outside"),
        (expect("expect_column_value_z_scores_to_be_less_than", column="m", threshold=0.5, double_sided=True),
         "column 'm': column value z scores to be less than ({threshold: 0.5, double_sided: True}) expected; "
         "2 of 3 rows do not meet this"),
    ],
)  # fmt: skip
def test_messages_are_plain_words(item: dict[str, Any], message: str) -> None:
    table = pa.table({"s": ["a", "b", "c"], "n": [1, 2, None], "m": [1.0, 2.0, 9.0]})
    result = gate(table, item)
    assert [c.message for c in result.verdict.failures] == [message]


def test_one_expectation_that_raises_hides_no_other() -> None:
    table = pa.table({"s": ["a", "b"], "n": [1, 1], "l": [[1], [2]]})
    result = gate(
        table,
        expect("expect_column_mean_to_be_between", column="s", min_value=0),
        expect("expect_column_values_to_be_unique", column="n"),
        expect("expect_column_quantile_values_to_be_between", column="n",
               quantile_ranges={"quantiles": [0.5], "value_ranges": [[5, 9]]}),
        expect("expect_column_most_common_value_to_be_in_set", column="l", value_set=[1]),
        expect("expect_colum_to_exist", column="n"),
        expect("expect_column_values_to_be_between", column="n", min_value=1, row_condition="nope > 1",
               condition_parser="pandas"),
        expect("expect_column_values_to_be_of_type", column="s", type_="no_such_type"),
        expect("expect_column_values_to_be_between", column="n", min_value=1),
    )  # fmt: skip
    checks = result.verdict.checks[-8:]
    assert [c.passed for c in checks] == [False] * 7 + [True]
    assert [c.name for c in checks][:3] == ["expect_column_mean_to_be_between", "expect_column_values_to_be_unique",
                                            "expect_column_quantile_values_to_be_between"]  # fmt: skip
    assert "could not be evaluated" in checks[0].message
    assert checks[1].unexpected == 2
    assert "could not be evaluated" in checks[3].message
    assert "no such expectation" in checks[4].message


def test_an_expectation_that_takes_gx_down_fails_alone() -> None:
    from great_expectations import ExpectationSuite
    from great_expectations.expectations import ExpectColumnValuesToBeOfType, ExpectColumnValuesToBeUnique

    table = pa.table({"s": ["a", "b"]})
    stock = [ExpectColumnValuesToBeOfType(column="s", type_="nope", row_condition="zz > 1"),
             ExpectColumnValuesToBeUnique(column="s")]  # fmt: skip
    with gx.quiet(), pytest.raises(Exception, match="zz"):
        gx.over_frame(to_frame(table)).validate(ExpectationSuite(name="s", expectations=stock))
    result = gate(
        table,
        expect("expect_column_values_to_be_of_type", column="s", type_="nope", row_condition="zz > 1"),
        expect("expect_column_values_to_be_unique", column="s"),
    )
    assert [c.passed for c in result.verdict.checks[-2:]] == [False, True]


def test_a_result_that_gx_cannot_serialise_is_kept() -> None:
    item = expect("expect_column_quantile_values_to_be_between", column="n",
                  quantile_ranges={"quantiles": [0.5], "value_ranges": [[1, 9]]})  # fmt: skip
    result = gate(pa.table({"n": pa.array([1, 2, None])}), item)
    assert result.verdict.passed
    assert b'"quantiles":[0.5]' in canonical_json(result.to_json())


def test_a_column_that_is_missing_fails_each_expectation_that_names_it() -> None:
    result = gate(
        pa.table({"n": [1]}),
        expect("expect_column_values_to_be_between", column="zz", min_value=1),
        expect("expect_column_pair_values_to_be_equal", column_A="n", column_B="zz"),
        expect("expect_column_type_to_be", column="zz", type_="int64"),
    )
    assert [c.passed for c in result.verdict.checks[-3:]] == [False] * 3
    assert all("column 'zz' not in the data" in c.message for c in result.verdict.checks[-3:])


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (pa.table({"n": pa.array([], pa.int64())}), "rows"),
        (pa.table({}), "columns"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"]), "columns"),
        (pa.table({"n": [1], "gone": pa.array([None], pa.string())}), "nulls"),
        (pa.table({"n": [1.0, 2.0], "gone": [float("nan")] * 2}), "nulls"),
        (pa.table({"n": [1], "gone": pa.nulls(1)}), "nulls"),
    ],
    ids=["no rows", "no columns", "a column twice", "all null", "all NaN", "null type"],
)
def test_what_is_not_there_fails(table: pa.Table, name: str) -> None:
    result = gate(table, PRESENT)
    assert not result.verdict.passed
    assert any(not c.passed for c in named(result, name))


@pytest.mark.parametrize("suite", [{"name": "raw", "expectations": []}, {"name": "raw"}, {}, None])
def test_a_suite_without_expectations_fails(suite: Any) -> None:
    result = validate(pa.table({"n": [1]}), suite, "suites/raw.yaml", lambda column: "public")
    assert not result.verdict.passed
    assert [c.name for c in result.verdict.failures] == ["suite"]


@pytest.mark.parametrize(
    "item",
    [
        expect("expect_column_values_to_be_null", column="gone"),
        expect("expect_column_values_to_be_in_set", {"millrace": {"may_be_null": True}}, column="gone", value_set=[1]),
    ],
)
def test_the_suite_can_say_that_a_column_holds_nothing(item: dict[str, Any]) -> None:
    table = pa.table({"n": [1], "gone": pa.array([None], pa.int64())})
    assert gate(table, PRESENT, item).verdict.passed
    assert not gate(table, PRESENT).verdict.passed


def test_a_row_condition_excuses_its_own_expectation_only() -> None:
    item = expect("expect_column_values_to_be_in_set", {"millrace": {"may_be_null": True}}, column="gone",
                  value_set=[1], row_condition="n > 5", condition_parser="pandas")  # fmt: skip
    table = pa.table({"n": [1], "gone": pa.array([None], pa.int64())})
    assert [c.name for c in gate(table, item).verdict.failures] == ["nulls"]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", None])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_outside_the_partition_fail_with_counts(zone: str | None, unit: str) -> None:
    inside = [datetime(2013, 1, 1, 5, tzinfo=UTC), datetime(2013, 2, 1, 4, 59, 59, tzinfo=UTC)]
    outside = [datetime(2013, 1, 1, 4, 59, 59, tzinfo=UTC), datetime(2013, 2, 1, 5, tzinfo=UTC)]
    kind = pa.timestamp(unit, zone)
    moments = pa.array([*inside, *outside, None], pa.timestamp(unit, "UTC")).cast(kind if zone else pa.timestamp(unit))
    (check,) = named(gate(pa.table({"n": [1] * 5, "t": moments}), PRESENT, within=JANUARY), "partition")
    assert not check.passed
    assert (check.unexpected, check.total) == (3, 5)
    assert "3 of 5 rows are outside, 1 of them null" in check.message
    assert check.examples == ("2013-01-01T04:59:59Z", "2013-02-01T05:00:00Z")
    within = gate(pa.table({"n": [1] * 2, "t": moments.slice(0, 2)}), PRESENT, within=JANUARY)
    assert named(within, "partition")[0].passed


@pytest.mark.parametrize(
    "table",
    [pa.table({"n": [1]}), pa.table({"n": [1], "t": ["2013-01-09"]}), pa.table({"n": [1], "t": [1357689600]})],
    ids=["missing", "text", "number"],
)
def test_an_event_time_that_is_no_time_fails(table: pa.Table) -> None:
    assert not named(gate(table, PRESENT, within=JANUARY), "partition")[0].passed


@pytest.mark.parametrize("values", [[1, 2, 3], [1, None, 3]], ids=["full", "with nulls"])
def test_an_integer_column_is_int64_with_and_without_nulls(values: list[Any]) -> None:
    table = pa.table({"n": pa.array(values, pa.int64())})
    assert gate(table, expect("expect_column_values_to_be_of_type", column="n", type_="int64")).verdict.passed


def test_large_integers_with_nulls_keep_their_digits() -> None:
    table = pa.table({"n": [2**53, 2**53 + 1, None]})
    assert gate(table, expect("expect_column_values_to_be_unique", column="n")).verdict.passed


@pytest.mark.parametrize(
    ("values", "item"),
    [
        ([True, None], expect("expect_column_values_to_be_of_type", column="n", type_="bool")),
        ([True, False], expect("expect_column_values_to_be_of_type", column="n", type_="bool")),
        ([decimal.Decimal("1.5"), None], expect("expect_column_mean_to_be_between", column="n", max_value=2)),
        (pa.array(["a", None]).dictionary_encode(),
         expect("expect_column_values_to_match_regex", column="n", regex="a")),
        (pa.array([1, None], pa.uint8()), expect("expect_column_max_to_be_between", column="n", max_value=1)),
        ([datetime(2013, 1, 9, tzinfo=UTC), None],
         expect("expect_column_values_to_be_between", column="n", min_value="2013-01-01T00:00:00Z")),
    ],
)  # fmt: skip
def test_arrow_types_reach_gx_in_a_form_that_it_takes(values: Any, item: dict[str, Any]) -> None:
    result = gate(pa.table({"n": values}), item)
    assert result.verdict.passed, result.verdict.failures


def test_a_null_beside_an_integer_in_a_comparison_fails_and_says_what_to_do() -> None:
    table = pa.table({"a": [3, None], "b": [1, 2]})
    item = expect("expect_column_pair_values_a_to_be_greater_than_b", column_A="a", column_B="b")
    assert "ignore_row_if" in gate(table, item).verdict.failures[0].message
    item["kwargs"]["ignore_row_if"] = "either_value_is_missing"
    assert gate(table, item).verdict.passed


def test_the_result_is_the_same_each_time() -> None:
    random = np.random.default_rng(0)
    table = pa.table({"s": [f"v{i}" for i in random.integers(0, 500, 2000)], "x": random.normal(size=2000)})
    items = [
        expect("expect_column_distinct_values_to_be_in_set", column="s", value_set=["v1"]),
        expect("expect_column_most_common_value_to_be_in_set", column="s", value_set=["v1"]),
        expect("expect_column_mean_to_be_between", column="x", min_value=1),
        expect("expect_column_values_to_be_between", column="x", min_value=0),
    ]
    assert gate(table, *items).to_json() == gate(table, *items).to_json()
