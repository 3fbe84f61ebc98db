"""Decode: a packed row to Python values, without protobuf: a row of twenty features in some ten microseconds.

A row is one `feast.types.Map`, its entries written as `feast_stores` packs them: the name, then the value, which is
empty for null. What is written otherwise, which protobuf allows, is read too, only slower.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from millrace.core.errors import DataError
from millrace.online.values import READ, entry
from millrace.online.wire import varint

_DOUBLE = struct.Struct("<d").unpack_from


class RowDecoder:
    """Decodes the rows of one feature view; `names` gives for each name in a row the name that its value gets."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._wanted = {source.encode(): name for source, name in names.items()}
        self._none: dict[str, Any] = dict.fromkeys(names.values())

    def decode(self, row: bytes) -> dict[str, Any]:
        """The wanted values, in the order of the names; None where the row has null, NaN or no such feature.

        Values are those of Feast's `get_online_features(..).to_dict()`. Raises DataError for bytes that are no row.
        """
        values = self._none.copy()
        try:
            self._read(row, values)
        except (IndexError, KeyError, ValueError, OverflowError, ArithmeticError, struct.error) as err:
            raise DataError("a row of the online store cannot be read", given=type(err).__name__) from err
        return values

    def unknown(self) -> dict[str, Any]:
        """What is known of an entity that has no row: each value is None."""
        return self._none.copy()

    def _read(self, row: bytes, values: dict[str, Any]) -> None:
        wanted, at, end = self._wanted, 0, len(row)
        while at < end:
            if row[at] != 0x0A:  # each field of a Map is an entry
                raise ValueError("no entry")
            size = row[at + 1]
            at += 2
            if size > 0x7F:
                size, at = varint(row, at - 1)
            stop = at + size
            if stop > end:
                raise ValueError("cut off")
            begin = at + 2
            middle = begin + row[at + 1]
            if row[at] != 0x0A or row[at + 1] > 0x7F or middle + 1 >= stop or row[middle] != 0x12:
                key, value = entry(row, at, stop)  # a long name, or written by somebody else
                if (name := wanted.get(key)) is not None:
                    values[name] = value
                at = stop
                continue
            name = wanted.get(row[begin:middle])
            if name is not None:
                at = middle + 2
                length = row[middle + 1]
                if length > 0x7F:
                    length, at = varint(row, middle + 1)
                if at + length != stop:
                    raise ValueError("length of a value")
                if length == 9 and row[at] == 0x29:  # the commonest first
                    (number,) = _DOUBLE(row, at + 1)
                    values[name] = number if number == number else None
                elif length:
                    tag = row[at]
                    at += 1
                    if tag > 0x7F:
                        tag, at = varint(row, at - 1)
                    values[name] = READ[tag](row, at, stop)
                else:
                    values[name] = None
            at = stop
