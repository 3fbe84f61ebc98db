"""Packing: columns of Arrow to the bytes that an online store keeps, a whole column at a time.

An entity's row is one protobuf `feast.types.Map`, feature name -> Value, its entries in the order of their names, so
that equal values are equal bytes. Building it value by value costs some 20 microseconds a row; here the wire format
is written by numpy. Keys are Feast's own entity keys (`serialize_entity_key`, version 3).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Map, Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from numpy.typing import NDArray

from millrace.errors import DataError

NO_CREATED = -(2**63)
"""Created time of a row that has none: older than every real one."""
KEY_VERSION = 3
NO_ENTITY = "__dummy_id"
"""Join key of Feast's stand-in for a view without entities; its value is the empty text."""

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_KEYS = {ValueType.INT32: ("<i", pa.int32()), ValueType.INT64: ("<q", pa.int64()),
         ValueType.UNIX_TIMESTAMP: ("<q", pa.int64())}  # fmt: skip
_FIXED = {ValueType.DOUBLE: (0x29, "<f8", pa.float64()), ValueType.FLOAT: (0x35, "<f4", pa.float32())}
"""Type -> (tag of the field in Value, layout, Arrow type): protobuf's 64-bit and 32-bit wire types."""
_VARINT = {ValueType.INT32: (0x18, pa.int32()), ValueType.INT64: (0x20, pa.int64()), ValueType.BOOL: (0x38, pa.bool_()),
           ValueType.UNIX_TIMESTAMP: (0x40, pa.timestamp("s", "UTC"))}  # fmt: skip
_SHORT = 100
"""Bytes of an entry up to which all its lengths surely take one byte."""
_TEXT = {ValueType.BYTES: (0x0A, pa.binary()), ValueType.STRING: (0x12, pa.string())}


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
    rows = _rows([_entries(name, _column(table, name, view), kinds[name], view) for name in names], table.num_rows)
    return list(map(Packed, keys, events, known, repeat(revision), rows))


def pack_row(key: EntityKey, values: Mapping[str, Value], event: datetime, created: datetime | None) -> Packed:
    """Pack one row as Feast hands it over, such as a pushed one. Raises DataError without an event time."""
    features = b"".join(_entry(name, values[name].SerializeToString(deterministic=True)) for name in sorted(values))
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


def _cast(column: Any, kind: pa.DataType, name: str, view: FeatureView) -> Any:
    try:
        if pa.types.is_timestamp(kind) and pa.types.is_timestamp(column.type):
            zoned = column if column.type.tz else pc.assume_timezone(column, "UTC")
            return zoned.cast(kind, safe=False)
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
        raise DataError(
            f"column '{name}' cannot be served as feature view '{view.name}' declares it",
            given=str(column.type),
            allowed=str(kind),
            next_step="Change the field's type in the feature view, or the column's in the SQL",
        ) from err


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
            column = _cast(column, pa.timestamp("s", "UTC"), name, view)
        numbers = _cast(column, arrow, name, view).to_numpy()
        size = struct.calcsize(layout)
        rows = _beside(struct.pack("<II", kind.value, size), numbers.astype(layout[0] + "i" + str(size)))
        return _cut(rows)
    if kind not in (ValueType.STRING, ValueType.BYTES):
        raise DataError("a join key of this type cannot be served", given=f"{name}: {kind.name}",
                        allowed=["INT32", "INT64", "STRING", "BYTES", "UNIX_TIMESTAMP"])  # fmt: skip
    values = _cast(column, _TEXT[kind][1], name, view).cast(pa.binary()).to_pylist()
    tag = struct.pack("<I", kind.value)
    return [tag + struct.pack("<I", len(value)) + value for value in values]


def _entries(name: str, column: Any, kind: ValueType, view: FeatureView) -> _Ragged | list[bytes]:
    """The Map entry of each value of a column; null and NaN become the empty Value, as Feast has it."""
    empty = _entry(name, b"")
    if kind in _FIXED:
        tag, layout, arrow = _FIXED[kind]
        values = _cast(column, arrow, name, view)
        numbers = pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False).astype(layout)
        width = numbers.dtype.itemsize
        made = _Ragged.full(_beside(_entry(name, bytes([tag]) + bytes(width))[:-width], numbers))
        return made.replace(np.isnan(numbers), empty)
    if kind in _VARINT and len(empty) < _SHORT:
        tag, arrow = _VARINT[kind]
        values = _cast(column, arrow, name, view).cast(pa.int64())
        made = _varints(name, tag, pc.fill_null(values, 0).to_numpy(zero_copy_only=False).astype(np.int64))
        return made.replace(np.asarray(values.is_null()), empty)
    if kind in _TEXT:
        tag, arrow = _TEXT[kind]
        coded = _cast(column, arrow, name, view).cast(pa.binary()).dictionary_encode()
        texts = [_entry(name, bytes([tag]) + _varint(len(text)) + text) for text in coded.dictionary.to_pylist()]
        codes = pc.fill_null(coded.indices, len(texts)).to_pylist()
        texts.append(empty)
        return [texts[code] for code in codes]
    protos = python_values_to_proto_values(column.to_pylist(), kind)
    return [_entry(name, proto.SerializeToString(deterministic=True)) for proto in protos]


