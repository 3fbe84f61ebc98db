"""Packing: columns of Arrow to the bytes that an online store keeps, a whole column at a time.

An entity's row is one protobuf `feast.types.Map`, feature name -> Value, its entries in the order of their names, so
that equal values are equal bytes. Building it value by value costs some 20 microseconds a row; here the wire format
is written by numpy. Keys are Feast's own entity keys (`serialize_entity_key`, version 3).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Map, Value
from feast.value_type import ValueType
from numpy.typing import NDArray

from millrace.core.errors import DataError
from millrace.feast_stores.online_stores import wire
from millrace.online.stored import KEY_VERSION, NO_ENTITY

NO_CREATED = -(2**63)
"""Created time of a row that has none: older than every real one."""

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_KEYS = {ValueType.INT32: ("<i4", pa.int32()), ValueType.INT64: ("<i8", pa.int64()),
         ValueType.UNIX_TIMESTAMP: ("<i8", pa.int64())}  # fmt: skip


Packed = tuple[bytes, int, int, int, bytes]
"""One entity's row: key, event time, created time (both in microseconds), revision, features.

Rows of a key are ordered as written: the greater one stays, whatever the order of writes. The revision tells a
corrected row from the one it corrects where event and created time are the same; the bytes of the features come last,
so that no two different rows are equal. A plain tuple, since those of plain values cost the garbage collector nothing.
"""


def pack_table(table: pa.Table, view: FeatureView, revision: int) -> list[Packed]:
    """Pack the rows of a feature view's source, its field mapping applied, in their order.

    Raises DataError for a column that is missing, null where it must not be, or of a type that does not fit.
    """
    source, table = view.batch_source, _mapped(table, view)
    event = source.timestamp_field or ""
    events = _microseconds(_column(table, source.field_mapping.get(event, event), view), view)
    created = source.created_timestamp_column
    known: Sequence[int] = [NO_CREATED] * table.num_rows
    if created:
        column = _column(table, source.field_mapping.get(created, created), view)
        known = pc.fill_null(_us(column, view), NO_CREATED).to_pylist()
    keys = _keys(table, view).to_pylist()
    names = sorted(feature.name for feature in view.features)
    kinds = {feature.name: feature.dtype.to_value_type() for feature in view.features}
    columns = [wire.entries(name, _column(table, name, view), kinds[name], view) for name in names]
    rows = wire.rows(columns, table.num_rows)
    return list(zip(keys, events, known, repeat(revision, table.num_rows), rows, strict=True))


def key_order(table: pa.Table, view: FeatureView) -> pa.Array:
    """Indices of the rows of a view's source in the order of their keys: written so, few pages of a store change.

    Raises DataError for keys that are missing, null or of a type that does not fit.
    """
    return pc.sort_indices(_keys(_mapped(table, view), view))


def pack_row(key: EntityKey, values: Mapping[str, Value], event: datetime, created: datetime | None) -> Packed:
    """Pack one row as Feast hands it over, such as a pushed one. Raises DataError without an event time."""
    encoded = {name: values[name].SerializeToString(deterministic=True) for name in sorted(values)}
    features = b"".join(wire.entry(name, value) for name, value in encoded.items())
    when = _moment(event)
    if when is None:
        raise DataError("a row without an event time cannot be written to the online store")
    known = _moment(created)
    return serialize_entity_key(key, KEY_VERSION), when, NO_CREATED if known is None else known, 0, features


def unpack(features: bytes, wanted: set[str] | None) -> dict[str, Value]:
    """The values of a packed row; those of `wanted` features, or all."""
    row = Map.FromString(features)
    return {name: value for name, value in row.val.items() if wanted is None or name in wanted}


def moment_of(event_us: int) -> datetime:
    """The event time in UTC."""
    return _EPOCH.replace(tzinfo=UTC) + event_us * _MICROSECOND


def newest(rows: Sequence[Packed]) -> list[Packed]:
    """One row per key, the greatest, in the order of the keys: what one statement may write, without deadlocks."""
    return list({row[0]: row for row in sorted(rows)}.values())  # of a key the last one is kept


def _moment(value: datetime | None) -> int | None:
    if value is None or value != value:  # NaT is not equal to itself
        return None
    if value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return (value - _EPOCH) // _MICROSECOND


def _column(table: pa.Table, name: str, view: FeatureView) -> Any:
    if name not in table.column_names:
        raise DataError(
            f"feature view '{view.name}' has a column that the data lack", given=name, allowed=table.column_names
        )
    return table[name].combine_chunks()


def _us(column: Any, view: FeatureView) -> Any:
    if not pa.types.is_timestamp(column.type):
        raise DataError(f"a time of feature view '{view.name}' is no timestamp", given=str(column.type))
    return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())


def _microseconds(column: Any, view: FeatureView) -> list[int]:
    if column.null_count:
        raise DataError(f"{column.null_count} rows of feature view '{view.name}' have no event time")
    found: list[int] = _us(column, view).to_pylist()
    return found


def _mapped(table: pa.Table, view: FeatureView) -> pa.Table:
    """The rows of a view's source under the names of the view."""
    mapping = view.batch_source.field_mapping
    table = table.rename_columns([mapping.get(name, name) for name in table.column_names])
    if NO_ENTITY in {field.name for field in view.entity_columns}:
        table = table.append_column(NO_ENTITY, pa.repeat("", table.num_rows))
    return table


