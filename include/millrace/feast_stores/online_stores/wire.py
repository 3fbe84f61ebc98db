"""Wire: columns of Arrow to the entries of a protobuf `feast.types.Map`, a whole column at a time, by numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from numpy.typing import NDArray

from millrace.core.errors import DataError

_FIXED = {ValueType.DOUBLE: (0x29, "<f8", pa.float64()), ValueType.FLOAT: (0x35, "<f4", pa.float32())}
"""Type -> (tag of the field in Value, layout, Arrow type): protobuf's 64-bit and 32-bit wire types."""
_VARINT = {ValueType.INT32: (0x18, pa.int32()), ValueType.INT64: (0x20, pa.int64()), ValueType.BOOL: (0x38, pa.bool_()),
           ValueType.UNIX_TIMESTAMP: (0x40, pa.timestamp("s", "UTC"))}  # fmt: skip
_SHORT = 100
"""Bytes of an entry up to which all its lengths surely take one byte."""
TEXT = {ValueType.BYTES: (0x0A, pa.binary()), ValueType.STRING: (0x12, pa.string())}


def cast(column: Any, kind: pa.DataType, name: str, view: FeatureView) -> Any:
    """A column as a type of Feast's. Raises DataError where it does not fit; quotes no value."""
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


def entries(name: str, column: Any, kind: ValueType, view: FeatureView) -> Ragged | list[bytes]:
    """The Map entry of each value of a column; null and NaN become the empty Value, as Feast has it."""
    empty = entry(name, b"")
    if kind in _FIXED:
        tag, layout, arrow = _FIXED[kind]
        values = cast(column, arrow, name, view)
        numbers = pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False).astype(layout)
        width = numbers.dtype.itemsize
        made = Ragged.full(beside(entry(name, bytes([tag]) + bytes(width))[:-width], numbers))
        return made.replace(np.isnan(numbers), empty)
    if kind in _VARINT and len(empty) < _SHORT:
        tag, arrow = _VARINT[kind]
        values = cast(column, arrow, name, view).cast(pa.int64())
        made = _varints(name, tag, pc.fill_null(values, 0).to_numpy(zero_copy_only=False).astype(np.int64))
        return made.replace(np.asarray(values.is_null()), empty)
    if kind in TEXT:
        tag, arrow = TEXT[kind]
        coded = cast(column, arrow, name, view).cast(pa.binary()).dictionary_encode()
        texts = [entry(name, bytes([tag]) + _varint(len(text)) + text) for text in coded.dictionary.to_pylist()]
        codes = pc.fill_null(coded.indices, len(texts)).to_pylist()
        texts.append(empty)
        return [texts[code] for code in codes]
    protos = python_values_to_proto_values(column.to_pylist(), kind)
    return [entry(name, proto.SerializeToString(deterministic=True)) for proto in protos]


@dataclass(frozen=True)
class Ragged:
    """Byte strings as a matrix: of row i the first `sizes[i]` bytes count."""

    matrix: NDArray[np.uint8]
    sizes: NDArray[np.int64]

    @classmethod
    def full(cls, matrix: NDArray[np.uint8]) -> Ragged:
        """Strings that are all as long as the matrix is wide."""
        return cls(matrix, np.full(len(matrix), matrix.shape[1], dtype=np.int64))

    def replace(self, where: NDArray[np.bool_], text: bytes) -> Ragged:
        """The same, with a shorter text in some rows."""
        if where.any():
            self.matrix[where, : len(text)] = np.frombuffer(text, dtype=np.uint8)
            self.sizes[where] = len(text)
        return self


def rows(columns: Sequence[Ragged | list[bytes]], count: int) -> list[bytes]:
    """Join the columns row by row. Neighbouring matrices are joined as one, which is several times as fast."""
    blocks: list[list[bytes]] = []
    beside: list[Ragged] = []
    for column in [*columns, []]:
        if isinstance(column, Ragged):
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


def _strings(columns: Sequence[Ragged]) -> list[bytes]:
    counted = [np.arange(column.matrix.shape[1]) < column.sizes[:, None] for column in columns]
    matrix, mask = np.concatenate([c.matrix for c in columns], axis=1), np.concatenate(counted, axis=1)
    buffer = matrix[mask].tobytes()
    ends = np.cumsum(sum(column.sizes for column in columns)).tolist()
    return [buffer[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def entry(name: str, value: bytes) -> bytes:
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


def _varints(name: str, tag: int, numbers: NDArray[np.int64]) -> Ragged:
    """Entries of whole numbers; a negative one is ten bytes, as its 64 bits. Lengths take one byte each."""
    left = numbers.view(np.uint64)
    sizes = np.ones(len(left), dtype=np.int64)
    for groups in range(1, 10):
        sizes[left >= np.uint64(1 << (7 * groups))] = groups + 1
    widest = int(sizes.max(initial=1))
    body = ((left[:, None] >> (np.arange(widest, dtype=np.uint64) * np.uint64(7))) & np.uint64(0x7F)).astype(np.uint8)
    body |= np.where(np.arange(widest) < sizes[:, None] - 1, 0x80, 0).astype(np.uint8)
    head = entry(name, bytes([tag]) + bytes(widest))[:-widest]
    matrix = beside(head, body)
    less = (widest - sizes).astype(np.uint8)
    matrix[:, 1] -= less  # length of the entry
    matrix[:, len(head) - 2] -= less  # length of the value
    return Ragged(matrix, len(head) + sizes)


def beside(head: bytes, values: NDArray[Any]) -> NDArray[np.uint8]:
    """A matrix of bytes: the same head before the bytes of each value."""
    body = (
        values
        if values.ndim == 2
        else np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.dtype.itemsize)
    )
    front = np.broadcast_to(np.frombuffer(head, dtype=np.uint8), (len(body), len(head)))
    return np.concatenate([front, body], axis=1)
