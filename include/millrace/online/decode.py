"""Decode: a packed row to Python values, without protobuf: a row of twenty features in some ten microseconds.

A row is one `feast.types.Map`, its entries written as `feast_stores` packs them: the name, then the value, which is
empty for null. What is written otherwise, as protobuf allows, is read too, only slower.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import isfinite
from typing import Any

from millrace.core.errors import DataError
from millrace.online.values import entry, read_value
from millrace.online.wire import varint

_DOUBLE = struct.Struct("<d").unpack_from


class RowDecoder:
    """Decodes the rows of one feature view; `names` gives for each name in a row the name that its value gets.

    A view's rows have the same names in the same order, as long as its definition stays: where the last row had a name,
    the next one is compared with it, which takes half the time of reading it.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._wanted = {source.encode(): name for source, name in names.items()}
        self._none: dict[str, Any] = dict.fromkeys(names.values())
        self._layout: list[tuple[bytes, int, str | None]] = []
        """ Of each entry of the last row: the bytes before its value, how many they are, and whose value it is. """
        self._doubles, self._heads, self._names = struct.Struct("0s"), list[bytes](), list[str]()
        """ How a row is read in one go that has nothing but doubles, and the names of one before. """

    def decode(self, row: bytes) -> dict[str, Any]:
        """The wanted values, in the order of the names; None where the row has null, NaN or no such feature.

        Values are those of Feast's `get_online_features(..).to_dict()`. Raises DataError for bytes that are no row.
        """
        if len(row) == self._doubles.size:
            (*found,) = self._doubles.unpack(row)
            numbers = found[1::2]
            if found[::2] == self._heads and isfinite(sum(numbers)):
                values = self._none.copy()
                values.update(zip(self._names, numbers, strict=True))
                return values
        values = self._none.copy()
        try:
            at = self._as_before(row, values)
            if at < len(row):
                self._read(row, values)
        except (IndexError, KeyError, ValueError, OverflowError, ArithmeticError, OSError, struct.error) as err:
            raise DataError("a row of the online store cannot be read", given=type(err).__name__) from err
        return values

    def unknown(self) -> dict[str, Any]:
        """What is known of an entity that has no row: each value is None."""
        return self._none.copy()

    def _as_before(self, row: bytes, values: dict[str, Any]) -> int:
        """Read entries as long as they are those of the last row; return where that ends."""
        at, end = 0, len(row)
        for head, width, name in self._layout:
            if at == end:
                break
            size, start = row[at + 1], at + 2
            if size > 0x7F:
                size, start = varint(row, at + 1)
            stop = start + size
            if stop > end or row[at] != 0x0A or not row.startswith(head, start):
                break
            at = stop
            if name is None:
                continue
            begin = start + width + 1
            length = row[begin - 1]
            if length > 0x7F:
                length, begin = varint(row, begin - 1)
            if begin + length != stop:
                raise ValueError("length of a value")
            if not length:
                continue
            tag = row[begin]  # the commonest kinds are read here: a call costs as much as what it would do
            if tag == 0x29 and length == 9:
                (number,) = _DOUBLE(row, begin + 1)
                if number == number:
                    values[name] = number
            elif tag == 0x20 or tag == 0x18:
                values[name] = _whole(row[begin + 1 : stop])
            elif tag == 0x12 and row[begin + 1] == length - 2:
                values[name] = row[begin + 2 : stop].decode()
            elif tag == 0x38 and length == 2:
                values[name] = row[begin + 1] != 0
            else:
                values[name] = read_value(row, begin, stop)
        return at

    def _read(self, row: bytes, values: dict[str, Any]) -> None:
        """Read every entry, and remember what their names are."""
        at, end = 0, len(row)
        layout: list[tuple[bytes, int, str | None]] = []
        while at < end:
            if row[at] != 0x0A:  # each field of a Map is an entry
                raise ValueError("no entry")
            size, start = varint(row, at + 1)
            at = start + size
            if at > end:
                raise ValueError("cut off")
            key, value = entry(row, start, at)
            name = self._wanted.get(key)
            if name is not None:
                values[name] = value
            head = bytes([0x0A, len(key)]) + key + b"\x12" if len(key) <= 0x7F else b""
            if head and row.startswith(head, start):
                layout.append((head, len(head), name))
        self._layout = layout if len(set(layout)) == len(layout) else []  # of a name twice, the last one counts
        names = [name for _, _, name in self._layout if name is not None]
        if len(names) == len(layout) and all(width < 100 for _, width, _ in layout):
            # an entry's length, what stands before its value, the value's length (9) and kind (a double)
            self._heads = [b"\x0a%c%b\x09\x29" % (width + 10, head) for head, width, _ in layout]
            self._doubles = struct.Struct("<" + "".join(f"{len(head)}sd" for head in self._heads))
            self._names = names


def _whole(content: bytes) -> int:
    """A varint of 64 bits with a sign, and nothing after it."""
    number = content[0]
    if number > 0x7F:
        number &= 0x7F
        shift = 0
        for byte in content[1:]:
            shift += 7
            number |= (byte & 0x7F) << shift
        if content[-1] > 0x7F or shift > 63:
            raise ValueError("varint")
        if number & 0x8000_0000_0000_0000:
            number = (number & 0xFFFF_FFFF_FFFF_FFFF) - 2**64
    elif len(content) > 1:
        raise ValueError("varint")
    return number
