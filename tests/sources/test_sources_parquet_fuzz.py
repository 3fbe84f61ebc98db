"""Whatever types a Parquet file has: the values that are in it, or a DataError; and of damaged bytes nothing else."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.core.errors import DataError
from millrace.sources.formats.columns import TYPES
from millrace.sources.formats.tabular import read

pytestmark = pytest.mark.fuzz
KINDS = [kind for kind in TYPES if kind != "binary"]
WHOLE = st.integers(-5, 5) | st.sampled_from([2**53 - 1, 2**53, 2**53 + 1, 2**60, 2**62 + 1, -(2**53) - 1])
FLOATS = st.floats(width=16) | st.integers(-5, 5).map(float) | st.sampled_from([2.0**53, 2.0**24, 2.0**11])
MOMENTS = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))
SECONDS = MOMENTS.map(lambda moment: moment.replace(microsecond=0))


def arrays(kind: pa.DataType, values: st.SearchStrategy[Any]) -> st.SearchStrategy[pa.Array]:
    lists = st.lists(st.none() | values, min_size=1, max_size=4)
    return lists.map(lambda listed: pa.array(listed, kind, from_pandas=False))


PLAIN = st.one_of(
    arrays(pa.int64(), WHOLE), arrays(pa.int8(), st.integers(-5, 5)),
    arrays(pa.uint64(), st.sampled_from([1, 2**63, 2**64 - 1, 2**53 + 1])),
    arrays(pa.float64(), FLOATS | st.floats()), arrays(pa.float32(), FLOATS.map(lambda x: x if abs(x) < 9e4 else 1.0)),
    arrays(pa.decimal128(38, 0), WHOLE.map(Decimal)),
    arrays(pa.decimal128(9, 2), st.integers(-999, 999).map(lambda n: Decimal(n) / 100)),
    arrays(pa.string(), st.text(max_size=4) | st.sampled_from(["1", "2024-01-01", "2024-01-01T00:00:00Z", "12:30"])),
    arrays(pa.large_string(), st.text(max_size=4)), arrays(pa.binary(), st.binary(max_size=4)),
    arrays(pa.bool_(), st.booleans()), arrays(pa.timestamp("us"), MOMENTS),
    *(arrays(pa.timestamp(unit, "UTC"), SECONDS) for unit in ("ms", "us", "ns")),
    arrays(pa.timestamp("us", "UTC"), st.integers(-(2**62), 2**62)), arrays(pa.date32(), st.dates()),
    arrays(pa.date32(), st.integers(-(2**31), 2**31 - 1)), arrays(pa.time64("us"), st.times()),
    arrays(pa.list_(pa.int64()), st.lists(st.integers(0, 3))),
    arrays(pa.struct({"c": pa.string()}), st.just({"c": "x"})),
)  # fmt: skip
COLUMNS = st.tuples(PLAIN, st.booleans()).map(
    lambda made: made[0].dictionary_encode() if made[1] and not pa.types.is_nested(made[0].type) else made[0]
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parquet") / "f.parquet"


def rows(path: Path, kind: str, zone: str | None = None) -> list[Any] | None:
    """The values of column c, None where the file is refused."""
    try:
        return read(path, "f.parquet", "parquet", ["c"], {"c": kind}, lambda column: True, timezone=zone)[
            "c"
        ].to_pylist()
    except DataError as err:
        assert str(err).startswith("f.parquet: "), err
        return None


@given(COLUMNS, st.sampled_from(KINDS))
def test_a_value_is_what_the_file_says_or_refused(path: Path, column: pa.Array, kind: str) -> None:
    pq.write_table(pa.table({"c": column}), path, row_group_size=2)
    found = rows(path, kind)
    if found is not None:
        for value, given_ in zip(found, column.to_pylist(), strict=True):
            assert same(value, given_, kind), (value, given_, column.type)


def same(value: Any, delivered: Any, kind: str) -> bool:
    if delivered is None or (isinstance(delivered, float) and math.isnan(delivered)):
        return value is None
    if kind == "number":
        whole = isinstance(delivered, int) or (
            isinstance(delivered, Decimal) and delivered == delivered.to_integral_value()
        )
        return isinstance(value, float) and value == (delivered if whole else float(delivered)) and math.isfinite(value)
    if kind == "integer":
        return type(value) is int and value == delivered
    if isinstance(delivered, str) and kind != "string":
        return isinstance(value, (datetime, date)) or kind == "time"
    return isinstance(delivered, type(value)) and value == delivered  # nanoseconds are pandas' own kind of datetime


@given(
    COLUMNS, st.sampled_from(KINDS), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=3)
)
def test_damaged_bytes_end_in_words(path: Path, column: pa.Array, kind: str, changes: list[tuple[int, int]]) -> None:
    pq.write_table(pa.table({"c": column}), path, compression="none")
    data = bytearray(path.read_bytes())
    for place, byte in changes:
        data[place % len(data)] = byte
    path.write_bytes(data)
    try:
        rows(path, kind, "UTC")
    except MemoryError:
        pass  # lengths may be damaged, too


def test_moments_far_away_are_refused(path: Path) -> None:
    pq.write_table(pa.table({"c": pa.array([0, 2**62], pa.timestamp("us", "UTC"))}), path)
    assert rows(path, "timestamp") is None
    pq.write_table(pa.table({"c": pa.array([0], pa.timestamp("us", "UTC"))}), path)
    assert rows(path, "timestamp") == [datetime(1970, 1, 1, tzinfo=UTC)]
