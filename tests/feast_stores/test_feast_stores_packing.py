"""Packing by columns writes what protobuf and Feast's own key encoding write, for every value."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from feast import Field
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Map, Value
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millrace.core.errors import DataError
from millrace.feast_stores.online_stores import packing

MOMENT = pa.timestamp("us", "UTC")
START = datetime(2024, 1, 1, tzinfo=UTC)
KINDS: dict[str, tuple[Any, pa.DataType, str, Any]] = {
    "i64": (Int64, pa.int64(), "int64_val", st.integers(-(2**63), 2**63 - 1)),
    "i32": (Int32, pa.int32(), "int32_val", st.integers(-(2**31), 2**31 - 1)),
    "f64": (Float64, pa.float64(), "double_val", st.floats(allow_nan=False)),
    "f32": (Float32, pa.float32(), "float_val", st.floats(width=32, allow_nan=False)),
    "text": (String, pa.string(), "string_val", st.text(max_size=300)),
    "raw": (Bytes, pa.binary(), "bytes_val", st.binary(max_size=20)),
    "flag": (Bool, pa.bool_(), "bool_val", st.booleans()),
    "moment": (UnixTimestamp, pa.timestamp("s", "UTC"), "unix_timestamp_val", st.integers(-(2**40), 2**40)),
    "a_name_that_is_so_long_that_the_length_of_an_entry_takes_two_bytes_" * 2: (
        Int64, pa.int64(), "int64_val", st.integers(-5, 300),
    ),
}  # fmt: skip


def view_of(fields: dict[str, Any], keys: dict[str, Any]) -> Any:
    source = SimpleNamespace(field_mapping={}, timestamp_field="event", created_timestamp_column="created")
    return SimpleNamespace(
        name="view",
        batch_source=source,
        features=[Field(name=name, dtype=kind) for name, kind in fields.items()],
        entity_columns=[Field(name=name, dtype=kind) for name, kind in keys.items()],
    )


VIEW = view_of({name: kind for name, (kind, _, _, _) in KINDS.items()}, {"key": Int64})
ROW = st.fixed_dictionaries({name: st.one_of(st.none(), values) for name, (_, _, _, values) in KINDS.items()})


def pack(rows: list[dict[str, Any]]) -> list[packing.Packed]:
    columns = {name: pa.array([row[name] for row in rows], kind) for name, (_, kind, _, _) in KINDS.items()}
    columns["key"] = pa.array(range(len(rows)), pa.int64())
    columns["event"] = pa.array([START] * len(rows), MOMENT)
    columns["created"] = pa.array([None] * len(rows), MOMENT)
    return packing.pack_table(pa.table(columns), VIEW, 3)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(ROW, max_size=8))
@example(rows=[dict.fromkeys(KINDS)])
def test_rows_are_what_protobuf_writes(rows: list[dict[str, Any]]) -> None:
    packed = pack(rows)
    for row, made in zip(rows, packed, strict=True):
        values = {
            name: Value() if row[name] is None else Value(**{attribute: row[name]})
            for name, (_, _, attribute, _) in KINDS.items()
        }
        expected = b"".join(
            Map(val={name: values[name]}).SerializeToString(deterministic=True) for name in sorted(values)
        )
        written, *_, features = made
        assert features == expected
        assert packing.unpack(features, None) == values
        # and what is pushed is packed alike
        key = EntityKey(join_keys=["key"], entity_values=[Value(int64_val=packed.index(made))])
        pushed, *_, same = packing.pack_row(key, values, START, None)
        assert (pushed, same) == (written, features)


@pytest.mark.parametrize(
    ("kind", "arrow", "attribute", "values"),
    [
        (Int64, pa.int64(), "int64_val", [0, -1, 2**62]),
        (Int32, pa.int32(), "int32_val", [0, -1, 2**30]),
        (String, pa.string(), "string_val", ["", "a", "ü" * 99]),
        (Bytes, pa.binary(), "bytes_val", [b"", b"\x00\xff", b"x"]),
        (UnixTimestamp, pa.timestamp("s", "UTC"), "unix_timestamp_val", [0, 1, 2**33]),
    ],
)
def test_keys_are_feasts(kind: Any, arrow: pa.DataType, attribute: str, values: list[Any]) -> None:
    view = view_of({}, {"z": kind, "a": String})
    rows = pa.table({"z": pa.array(values, arrow), "a": ["x"] * 3, "event": pa.array([START] * 3, MOMENT),
                     "created": pa.array([START] * 3, MOMENT)})  # fmt: skip
    for value, (made, *_) in zip(values, packing.pack_table(rows, view, 0), strict=True):
        key = EntityKey(join_keys=["z", "a"], entity_values=[Value(**{attribute: value}), Value(string_val="x")])
        assert made == serialize_entity_key(key, 3)


def test_not_a_number_is_null_and_lists_are_served() -> None:
    view = view_of({"f": Float64, "list": Array(Int64)}, {"key": String})
    rows = pa.table({"key": ["a"], "event": pa.array([START], MOMENT), "created": pa.array([START], MOMENT),
                     "f": [float("nan")], "list": [[1, 2]]})  # fmt: skip
    ((*_, features),) = packing.pack_table(rows, view, 0)
    values = packing.unpack(features, {"f", "list"})
    assert values["f"] == Value() and list(values["list"].int64_list_val.val) == [1, 2]


@pytest.mark.parametrize("column", ["key", "event"])
def test_rows_without_key_or_time_are_refused(column: str) -> None:
    view = view_of({}, {"key": String})
    rows = {"key": pa.array(["a"]), "event": pa.array([START], MOMENT), "created": pa.array([START], MOMENT)}
    rows[column] = pa.array([None], rows[column].type)
    with pytest.raises(DataError, match="1 rows of feature view 'view' have no"):
        packing.pack_table(pa.table(rows), view, 0)


def test_of_one_key_the_greatest_row_is_left() -> None:
    rows = [(b"k", 1, 0, 0, b"a"), (b"k", 1, 0, 1, b""), (b"k", 0, 9, 9, b"z"), (b"j", 0, 0, 0, b"")]
    assert packing.newest(rows) == [rows[3], rows[1]]
