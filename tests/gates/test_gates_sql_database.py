"""A gate on a table in PostgreSQL finds what a gate on the same rows in Arrow finds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import ledger_cluster as cluster

from millrace.core.errors import DataError, SpecError, Unavailable
from millrace.gates.checks.builtin import Within
from millrace.gates.database import PostgreSQLRows, validate_table
from millrace.gates.engine import validate

DAYS = [datetime(2013, 1, 1 + n, tzinfo=UTC) for n in range(6)]
TABLE = pa.table({
    "id": [1, 2, 3, 4, 5, 6],
    "n": [1, 2, 2, None, -5, 9],
    "Größe": [0.5, float("nan"), None, -0.0, 2.5, 1e9],
    "s": ["a", "", None, "Ünï", "b b", "a"],
    "t": pa.array(DAYS, pa.timestamp("us", "UTC")),
    "b": [True, None, False, True, True, False],
    "r": pa.array([0.1, float("nan"), None, float("inf"), -2.5, 1e9], pa.float32()),
    "inf": [0.1, float("nan"), None, float("inf"), float("-inf"), 1e9],
})  # fmt: skip
WITHIN = Within("t", "2013-01", DAYS[0], DAYS[5])
ITEMS: list[tuple[str, dict[str, Any]]] = [
    *((f"expect_column_{what}_to_be_between", {"column": c, "min_value": 1, "max_value": 9})
      for what in ("values", "min", "max", "mean", "sum", "median", "stdev") for c in ("id", "n", "Größe", "r")),
    *((f"expect_column_values_to_{what}", {"column": c})
      for what in ("not_be_null", "be_unique", "be_null") for c in TABLE.column_names),
    *((f"expect_column_{what}", {"column": "s", "value_set": ["a", ""]})
      for what in ("values_to_be_in_set", "values_to_not_be_in_set", "distinct_values_to_be_in_set",
                   "distinct_values_to_contain_set", "distinct_values_to_equal_set")),
    *((f"expect_column_values_to_{what}be_in_set", {"column": "n", "value_set": [1, 2]}) for what in ("", "not_")),
    ("expect_column_values_to_be_between", {"column": "s", "min_value": "a", "max_value": "b"}),
    ("expect_column_value_lengths_to_equal", {"column": "s", "value": 1}),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": "^[a-z ]+$"}),
    ("expect_column_values_to_be_between", {"column": "id", "min_value": 3, "row_condition": "n > 1",
                                            "condition_parser": "pandas"}),
    ("expect_column_unique_value_count_to_be_between", {"column": "s", "min_value": 9}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["id", "t"]}),
    ("expect_column_pair_values_to_be_equal", {"column_A": "id", "column_B": "n"}),
    ("expect_table_row_count_to_equal", {"value": 6}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": TABLE.column_names}),
    ("expect_column_to_exist", {"column": "zz"}),
]  # fmt: skip
SUITE = {"name": "s", "expectations": [{"type": kind, "kwargs": kwargs} for kind, kwargs in ITEMS]}


def public(column: str) -> str:
    return "public"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if cluster.INITDB is None:
        pytest.skip("PostgreSQL is not installed")
    from sqlalchemy import create_engine

    with cluster.cluster() as address:
        engine = create_engine(address.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA raw")
            for table in ("raw.rows", "raw.none", "raw.nulls"):
                connection.exec_driver_sql(
                    f'CREATE TABLE {table} (id int, n bigint, "Größe" double precision, s varchar, '
                    "t timestamptz, b boolean, r real, inf double precision)"
                )
            for row in TABLE.to_pylist():
                connection.exec_driver_sql(
                    f"INSERT INTO raw.rows VALUES ({', '.join(['%s'] * TABLE.num_columns)})", tuple(row.values())
                )
            connection.exec_driver_sql("CREATE TABLE raw.large (v numeric)")
            connection.exec_driver_sql("INSERT INTO raw.large VALUES (1), (1e400::numeric)")
            connection.exec_driver_sql("INSERT INTO raw.nulls (id) SELECT * FROM generate_series(1, 3)")
        engine.dispose()
        yield address


def test_both_find_the_same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = (
        validate_table(url, "raw.rows", SUITE, "s", public, WITHIN),
        validate(TABLE, SUITE, "s", public, WITHIN),
    )
    for item, other in zip(there.results, here.results, strict=True):
        assert item.check.model_copy(update={"examples": ()}) == other.check.model_copy(update={"examples": ()})
        assert sorted(item.check.examples) == sorted(other.check.examples)
    assert len(there.verdict.failures) > 20


@pytest.mark.parametrize("table", ["raw.none", "raw.nulls"])
def test_nothing_to_check_fails(url: str, table: str) -> None:
    item = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "n", "min_value": 1}}
    found = validate_table(url, table, {"name": "s", "expectations": [item]}, "s", public)
    assert "no value to check" in found.verdict.checks[-1].message
    assert not found.verdict.checks[-1].passed


def test_a_number_that_no_double_holds_is_said_as_such(url: str) -> None:
    item = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "v", "min_value": 1}}
    with pytest.raises(DataError, match="a number that no double holds") as end:
        validate_table(url, "raw.large", {"name": "s", "expectations": [item]}, "s", public)
    assert "0000" not in str(end.value)


def test_only_what_pandas_needs_is_fetched(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[list[str]] = []
    original = PostgreSQLRows.read
    monkeypatch.setattr(PostgreSQLRows, "read", lambda self, columns: (fetched.append(list(columns)),
                                                                       original(self, columns))[1])  # fmt: skip
    items = [{"type": "expect_column_values_to_match_regex", "kwargs": {"column": "s", "regex": "a"}},
             {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}}]  # fmt: skip
    assert validate_table(url, "raw.rows", {"name": "s", "expectations": items}, "s", public).results[-1].check.passed
    assert fetched == [["s"]]


def test_a_missing_table_and_a_missing_server_are_said(url: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        validate_table(url, "raw.nothing", SUITE, "s", public)
    with pytest.raises(Unavailable, match="cannot be reached"):
        validate_table(f"postgresql://x@/x?host={tmp_path}", "raw.rows", SUITE, "s", public)
    with pytest.raises(SpecError, match="PostgreSQL"):
        validate_table("sqlite://", "rows", SUITE, "s", public)
