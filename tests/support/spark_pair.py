"""Two engines on the same rows."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import tempfile
from typing import Any

import pyarrow as pa
import pytest

from millrace.sql.dialect.translate import translate
from millrace.sql.select import connect

Rows = list[dict[str, Any]]


class Pair:
    """DuckDB and Spark with the same tables."""

    def __init__(self, session: Any, tables: dict[str, pa.Table]) -> None:
        self.session, self.tables = session, tables
        for name, table in tables.items():
            session.createDataFrame(table).createOrReplaceTempView(name)

    def rows(self, sql: str, zone: str = "UTC") -> tuple[Rows, Rows]:
        """Rows that DuckDB makes on the clocks of a zone, rows that Spark makes of the translation."""
        with tempfile.TemporaryDirectory() as folder, connect(folder, zone) as connection:
            for name, table in self.tables.items():
                connection.register(name, table)
            ours = connection.sql(sql).to_arrow_table()
            theirs = self.session.sql(translate(connection, sql).checked()).toArrow()
        assert ours.column_names == theirs.column_names
        ours = ours.cast(pa.schema([pa.field(f.name, _utc(f.type)) for f in ours.schema]))  # a fold equals no moment
        return ours.to_pylist(), theirs.to_pylist()


def _utc(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("us", "UTC") if pa.types.is_timestamp(kind) and kind.tz else kind


def assert_same(ours: Rows, theirs: Rows) -> None:
    """The same rows, in any order; floats within 1e-9, relative to what is above one."""
    assert len(ours) == len(theirs)
    for one, other in zip(sorted(ours, key=_key), sorted(theirs, key=_key), strict=True):
        for column, value in one.items():
            assert _equal(value, other[column]), f"{column}: DuckDB {value!r}, Spark {other[column]!r} in {one}"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and not math.isinf(one):
        return (one != one and other != other) or abs(one - other) <= 1e-9 * max(1.0, abs(one))
    return bool(one == other) and (one is None) == (other is None)


def _key(row: dict[str, Any]) -> str:
    return repr([f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values()])


def missing() -> str | None:
    """Why Spark cannot run here, None when it can."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed (pip install 'millrace[spark]')"
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        return "there is no Java (17 or 21)"
    return None


@pytest.fixture(scope="module")
def spark_session() -> Any:
    """A session of Spark in this process, on two cores."""
    if reason := missing():
        pytest.skip(reason)
    from millrace.sql.spark import session

    return session("local[2]")
