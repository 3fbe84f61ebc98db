"""Checks that take more than the rows: each passes what it should, and fails the nearest thing to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from millrace.contract import Check
from millrace.core.errors import SpecError
from millrace.gates.checks import beside
from millrace.gates.checks.beside import Surroundings, Trailing
from millrace.spec.gate import gate_checks, references, trailing

END = datetime(2024, 1, 2, tzinfo=UTC)
TABLE = pa.table({
    "id": ["a", "b", "c", "d"],
    "at": pa.array([END - timedelta(hours=n) for n in (20, 9, 7, 3)], pa.timestamp("us", "UTC")),
    "group": ["x", "x", "y", None],
    "n": pa.array([1, 2, None, 4], pa.int64()),
    "late": pa.array([0, 1, 1, None], pa.int64()),
})  # fmt: skip


def one(check: dict[str, Any], table: pa.Table = TABLE, public: bool = True, **around: Any) -> Check:
    asked = gate_checks({"checks": [check]}, "s.yaml")
    defaults: dict[str, Any] = {"event_time": "at", "end": END}
    (found,) = beside.run(table, asked, lambda c: "public" if public else "internal", Surroundings(**defaults | around))
    return found.check


def before(*tables: pa.Table) -> tuple[Trailing, ...]:
    return tuple(
        Trailing(f"day {n}", t.num_rows, lambda columns, t=t: t.select(list(columns))) for n, t in enumerate(tables)
    )


@pytest.mark.parametrize(("age", "passed"), [("PT3H", True), ("PT2H59M", False), ("P1D", True)])
def test_freshness(age: str, passed: bool) -> None:
    assert one({"type": "freshness", "max_age": age}).passed is passed


def test_freshness_needs_a_time() -> None:
    assert not one({"type": "freshness", "max_age": "P9D"}, end=None).passed
    empty = TABLE.set_column(1, "at", pa.nulls(4, TABLE.schema.field("at").type))
    assert not one({"type": "freshness", "max_age": "P9D"}, empty).passed


@pytest.mark.parametrize(
    ("rows", "bounds", "passed"),
    [
        ([4, 4, 4], {"min_ratio": 1.0}, True),
        ([5, 5, 5], {"min_ratio": 0.9}, False),
        ([2, 2, 2], {"max_ratio": 1.9}, False),
        ([1, 4, 400], {"min_ratio": 0.9, "max_ratio": 1.1}, True),  # the median, whatever one day was like
        ([400, 4], {"min_ratio": 0.9, "partitions": 1}, True),  # only the last one
        ([], {"min_ratio": 0.9}, True),
    ],
)
def test_volume(rows: list[int], bounds: dict[str, Any], passed: bool) -> None:
    seen = tuple(Trailing(f"{n}", count, lambda columns: TABLE) for n, count in enumerate(rows))
    check = one({"type": "volume", **bounds}, trailing=seen)
    assert check.passed is passed
    assert rows or "nothing published yet" in check.message


def test_schema_names_each_gap() -> None:
    kinds = {field.name: str(field.type) for field in TABLE.schema}
    assert one({"type": "schema", "columns": kinds}).passed
    wrong = {**kinds, "n": "double", "more": "string"}
    del wrong["id"]
    check = one({"type": "schema", "columns": wrong})
    assert not check.passed and check.unexpected == 3
    for said in ("more is missing", "id is not in the suite", "n is int64, not double"):
        assert said in check.message


def test_unique_across_names_the_partition() -> None:
    other = pa.table({"id": ["z"], "n": [1]})
    assert one({"type": "unique_across", "columns": ["id"]}, trailing=before(other, other)).passed
    check = one({"type": "unique_across", "columns": ["id"]}, trailing=before(other, TABLE.slice(2), other))
    assert not check.passed and check.unexpected == 2 and "2 stand in day 1" in check.message
    # a key is all of its columns, and a null is no key
    assert one({"type": "unique_across", "columns": ["id", "n"]},
               trailing=before(pa.table({"id": ["a", "c"], "n": pa.array([2, None], pa.int64())}))).passed  # fmt: skip


NAN = float("nan")


def test_nan_is_null_in_a_rule() -> None:
    above = {"type": "rule", "says": "v is not negative", "sql": "v >= 0"}
    assert one(above, pa.table({"v": [1.0, NAN, 2.0]})).total == 2
    assert one(above, pa.table({"v": pa.array([1.0, NAN], pa.float32())})).passed
    # DuckDB takes NaN for the largest of all numbers: it would hold for every row
    check = one(above, pa.table({"v": [NAN, NAN]}))
    assert not check.passed and "no value to check" in check.message
    held = one({"type": "rule", "says": "v is there", "sql": "v IS NOT NULL", "min_share": 0.5},
               pa.table({"v": [1.0, NAN, NAN]}))  # fmt: skip
    assert not held.passed and held.unexpected == 2


def test_nan_is_no_key() -> None:
    rows = pa.table({"v": [1.0, NAN]})
    assert one({"type": "unique_across", "columns": ["v"]}, rows, trailing=before(rows)).unexpected == 1
    check = one({"type": "reference", "columns": ["v"], "source": "s"}, rows, sources={"s": lambda columns: rows})
    assert check.passed and check.total == 1


def test_nan_is_no_label_of_a_rate() -> None:
    rows = pa.table({"g": ["x", "y"] * 100, "late": [1.0, 0.0, NAN, NAN] * 50})
    shares = {"shares": {"x": 0.5, "y": 0.5}, "tolerance": 0.1, "rates": {"x": 1.0, "y": 0.0}, "rate_tolerance": 0.1}
    assert one({"type": "bias", "column": "g", "label": "late", "minimum_rows": 50, **shares}, rows).passed


def test_reference() -> None:
    register = {"planes": lambda columns: pa.table({"tail": ["a", "b", "c"]}).select(list(columns))}
    asked = {"type": "reference", "columns": ["id"], "source": "planes", "source_columns": ["tail"]}
    assert one({**asked, "min_share": 0.75}, sources=register).passed
    check = one(asked, sources=register)
    assert not check.passed and check.unexpected == 1
    # what cannot be looked into is not passed
    assert "no published Snapshot" in one(asked).message and not one(asked).passed
    # nulls are left out, and nothing but nulls is nothing to check
    groups = {"groups": lambda columns: pa.table({"group": ["x", "y"]})}
    assert one({"type": "reference", "columns": ["group"], "source": "groups"}, sources=groups).passed
    nulls = TABLE.set_column(2, "group", pa.nulls(4, pa.string()))
    assert not one({"type": "reference", "columns": ["group"], "source": "groups"}, nulls, sources=groups).passed


@pytest.mark.parametrize(
    ("sql", "share", "passed"),
    [
        ("n < 5", 1.0, True),
        ("n < 4", 1.0, False),
        ("n < 4", 0.66, True),
        ("n IS NULL", 0.25, True),
        ("late = 1 AND late = 0", 1.0, False),
        ("NULL", 1.0, False),
        ("nn < 5", 1.0, False),
        ("1 / (n - n) > 'x'", 1.0, False),
        ("n IN (SELECT n FROM read_csv('/etc/passwd'))", 1.0, False),
    ],
)
def test_rule(sql: str, share: float, passed: bool) -> None:
    check = one({"type": "rule", "says": "it holds", "sql": sql, "min_share": share})
    assert check.passed is passed and "it holds" in check.message


def test_bias_of_shares_and_rates() -> None:
    table = pa.table({"g": ["x"] * 60 + ["y"] * 40, "late": [1] * 30 + [0] * 30 + [1] * 4 + [0] * 36})
    good = {"type": "bias", "column": "g", "shares": {"x": 0.58, "y": 0.42}, "tolerance": 0.03, "label": "late",
            "rates": {"x": 0.45, "y": 0.1}, "rate_tolerance": 0.06, "minimum_rows": 10}  # fmt: skip
    assert one(good, table).passed
    assert not one({**good, "tolerance": 0.01}, table).passed
    worse = one({**good, "rates": {"x": 0.3, "y": 0.1}}, table)
    assert not worse.passed and "(x)" in worse.message
    # a group of which too few are known has no rate; a group that nobody declared is missed
    assert one({**good, "rates": {"x": 0.45, "y": 0.9}, "minimum_rows": 50}, table).passed
    others = pa.table({"g": ["x"] * 58 + ["y"] * 36 + ["z"] * 6, "late": [1] * 100})
    assert "in no group" in one({k: good[k] for k in ("type", "column", "shares", "tolerance")}, others).message
    # and of a column that is not public no group is named
    assert "(x)" not in one({**good, "rates": {"x": 0.3, "y": 0.1}}, table, public=False).message


def test_an_error_fails_its_check_and_hides_no_other() -> None:
    asked = gate_checks({"checks": [
        {"type": "rule", "says": "one", "sql": "error('secret value')"},
        {"type": "unique_across", "columns": ["gone"]},
        {"type": "rule", "says": "two", "sql": "n > 0"},
    ]}, "s.yaml")  # fmt: skip
    found = beside.run(TABLE, asked, lambda c: "public", Surroundings())
    assert [f.check.passed for f in found] == [False, False, True]
    assert "secret value" not in str(found)


def test_no_rows_pass_no_check() -> None:
    for check in (
        {"type": "freshness", "max_age": "P9D"},
        {"type": "volume", "max_ratio": 9},
        {"type": "rule", "says": "it holds", "sql": "true"},
        {"type": "bias", "column": "group", "shares": {"x": 0.5, "y": 0.5}, "tolerance": 0.9},
        {"type": "unique_across", "columns": ["id"]},
    ):
        assert not one(check, TABLE.slice(0, 0)).passed, check


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ({"type": "volumes"}, "did you mean 'volume'?"),
        ({"type": "volume"}, "needs min_ratio or max_ratio"),
        ({"type": "volume", "min_ratio": 2, "max_ratio": 1}, "cannot be larger"),
        ({"type": "volume", "min_rati": 1}, "did you mean 'min_ratio'?"),
        ({"type": "freshness", "max_age": "6 hours"}, "freshness, max_age"),
        ({"type": "bias", "column": "g", "shares": {"a": 0.5, "b": 0.1}, "tolerance": 0.1}, "add up to 1"),
        (
            {"type": "bias", "column": "g", "shares": {"a": 0.5, "b": 0.5}, "tolerance": 0.1, "label": "l"},
            "go together",
        ),
        ({"type": "reference", "columns": ["a", "b"], "source": "s", "source_columns": ["a"]}, "one column for each"),
        ("volume", "no such check"),
    ],
)
def test_a_wrong_check_is_named(check: Any, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        gate_checks({"checks": [{"type": "rule", "says": "x", "sql": "true"}, check]}, "s.yaml")
    assert says in str(caught.value) and "s.yaml: checks[1]" in str(caught.value)


def test_what_a_gate_must_fetch() -> None:
    asked = gate_checks({"checks": [
        {"type": "volume", "partitions": 2, "min_ratio": 1},
        {"type": "unique_across", "columns": ["a"], "partitions": 5},
        {"type": "reference", "columns": ["a"], "source": "b"}, {"type": "reference", "columns": ["a"], "source": "a"},
    ]}, "s.yaml")  # fmt: skip
    assert trailing(asked) == 5 and references(asked) == ["a", "b"]
    assert trailing([]) == 0
