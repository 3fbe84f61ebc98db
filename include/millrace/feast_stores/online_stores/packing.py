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
from typing import Any, NamedTuple

import pyarrow as pa
from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Map, Value
from feast.value_type import ValueType

from millrace.core.errors import DataError
from millrace.feast_stores.online_stores import wire

NO_CREATED = -(2**63)
"""Created time of a row that has none: older than every real one."""
KEY_VERSION = 3
NO_ENTITY = "__dummy_id"
"""Join key of Feast's stand-in for a view without entities; its value is the empty text."""

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_KEYS = {ValueType.INT32: ("<i", pa.int32()), ValueType.INT64: ("<q", pa.int64()),
         ValueType.UNIX_TIMESTAMP: ("<q", pa.int64())}  # fmt: skip


class Packed(NamedTuple):
    """One entity's row. They are ordered as written: the greater one stays, whatever the order of writes.

    `revision` tells a corrected row from the one it corrects where event and created time are the same; the bytes
    of the features come last, so that no two different rows are equal.
    """

    key: bytes
    event_us: int
    created_us: int
    revision: int
    features: bytes

    @property
    def rank(self) -> tuple[int, int, int, bytes]:
        """What decides between two rows of a key."""
        return self[1:]


def pack_table(table: pa.Table, view: FeatureView, revision: int) -> list[Packed]:
    """Pack the rows of a feature view's source, its field mapping applied, in their order.

    Raises DataError for a column that is missing, null where it must not be, or of a type that does not fit.
    """
    source = view.batch_source
    table = table.rename_columns([source.field_mapping.get(name, name) for name in table.column_names])
    if NO_ENTITY in {field.name for field in view.entity_columns}:
        table = table.append_column(NO_ENTITY, pa.repeat("", table.num_rows))
    event = source.timestamp_field or ""
    events = _microseconds(_column(table, source.field_mapping.get(event, event), view), view)
    created = source.created_timestamp_column
    known: Sequence[int] = [NO_CREATED] * table.num_rows
    if created:
        column = _column(table, source.field_mapping.get(created, created), view)
        known = [NO_CREATED if value is None else value for value in _us(column, view).to_pylist()]
    keys = _keys(table, {field.name: field.dtype.to_value_type() for field in view.entity_columns}, view)
    names = sorted(feature.name for feature in view.features)
    kinds = {feature.name: feature.dtype.to_value_type() for feature in view.features}
    columns = [wire.entries(name, _column(table, name, view), kinds[name], view) for name in names]
    rows = wire.rows(columns, table.num_rows)
    return list(map(Packed, keys, events, known, repeat(revision), rows))


def pack_row(key: EntityKey, values: Mapping[str, Value], event: datetime, created: datetime | None) -> Packed:
    """Pack one row as Feast hands it over, such as a pushed one. Raises DataError without an event time."""
    encoded = {name: values[name].SerializeToString(deterministic=True) for name in sorted(values)}
    features = b"".join(wire.entry(name, value) for name, value in encoded.items())
    when = _moment(event)
    if when is None:
        raise DataError("a row without an event time cannot be written to the online store")
    known = _moment(created)
    return Packed(serialize_entity_key(key, KEY_VERSION), when, NO_CREATED if known is None else known, 0, features)


def unpack(features: bytes, wanted: set[str] | None) -> dict[str, Value]:
    """The values of a packed row; those of `wanted` features, or all."""
    row = Map.FromString(features)
    return {name: value for name, value in row.val.items() if wanted is None or name in wanted}


def moment_of(event_us: int) -> datetime:
    """The event time in UTC."""
    return _EPOCH.replace(tzinfo=UTC) + event_us * _MICROSECOND


def newest(rows: Sequence[Packed]) -> list[Packed]:
    """One row per key, the greatest, in the order of the keys: what one statement may write, without deadlocks."""
    best: dict[bytes, Packed] = {}
    for row in rows:
        held = best.get(row.key)
        if held is None or row.rank > held.rank:
            best[row.key] = row
    return [best[key] for key in sorted(best)]


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


def _keys(table: pa.Table, kinds: Mapping[str, ValueType], view: FeatureView) -> list[bytes]:
    """Entity keys: number of join keys, their names, then type, length and bytes of each value, by sorted name."""
    names = sorted(kinds)
    head = struct.pack("<I", len(names))
    for name in names:
        encoded = name.encode()
        head += struct.pack("<II", ValueType.STRING.value, len(encoded)) + encoded
    columns = [_key_column(_column(table, name, view), kinds[name], name, view) for name in names]
    return [head + b"".join(values) for values in zip(*columns, strict=True)]


def _key_column(column: Any, kind: ValueType, name: str, view: FeatureView) -> list[bytes]:
    if column.null_count:
        raise DataError(f"{column.null_count} rows of feature view '{view.name}' have no key", given=name)
    if kind in _KEYS:
        layout, arrow = _KEYS[kind]
        if kind is ValueType.UNIX_TIMESTAMP:
            column = wire.cast(column, pa.timestamp("s", "UTC"), name, view)
        numbers = wire.cast(column, arrow, name, view).to_numpy()
        size = struct.calcsize(layout)
        rows = wire.beside(struct.pack("<II", kind.value, size), numbers.astype(layout[0] + "i" + str(size)))
        return wire.cut(rows)
    if kind not in (ValueType.STRING, ValueType.BYTES):
        raise DataError("a join key of this type cannot be served", given=f"{name}: {kind.name}",
                        allowed=["INT32", "INT64", "STRING", "BYTES", "UNIX_TIMESTAMP"])  # fmt: skip
    values = wire.cast(column, wire.TEXT[kind][1], name, view).cast(pa.binary()).to_pylist()
    tag = struct.pack("<I", kind.value)
    return [tag + struct.pack("<I", len(value)) + value for value in values]