@dataclass(frozen=True)
class _Ragged:
    """Byte strings as a matrix: of row i the first `sizes[i]` bytes count."""

    matrix: NDArray[np.uint8]
    sizes: NDArray[np.int64]

    @classmethod
    def full(cls, matrix: NDArray[np.uint8]) -> _Ragged:
        """Strings that are all as long as the matrix is wide."""
        return cls(matrix, np.full(len(matrix), matrix.shape[1], dtype=np.int64))

    def replace(self, where: NDArray[np.bool_], text: bytes) -> _Ragged:
        """The same, with a shorter text in some rows."""
        if where.any():
            self.matrix[where, : len(text)] = np.frombuffer(text, dtype=np.uint8)
            self.sizes[where] = len(text)
        return self


def _rows(columns: Sequence[_Ragged | list[bytes]], count: int) -> list[bytes]:
    """Join the columns row by row. Neighbouring matrices are joined as one, which is several times as fast."""
    blocks: list[list[bytes]] = []
    beside: list[_Ragged] = []
    for column in [*columns, []]:
        if isinstance(column, _Ragged):
            beside.append(column)
            continue
        if beside:
            blocks.append(_strings(beside))
            beside = []
        blocks.append(column)
    del blocks[-1]  # what closed the last group
    if not blocks:
        return [b""] * count
    return blocks[0] if len(blocks) == 1 else [b"".join(row) for row in zip(*blocks, strict=True)]


def _strings(columns: Sequence[_Ragged]) -> list[bytes]:
    counted = [np.arange(column.matrix.shape[1]) < column.sizes[:, None] for column in columns]
    matrix, mask = np.concatenate([c.matrix for c in columns], axis=1), np.concatenate(counted, axis=1)
    buffer = matrix[mask].tobytes()
    ends = np.cumsum(sum(column.sizes for column in columns)).tolist()
    return [buffer[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _entry(name: str, value: bytes) -> bytes:
    """One entry of Map.val: key (field 1) and value (field 2), as a length-delimited field 1."""
    key = name.encode()
    inner = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    return b"\x0a" + _varint(len(inner)) + inner


def _varint(number: int) -> bytes:
    """Base-128 varint of a number that is not negative."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _varints(name: str, tag: int, numbers: NDArray[np.int64]) -> _Ragged:
    """Entries of whole numbers; a negative one is ten bytes, as its 64 bits. Lengths take one byte each."""
    left = numbers.view(np.uint64)
    sizes = np.ones(len(left), dtype=np.int64)
    for groups in range(1, 10):
        sizes[left >= np.uint64(1 << (7 * groups))] = groups + 1
    widest = int(sizes.max(initial=1))
    body = ((left[:, None] >> (np.arange(widest, dtype=np.uint64) * np.uint64(7))) & np.uint64(0x7F)).astype(np.uint8)
    body |= np.where(np.arange(widest) < sizes[:, None] - 1, 0x80, 0).astype(np.uint8)
    head = _entry(name, bytes([tag]) + bytes(widest))[:-widest]
    matrix = _beside(head, body)
    less = (widest - sizes).astype(np.uint8)
    matrix[:, 1] -= less  # length of the entry
    matrix[:, len(head) - 2] -= less  # length of the value
    return _Ragged(matrix, len(head) + sizes)


def _beside(head: bytes, values: NDArray[Any]) -> NDArray[np.uint8]:
    """A matrix of bytes: the same head before the bytes of each value."""
    body = (
        values
        if values.ndim == 2
        else np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.dtype.itemsize)
    )
    front = np.broadcast_to(np.frombuffer(head, dtype=np.uint8), (len(body), len(head)))
    return np.concatenate([front, body], axis=1)


def _cut(matrix: NDArray[np.uint8]) -> list[bytes]:
    """The rows of a matrix of bytes."""
    buffer, width = matrix.tobytes(), matrix.shape[1]
    return [buffer[start : start + width] for start in range(0, len(buffer), width)]