def _keys(table: pa.Table, view: FeatureView) -> pa.Array:
    """Entity keys: number of join keys, their names, then type, length and bytes of each value, by sorted name."""
    kinds = {field.name: field.dtype.to_value_type() for field in view.entity_columns}
    names = sorted(kinds)
    head = struct.pack("<I", len(names))
    for name in names:
        encoded = name.encode()
        head += struct.pack("<II", ValueType.STRING.value, len(encoded)) + encoded
    columns = [part for name in names for part in _key_column(_column(table, name, view), kinds[name], name, view)]
    return pc.binary_join_element_wise(_bytes(head), *columns, _bytes(b""))


def _key_column(column: Any, kind: ValueType, name: str, view: FeatureView) -> list[pa.Array | pa.Scalar]:
    """Type, length and bytes of each value of a join key, to be joined."""
    if column.null_count:
        raise DataError(f"{column.null_count} rows of feature view '{view.name}' have no key", given=name)
    if kind in _KEYS:
        layout, arrow = _KEYS[kind]
        if kind is ValueType.UNIX_TIMESTAMP:
            column = wire.cast(column, pa.timestamp("s", "UTC"), name, view)
        numbers = wire.cast(column, arrow, name, view).to_numpy().astype(layout)
        return [_bytes(struct.pack("<II", kind.value, numbers.dtype.itemsize)), _each(numbers)]
    if kind not in (ValueType.STRING, ValueType.BYTES):
        raise DataError("a join key of this type cannot be served", given=f"{name}: {kind.name}",
                        allowed=["INT32", "INT64", "STRING", "BYTES", "UNIX_TIMESTAMP"])  # fmt: skip
    values = wire.cast(column, wire.TEXT[kind][1], name, view).cast(pa.large_binary())
    lengths = pc.binary_length(values).to_numpy().astype("<u4")
    return [_bytes(struct.pack("<I", kind.value)), _each(lengths), values]


def _bytes(value: bytes) -> pa.Scalar:
    return pa.scalar(value, pa.large_binary())


def _each(numbers: NDArray[Any]) -> pa.Array:
    """The bytes of each number."""
    fixed = pa.binary(numbers.dtype.itemsize)
    held = pa.Array.from_buffers(fixed, len(numbers), [None, pa.py_buffer(np.ascontiguousarray(numbers))])
    return held.cast(pa.large_binary())
