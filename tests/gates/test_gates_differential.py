"""Each expectation type answers in GX's SQL engine as in its pandas engine: verdict, message, counts and examples."""

from __future__ import annotations

import decimal
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from millrace.gates import engine, gx
from millrace.gates.gx import suite
from millrace.gates.gx.frame import Frame, kind_of
from millrace.gates.result import CheckResult
from millrace.gates.sql import rows
from millrace.gates.sql.proven import PANDAS_ONLY, PROVEN, falls_back

ROOT = Path(__file__).resolve().parents[2]
DAYS = [datetime(2013, 1, 1 + n, tzinfo=UTC) for n in range(12)]
TWICE = [*(DAYS[n // 2] for n in range(11)), None]
TABLE = pa.table({
    "n": pa.array([1, 2, 3, 4, 5, None, 7, 8, 9, -10, 11, 12], pa.int64()),
    "n2": pa.array([1, 1, 3, 5, 5, 6, None, 8, 0, -10, 12, None], pa.int64()),
    "i": list(range(12)),
    "j": [0, 1, 1, 2, 5, 5, 5, 8, 9, 9, 9, 12],
    "u8": pa.array(range(12), pa.uint8()),
    "f": [0.5, -0.0, float("nan"), 1e300, None, 2.5, -3.25, 0.5, 7.0, 7.0, 0.1, 100.0],
    "zero": [0.0, -0.0, 1.0, 1.0, 2.0, None, 3.5, 3.5, float("nan"), 4.0, 5.0, 6.0],
    "wide": [float("inf"), *map(float, range(10)), float("-inf")],
    "g": [float(n) for n in range(1, 13)],
    "g2": [1.0, 2.5, 3.0, 3.0, 5.0, -0.0, 0.0, 8.0, 9.5, 10.0, 11.0, 12.0],
    "dec": pa.array([decimal.Decimal(n) / 4 for n in range(12)], pa.decimal128(9, 2)),
    "s": ["a", "bb", "", "ccc", None, "a", "Ünï", "b b", "bb", "x'y", "a", None],
    "w": ["日本", "é", "e\u0301", " a", "a ", "A", "a", "%_", "\\", '"', "\n", "🙂"],
    "w2": ["日本", "e\u0301", "é", " a", "b", "A", "A", "_%", "\\", "'", "\n", "🙂"],
    "order": [f"id{n}" for n in range(12)],
    "Eine Spalte": ["k"] * 12,
    "dic": pa.array(["a", "b", None] * 4).dictionary_encode(),
    "b": [True, False, None] * 4,
    "c": [True] * 12,
    "tu": pa.array(DAYS, pa.timestamp("us", "UTC")),
    "tn": pa.array(TWICE, pa.timestamp("ms", "UTC")),
    "tz": pa.array(TWICE, pa.timestamp("us", "America/New_York")),
    "cl": pa.array([t and t.replace(tzinfo=None) for t in TWICE], pa.timestamp("us")),
    "d": [date(2013, 1, 1 + n // 2) for n in range(11)] + [None],
    "small": pa.array([n / 10 for n in range(12)], pa.float32()),
    "list": [[n] for n in range(11)] + [None],
})  # fmt: skip
KINDS = {field.name: kind_of(field.type) for field in TABLE.schema}
VALUES: dict[str, list[Any]] = {
    "integer": [1, 5, 7], "number": [0.5, 7.0, 0, 1], "text": ["a", "bb", "", "Ünï", "k", "日本"], "boolean": [True],
    "time": ["2013-01-02T00:00:00Z"], "zoned": ["2013-01-02T00:00:00Z"], "clock": ["2013-01-02T00:00:00"],
    "date": ["2013-01-02"], "other": [0.5],
}  # fmt: skip
RANGES: dict[str, list[dict[str, Any]]] = {
    "number": [{"min_value": 1, "max_value": 9}, {"min_value": -1e3, "max_value": 1e9},
               {"max_value": 3.5}, {"min_value": 1, "max_value": 9, "strict_min": True, "strict_max": True},
               {"min_value": 0, "strict_min": True}, {"min_value": 0, "mostly": 0.5}],
    "text": [{"min_value": "a", "max_value": "c"}, {"min_value": "A"}, {"max_value": "k", "strict_max": True},
             {"min_value": 5}],
    "time": [{"min_value": "2013-01-02T00:00:00Z"}],
    "clock": [{"max_value": "2013-01-03", "strict_max": True}],
    "date": [{"min_value": "2013-01-02"}],
    "boolean": [{"min_value": 1}],
    "other": [{"max_value": 0.1}],
}  # fmt: skip
RANGES |= {"integer": RANGES["number"], "zoned": RANGES["time"]}
PAIRS = [("n", "n2"), ("i", "j"), ("f", "g"), ("g", "g2"), ("s", "dic"), ("w", "w2"), ("tu", "tn"), ("i", "g"),
         ("c", "b"), ("order", "i"), ("small", "g")]  # fmt: skip


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Every type that GX computes in pandas, with arguments that pass on some columns and fail on others."""
    made: list[tuple[str, dict[str, Any]]] = []

    def each(kind: str, columns: list[str], *kwargs: dict[str, Any]) -> None:
        made.extend((f"expect_{kind}", {"column": c, **k}) for c in columns for k in kwargs)

    every = TABLE.column_names
    numbers = [c for c in every if KINDS[c] in ("integer", "number")]
    texts = [c for c in every if KINDS[c] == "text"]
    for column in every:
        for what in ("values", "max", "min"):
            ranges = [{k: v for k, v in r.items() if k != "mostly" or what == "values"} for r in RANGES[KINDS[column]]]
            each(f"column_{what}_to_be_between", [column], *ranges)
        members = VALUES[KINDS[column]]
        for what in ("values_to_be_in_set", "values_to_not_be_in_set", "distinct_values_to_be_in_set",
                     "distinct_values_to_contain_set", "distinct_values_to_equal_set",
                     "most_common_value_to_be_in_set"):  # fmt: skip
            each(
                f"column_{what}", [column], {"value_set": members}, {"value_set": members[:1]}, {"value_set": ["x", 1]}
            )
    for what in ("mean", "median", "sum", "stdev"):
        each(f"column_{what}_to_be_between", numbers, *({k: v for k, v in r.items() if k != "mostly"}
                                                       for r in RANGES["number"]))  # fmt: skip
    each("column_unique_value_count_to_be_between", every, {"min_value": 3, "max_value": 9})
    each("column_proportion_of_unique_values_to_be_between", every, {"min_value": 0.7})
    each("column_proportion_of_non_null_values_to_be_between", every, {"min_value": 0.95})
    each("column_values_to_not_be_null", every, {}, {"mostly": 0.9})
    each("column_values_to_be_null", every, {}, {"mostly": 0.1})
    each("column_values_to_be_unique", every, {}, {"mostly": 0.3})
    each("column_to_exist", every, {}, {"column_index": 0})
    each("column_type_to_be", every, {"type_": "int64"})
    each("column_values_to_be_of_type", every, {"type_": "int64"}, {"type_": "str"})
    each("column_values_to_be_in_type_list", every, {"type_list": ["int64", "float64"]})
    each("column_value_lengths_to_be_between", texts, {"min_value": 1, "max_value": 2}, {"max_value": 1})
    each("column_value_lengths_to_equal", texts, {"value": 1}, {"value": 3})
    for way in ("", "not_"):
        each(f"column_values_to_{way}match_regex", texts, {"regex": "^[a-c]+$"})
        each(f"column_values_to_{way}match_regex_list", texts, {"regex_list": ["^a", "b$"]})
    each("column_values_to_be_increasing", numbers, {}, {"strictly": True})
    each("column_values_to_be_decreasing", numbers, {})
    each("column_values_to_be_dateutil_parseable", texts, {})
    each("column_values_to_be_json_parseable", texts, {})
    each("column_values_to_match_json_schema", texts, {"json_schema": {"type": "string"}})
    each("column_values_to_match_strftime_format", texts, {"strftime_format": "%Y"})
    each("column_value_z_scores_to_be_less_than", numbers, {"threshold": 1, "double_sided": True})
    each("column_quantile_values_to_be_between", numbers,
         {"quantile_ranges": {"quantiles": [0.5], "value_ranges": [[3, 8]]}})  # fmt: skip
    each("column_kl_divergence_to_be_less_than", ["dic"],
         {"threshold": 0.1, "partition_object": {"values": ["a", "b"], "weights": [0.5, 0.5]}})  # fmt: skip
    each("column_distinct_values_to_equal_set", ["dic"], {"value_set": ["a", "b"]})
    for a, b in PAIRS:
        for more in ({}, {"ignore_row_if": "either_value_is_missing"}, {"mostly": 0.5}):
            pair = {"column_A": a, "column_B": b, **more}
            made.append(("expect_column_pair_values_to_be_equal", pair))
            made.append(("expect_column_pair_values_a_to_be_greater_than_b", pair))
            made.append(("expect_column_pair_values_a_to_be_greater_than_b", {**pair, "or_equal": True}))
            made.append(("expect_column_pair_values_to_be_in_set", {**pair, "value_pairs_set": [["a", "a"], [1, 1]]}))
        for more in ({}, {"ignore_row_if": "any_value_is_missing"}, {"ignore_row_if": "never"}, {"mostly": 0.5}):
            listed = {"column_list": [a, b], **more}
            made.append(("expect_compound_columns_to_be_unique", listed))
            made.append(("expect_select_column_values_to_be_unique_within_record", listed))
            made.append(("expect_multicolumn_values_to_be_equal", listed))
            made.append(("expect_multicolumn_sum_to_equal", {**listed, "sum_total": 2}))
    made += [("expect_compound_columns_to_be_unique", {"column_list": ["j", other]})
             for other in ("c", "tu", "Eine Spalte", "g2")]  # fmt: skip
    made.append(("expect_multicolumn_sum_to_equal", {"column_list": ["i", "j"], "sum_total": 2, "mostly": 0.05}))
    for what in ("row", "column"):
        for number in (5, 12, TABLE.num_columns, 99):
            made.append((f"expect_table_{what}_count_to_be_between", {"min_value": number}))
            made.append((f"expect_table_{what}_count_to_equal", {"value": number}))
    for columns in (every, every[:4], [*every, "more"]):
        made += [("expect_table_columns_to_match_set", {"column_set": columns, "exact_match": exact})
                 for exact in (True, False)]  # fmt: skip
        made.append(("expect_table_columns_to_match_ordered_list", {"column_list": columns}))
    made += [
        (
            "expect_column_values_to_be_between",
            {"column": "i", "min_value": 3, "row_condition": c, "condition_parser": "pandas"},
        )
        for c in ("n > 4", "s != 'a'")
    ]
    return made  # fmt: skip


CASES = cases()


def suite_of(given: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return {"name": "s", "expectations": [{"type": kind, "kwargs": kwargs} for kind, kwargs in given]}


@pytest.fixture(scope="module")
def in_sql() -> list[tuple[str, dict[str, Any]]]:
    """The cases that SQL is proven to answer alike."""
    entries = suite.read(suite_of(CASES), "s.yaml")
    nulls = Frame(TABLE).nulls
    return [case for case, entry in zip(CASES, entries, strict=True) if falls_back(entry, KINDS, nulls) is None]


def found(rows: int, monkeypatch: pytest.MonkeyPatch, table: pa.Table, given: Any) -> list[CheckResult]:
    """What a gate finds when it takes to SQL from so many rows on."""
    monkeypatch.setattr(engine, "SQL_ROWS", rows)
    return list(engine.validate(table, suite_of(given), "s.yaml", lambda column: "public").results)


def summary(item: CheckResult) -> Any:
    """All that an outcome says, but for the order of examples and the sign of zero."""
    counts = {key: value for key, value in item.result.items() if key != "partial_unexpected_list"}
    examples = sorted(str(value).replace("-0.0", "0.0") for value in item.result.get("partial_unexpected_list", []))
    check = item.check
    return (check.name, check.passed, check.message.replace("found -0", "found 0"), check.unexpected, check.total,
            examples, counts, item.error)  # fmt: skip


def test_each_type_answers_in_sql_as_in_pandas(in_sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a case of every proven type on every proven kind of column, then both engines say the same."""
    pandas = found(10**9, monkeypatch, TABLE, in_sql)
    monkeypatch.setattr(rows, "Frame", None)  # so that nothing goes to pandas
    both = found(0, monkeypatch, TABLE, in_sql)
    assert len(pandas) == len(both) > len(in_sql) > 400
    assert [pair for pair in zip(map(summary, pandas), map(summary, both), strict=True) if pair[0] != pair[1]] == []
    tried = {(kind, KINDS[c]) for kind, kwargs in in_sql for c in columns_of(kind, kwargs)}
    assert tried == {(kind, column) for kind, columns in PROVEN.items() for column in columns}
    verdicts: dict[str, set[bool]] = {}
    for (kind, _), item in zip(in_sql, both[-len(in_sql) :], strict=True):
        assert item.error is None, item
        verdicts.setdefault(kind, set()).add(item.check.passed)
    assert {kind for kind, seen in verdicts.items() if len(seen) == 2} == set(PROVEN) - {"expect_column_to_exist"}


def columns_of(kind: str, kwargs: dict[str, Any]) -> list[str]:
    if kind.startswith("expect_table_"):
        return []
    return [*(kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs),
            *kwargs.get("column_list", [])]  # fmt: skip


def test_what_falls_back_is_answered_by_pandas(in_sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given one case of each type that falls back, row conditions and strange columns too, then pandas answers."""
    chosen = {(kind, columns_of(kind, kwargs)[0], "row_condition" in kwargs): (kind, kwargs)
              for kind, kwargs in CASES if (kind, kwargs) not in in_sql}  # fmt: skip
    given = [case for (_, column, condition), case in chosen.items() if condition or column in ("n", "s", "list", "tz")]
    assert {kind for kind, _ in given} >= set(PANDAS_ONLY) - {"expect_column_kl_divergence_to_be_less_than"}
    assert found(0, monkeypatch, TABLE, given) == found(10**9, monkeypatch, TABLE, given)


def test_every_type_that_gx_computes_in_pandas_is_in_one_list() -> None:
    """Given a new version of GX with a new type, then this says so; till then it goes to pandas."""
    gx.load()
    known = set(gx.types())
    assert set(PROVEN) & set(PANDAS_ONLY) == set()
    assert set(PROVEN) | set(PANDAS_ONLY) <= known
    only_sql = {"expect_column_values_to_match_like_pattern", "expect_column_values_to_match_like_pattern_list",
                "expect_column_values_to_not_match_like_pattern", "expect_column_values_to_not_match_like_pattern_list",
                "expect_query_results_to_match_comparison", "expect_table_row_count_to_equal_other_table",
                "unexpected_rows_expectation", "expect_column_values_to_not_be_outliers"}  # fmt: skip
    assert known - set(PROVEN) - set(PANDAS_ONLY) <= only_sql
    assert {kind for kind, _ in CASES} == set(PROVEN) | set(PANDAS_ONLY)


def test_the_suites_of_this_project_know_where_each_type_goes() -> None:
    written = [
        *ROOT.glob("include/pipelines/*/suites/*.yaml"),
        *ROOT.glob("include/millrace/templates/**/suites/*.yaml"),
    ]
    used = {e["type"] for path in written for e in yaml.safe_load(path.read_text())["expectations"]}
    assert used and used <= set(PROVEN) | set(PANDAS_ONLY)


def test_without_the_list_sql_would_answer_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given no list, then SQL answers otherwise: the list is needed, and the comparison sees it."""
    nulls = ["expect_column_pair_values_to_be_equal"]
    given = [(kind, kwargs) for kind, kwargs in CASES
             if (kind in PANDAS_ONLY and kwargs.get("column", "i") in ("i", "g", "s", "tu"))
             or (kind in nulls and columns_of(kind, kwargs) == ["n", "n2"])]  # fmt: skip
    pandas = found(10**9, monkeypatch, TABLE, given)
    monkeypatch.setattr(rows, "falls_back", lambda *given: None)
    wrong = {
        a.type for a, b in zip(pandas, found(0, monkeypatch, TABLE, given), strict=True) if summary(a) != summary(b)
    }
    unclear = {"expect_column_kl_divergence_to_be_less_than", "expect_column_value_z_scores_to_be_less_than"}
    assert wrong == (set(PANDAS_ONLY) | set(nulls)) - unclear


def test_many_rows_answer_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(7)
    rows = 20_000
    table = pa.table({
        "x": pa.array(random.normal(1e6, 1e3, rows), mask=random.random(rows) < 0.1),
        "k": random.integers(-(2**40), 2**40, rows),
        "s": pa.array(random.choice(["a", "bb", "ß", ""], rows), mask=random.random(rows) < 0.01),
        "t": pa.array([DAYS[0] + timedelta(seconds=int(n)) for n in random.integers(0, 9_999, rows)]),
    })  # fmt: skip
    ranges = [("mean", {"max_value": 1e6}), ("stdev", {"max_value": 1e3}), ("sum", {"min_value": 0}),
              ("median", {"min_value": 1e6}), ("min", {"min_value": 1e6}), ("max", {"max_value": 1e6})]  # fmt: skip
    given = [(f"expect_column_{what}_to_be_between", {"column": c, **bounds})
             for c in ("x", "k") for what, bounds in [*ranges, ("values", {"min_value": 0})]]  # fmt: skip
    given += [("expect_column_values_to_be_unique", {"column": c}) for c in table.column_names]
    given += [("expect_compound_columns_to_be_unique", {"column_list": ["k", "t"]}),
              ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["a", "ß"]})]  # fmt: skip

    def counted(item: CheckResult) -> Any:
        observed = item.result.get("observed_value")
        return (
            item.check.passed,
            item.check.unexpected,
            item.check.total,
            observed and pytest.approx(observed, rel=1e-9),
        )

    answers = [found(n, monkeypatch, table, given) for n in (10**9, 0)]
    assert [counted(item) for item in answers[0]] == [counted(item) for item in answers[1]]
    assert found(0, monkeypatch, table, given) == answers[1], "examples and sums differ between two runs"


@pytest.mark.parametrize("rows", [10**9, 0], ids=["pandas", "sql"])
def test_one_value_has_no_standard_deviation_and_fails(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [("expect_column_stdev_to_be_between", {"column": "x", "min_value": 0, "max_value": 1})]
    assert not found(rows, monkeypatch, pa.table({"x": [1.0]}), given)[-1].check.passed
