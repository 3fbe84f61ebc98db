"""The engine by size: where it changes, what it leaves behind, and tables that SQL cannot tell apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from millrace.gates import engine
from millrace.gates.sql import rows

ITEMS = [{"type": "expect_column_values_to_be_unique", "kwargs": {"column": "n"}},
         {"type": "expect_column_values_to_be_between", "kwargs": {"column": "n", "min_value": 1}},
         {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "x", "max_value": 1}}]  # fmt: skip
SUITE = {"name": "s", "expectations": ITEMS}

SCRIPT = """
import sys
import numpy as np
import pyarrow as pa
from datetime import datetime, UTC
from millrace.core.canonical import digest
from millrace.gates import engine
random = np.random.default_rng(3)
table = pa.table({"x": random.normal(size=100_000), "s": [f"v{n % 997}" for n in range(100_000)],
                  "t": pa.array([datetime(2013, 1, 1, tzinfo=UTC)] * 100_000)})
kinds = ["values_to_be_unique", "values_to_be_null", "unique_value_count_to_be_between"]
suite = {"name": "s", "expectations": [
    *({"type": f"expect_column_{k}", "kwargs": {"column": c, **({"min_value": 1e6} if "between" in k else {})}}
      for k in kinds for c in ("s", "t", "x")),
    {"type": "expect_column_distinct_values_to_be_in_set", "kwargs": {"column": "s", "value_set": ["v1"]}},
    {"type": "expect_column_sum_to_be_between", "kwargs": {"column": "x", "min_value": 1e6}},
    {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["s", "t"]}}]}
gate = engine.validate(table, suite, "s", lambda column: "public")
assert len(gate.verdict.failures) >= 9
assert type(engine._rows(table, [])).__name__ == "DuckDBRows"
sys.stdout.write(digest(gate.to_json()))
"""


def test_the_same_bytes_in_every_process_and_nothing_left_behind(tmp_path: Path) -> None:
    printed = set()
    for seed, zone in (("1", "UTC"), ("2", "America/New_York")):
        env = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONHASHSEED": seed, "TZ": zone}
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tmp_path, env=env,
                              timeout=120, check=False)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        printed.add(done.stdout)
        assert list(tmp_path.iterdir()) == []
    assert len(printed) == 1 and len(printed.pop()) == 71


@pytest.mark.parametrize(("size", "opened"), [(4, 0), (3, 1)])
def test_sql_is_used_from_its_size_on_and_let_go(size: int, opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Watched(rows.DuckDBRows):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            seen.append("opened")

        def close(self) -> None:
            super().close()
            seen.append("closed")

    monkeypatch.setattr(rows, "DuckDBRows", Watched)
    monkeypatch.setattr(engine, "SQL_ROWS", size)
    table = pa.table({"n": [1, 2, 3], "x": [0.0, 1.0, 2.0]})
    assert engine.validate(table, SUITE, "s", lambda column: "public").verdict.passed
    assert seen == ["opened", "closed"] * opened


@pytest.mark.parametrize("names", [["n", "N", "x"], ["n", "x", ""], ["n", "x", 'a"b'], ["n", "x", "a%b"]])
def test_names_that_sql_reads_otherwise_stay_in_pandas(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SQL_ROWS", 0)
    monkeypatch.setattr(rows, "DuckDBRows", None)
    table = pa.table([[1, 2, 3]] * len(names), names=names)
    items = ITEMS[:2]
    found = engine.validate(table, {"name": "s", "expectations": items}, "s", lambda column: "public")
    assert found.verdict.passed


def test_columns_that_duckdb_cannot_read_hide_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given decimals of 256 bits, durations, half floats and nulls without a type, then the rest is checked in SQL."""
    monkeypatch.setattr(engine, "SQL_ROWS", 0)
    strange = {"a": pa.array([1, None, 3], pa.decimal256(60, 2)), "b": pa.array([1, 2, None], pa.duration("ns")),
               "c": pa.array([1.0, float("nan"), 2.0], pa.float32()), "d": pa.nulls(3), "e": [{"k": 1}, None, {"k": 2}],
               "f": pa.array([b"x", None, b"\xff"])}  # fmt: skip
    table = pa.table({"n": [1, 2, 3], "x": [0.0, 1.0, 2.0], **strange})
    items = [*ITEMS, *({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": c}} for c in strange)]
    result = engine.validate(table, {"name": "s", "expectations": items}, "s", lambda column: "public")
    assert [c.passed for c in result.verdict.checks[-9:]] == [True] * 3 + [False] * 6
    assert [c.unexpected for c in result.verdict.checks[-6:]] == [1, 1, 1, 3, 1, 1]
    assert [c.column for c in result.verdict.failures if c.name == "nulls"] == ["d"]
