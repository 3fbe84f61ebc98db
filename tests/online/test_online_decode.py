"""Rows are decoded to what Feast's API gives, whatever kind of value, and bytes that are no row are refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import (
    BoolList,
    BoolSet,
    BytesList,
    BytesSet,
    DoubleList,
    DoubleSet,
    FloatList,
    FloatSet,
    Int32List,
    Int32Set,
    Int64List,
    Int64Set,
    Map,
    MapKey,
    MapList,
    RepeatedValue,
    ScalarMap,
    ScalarMapEntry,
    StringList,
    StringSet,
    Value,
    ZonedTimestamp,
)  # fmt: skip
from feast.type_map import feast_value_type_to_python_type
from hypothesis import given
from hypothesis import strategies as st

from millrace.core.errors import DataError
from millrace.feast_stores.online_stores.packing import pack_row
from millrace.feast_stores.online_stores.wire import entry
from millrace.online.decode import RowDecoder
from millrace.online.values import READ

I32, I64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
F64, F32 = st.floats(allow_nan=False), st.floats(width=32, allow_nan=False)
SECONDS = st.integers(-(2**33), 2**36)
NO_TIME = -(2**63)
IDS, NUMBERS = st.uuids().map(str), st.decimals(allow_nan=False).map(str)
MOMENTS = st.one_of(SECONDS, st.just(NO_TIME))
JSONS = st.sampled_from(['{"a": [1, null]}', "null", '"x"', "no json", "12"])


def some(values: Any) -> Any:
    return st.lists(values, max_size=5)


SCALARS = {
    "bytes_val": st.binary(max_size=300), "string_val": st.text(max_size=200), "int32_val": I32, "int64_val": I64,
    "double_val": F64, "float_val": F32, "bool_val": st.booleans(), "unix_timestamp_val": MOMENTS, "json_val": JSONS,
    "uuid_val": IDS, "time_uuid_val": IDS, "decimal_val": NUMBERS,
}  # fmt: skip
LISTS = {
    "bytes": (BytesList, BytesSet, st.binary(max_size=5)), "string": (StringList, StringSet, st.text(max_size=5)),
    "int32": (Int32List, Int32Set, I32), "int64": (Int64List, Int64Set, I64), "double": (DoubleList, DoubleSet, F64),
    "float": (FloatList, FloatSet, F32), "bool": (BoolList, BoolSet, st.booleans()),
    "unix_timestamp": (Int64List, Int64Set, MOMENTS), "uuid": (StringList, StringSet, IDS),
    "time_uuid": (StringList, StringSet, IDS), "decimal": (StringList, StringSet, NUMBERS),
}  # fmt: skip
ZONES = st.sampled_from(["", "Europe/Berlin", "UTC", "UTC-07:00", "+05:30", "+0530", "GMT", "nowhere", "../etc"])
KEYS = st.one_of(
    *(
        values.map(lambda value, name=name: MapKey(**{name: value}))
        for name, values in {
            "int32_key": I32, "int64_key": I64, "float_key": F32, "double_key": F64, "bool_key": st.booleans(),
            "unix_timestamp_key": MOMENTS, "bytes_key": st.binary(max_size=3), "uuid_key": IDS, "time_uuid_key": IDS,
            "decimal_key": NUMBERS,
        }.items()
    ),
    st.just(MapKey()),
)  # fmt: skip


def kinds() -> dict[str, Any]:
    """Field of Value -> strategy of Values that have it."""
    made = {name: values.map(lambda value, name=name: Value(**{name: value})) for name, values in SCALARS.items()}
    for name, (many, unique, values) in LISTS.items():
        field = f"{name}_list_val"
        made[field] = some(values).map(lambda held, many=many, field=field: Value(**{field: many(val=held)}))
        field = f"{name}_set_val"
        made[field] = some(values).map(lambda held, unique=unique, field=field: Value(**{field: unique(val=held)}))
    made["json_list_val"] = some(JSONS).map(lambda held: Value(json_list_val=StringList(val=held)))
    inner = st.one_of(st.just(Value()), *made.values())
    maps = st.dictionaries(st.text(max_size=3), inner, max_size=3).map(lambda held: Map(val=held))
    for field in ("map_val", "struct_val"):
        made[field] = maps.map(lambda held, field=field: Value(**{field: held}))
    for field in ("map_list_val", "struct_list_val"):
        made[field] = some(maps).map(lambda held, field=field: Value(**{field: MapList(val=held)}))
    for field in ("list_val", "set_val"):
        made[field] = some(inner).map(lambda held, field=field: Value(**{field: RepeatedValue(val=held)}))
    entries = st.tuples(KEYS, inner).map(lambda pair: ScalarMapEntry(key=pair[0], value=pair[1]))
    made["scalar_map_val"] = some(entries).map(lambda held: Value(scalar_map_val=ScalarMap(val=held)))
    made["zoned_timestamp_val"] = st.tuples(MOMENTS, ZONES).map(
        lambda pair: Value(zoned_timestamp_val=ZonedTimestamp(unix_timestamp=pair[0], zone=pair[1]))
    )
    return made


KINDS = kinds()
NAMES = st.one_of(st.text(min_size=1, max_size=8), st.text("ab", min_size=120, max_size=140))


def packed(values: dict[str, Value]) -> bytes:
    key = EntityKey(join_keys=["k"], entity_values=[Value(int64_val=1)])
    return pack_row(key, values, datetime(2024, 1, 1, tzinfo=UTC), None)[-1]


def decoded(row: bytes, *names: str) -> dict[str, Any]:
    """Decoded twice: a row that is like the one before is read another way."""
    decoder = RowDecoder({name: name for name in names})
    made = decoder.decode(row)
    assert repr(decoder.decode(row)) == repr(made)
    return made


def same(ours: Any, feasts: Any) -> bool:
    return (repr(ours), type(ours)) == (repr(feasts), type(feasts)) or (ours == feasts and type(ours) is type(feasts))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_of_value_is_what_feast_gives(kind: str) -> None:
    @given(value=KINDS[kind])
    def check(value: Value) -> None:
        (made,) = decoded(packed({"f": value}), "f").values()
        assert same(made, feast_value_type_to_python_type(value))
        if kind == "zoned_timestamp_val" and made is not None:
            assert made.utcoffset() == feast_value_type_to_python_type(value).utcoffset()

    check()


def test_no_kind_of_value_is_left_out() -> None:
    fields = {field.name: field.number for field in Value.DESCRIPTOR.fields}
    assert set(KINDS) == set(fields) - {"null_val"}
    assert {tag >> 3 for tag in READ} == set(fields.values())


@given(row=st.dictionaries(NAMES, st.one_of(st.just(Value()), *KINDS.values()), max_size=6), data=st.data())
def test_only_what_is_wanted_is_decoded_in_the_order_wanted(row: dict[str, Value], data: Any) -> None:
    wanted = data.draw(st.permutations(sorted(row)))[: data.draw(st.integers(0, len(row)))] + ["no such feature"]
    made = RowDecoder({name: f"as {name}" for name in wanted}).decode(packed(row))
    assert list(made) == [f"as {name}" for name in wanted]
    assert made["as no such feature"] is None
    assert all(same(made[f"as {n}"], feast_value_type_to_python_type(row[n])) for n in wanted if n in row)


def test_null_and_nan_are_none() -> None:
    values = {
        "no": Value(), "null": Value(null_val=0), "nan": Value(double_val=math.nan), "f": Value(float_val=math.nan),
        "time": Value(unix_timestamp_val=NO_TIME), "inf": Value(double_val=math.inf),
    }  # fmt: skip
    assert decoded(packed(values), *values) == {**dict.fromkeys(values), "inf": math.inf}


def test_values_have_the_types_of_python() -> None:
    values = {
        "at": Value(unix_timestamp_val=0), "id": Value(uuid_val=str(UUID(int=5))), "d": Value(decimal_val="1.50"),
        "there": Value(zoned_timestamp_val=ZonedTimestamp(unix_timestamp=0, zone="Asia/Tokyo")),
        "off": Value(zoned_timestamp_val=ZonedTimestamp(unix_timestamp=0, zone="UTC-07:00")),
    }  # fmt: skip
    assert decoded(packed(values), *values) == {
        "at": datetime(1970, 1, 1, tzinfo=UTC), "id": UUID(int=5), "d": Decimal("1.50"),
        "there": datetime(1970, 1, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo")),
        "off": datetime(1969, 12, 31, 17, tzinfo=timezone(timedelta(hours=-7))),
    }  # fmt: skip


def test_what_protobuf_may_write_otherwise_is_read() -> None:
    """Given an entry with its fields the other way round, one without value, and numbers of a list one by one."""
    value = Value(int64_val=300).SerializeToString()
    swapped = b"\x12" + bytes([len(value)]) + value + b"\x0a\x01a"
    bare = b"\x0a\x01b"
    listed = Value(int64_list_val=Int64List(val=[1])).SerializeToString()[:1] + b"\x04\x08\x01\x08\x02"
    row = b"".join(b"\x0a" + bytes([len(part)]) + part for part in (swapped, bare)) + entry("c", listed)
    assert {name: feast_value_type_to_python_type(v) for name, v in Map.FromString(row).val.items()} == decoded(
        row, "a", "b", "c"
    ) == {"a": 300, "b": None, "c": [1, 2]}  # fmt: skip


ROWS = st.dictionaries(st.sampled_from("abcd"), st.one_of(st.just(Value()), *KINDS.values()), max_size=4)


@given(rows=st.lists(ROWS, max_size=4))
def test_rows_with_other_names_than_the_one_before_are_read(rows: list[dict[str, Value]]) -> None:
    decoder = RowDecoder({name: name for name in "abcd"})
    for row in [*rows, *rows]:
        assert decoder.decode(packed(row)) == {
            name: feast_value_type_to_python_type(row.get(name, Value())) for name in "abcd"
        }


def test_rows_of_doubles_are_read_in_one_go_by_their_own_names_alone() -> None:
    decoder = RowDecoder({"a": "one", "b": "two"})
    doubles = packed({"b": Value(double_val=2.5), "a": Value(double_val=1.5)})
    others = packed({"b": Value(double_val=7.0), "c": Value(double_val=8.0)})
    nan = packed({"a": Value(double_val=math.nan), "b": Value(double_val=-0.0)})
    whole = packed({"a": Value(int64_val=3)})
    both = (doubles, {"one": 1.5, "two": 2.5})
    for row, values in [both, both, (others, {"one": None, "two": 7.0}), both, (nan, {"one": None, "two": -0.0}),
                        (whole, {"one": 3, "two": None}), both]:  # fmt: skip
        assert repr(decoder.decode(row)) == repr(values)
    assert decoder._doubles.size == len(doubles)


def test_of_a_name_that_stands_twice_the_last_value_counts() -> None:
    row = packed({"a": Value(int64_val=1)}) + packed({"a": Value()})
    assert decoded(row, "a") == {"a": None}


@given(row=st.binary(max_size=60))
def test_bytes_that_are_no_row_are_refused(row: bytes) -> None:
    decoder = RowDecoder({"f": "f"})
    decoder.decode(packed({"f": Value(double_val=1)}))
    for _ in range(2):
        try:
            decoder.decode(row)
        except DataError as err:
            assert "cannot be read" in str(err)


@given(row=st.dictionaries(st.just("f"), st.one_of(*KINDS.values()), min_size=1), data=st.data())
def test_a_row_that_was_cut_or_changed_is_refused_or_read(row: dict[str, Value], data: Any) -> None:
    whole, decoder = packed(row), RowDecoder({"f": "f"})
    if data.draw(st.booleans()):
        decoder.decode(whole)
    with pytest.raises(DataError):
        decoder.decode(whole[: data.draw(st.integers(1, len(whole) - 1))])
    at = data.draw(st.integers(0, len(whole) - 1))
    try:
        decoder.decode(whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])
    except DataError:
        pass
