"""Values: each kind of `feast.types.Value` read from protobuf's wire format, as Feast's API gives it to Python."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from millrace.online.wire import content, field_end, fields, varint

Read = Callable[[bytes, int, int], Any]
"""Reads the value in bytes[at:end], which follows its tag; a length-delimited one begins with its length."""

_NO_TIME = -(2**63)
"""How Feast writes that there is no time where null cannot stand."""
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{2}):?(\d{2})")
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")


def entry(data: bytes, at: int, end: int) -> tuple[bytes, Any]:
    """Name and value of an entry of a Map, its fields in any order, each at its default where it is left out."""
    key, value = b"", None
    for field, start, stop in fields(data, at, end):
        if field == 1:
            key = data[start:stop]
        elif field == 2:
            value = read_value(data, start, stop)
    return key, value


def read_value(data: bytes, at: int, end: int) -> Any:
    """A Value message; None where none of its fields is set. The last one counts, as in protobuf."""
    found = None
    while at < end:
        tag, begin = varint(data, at)
        at = field_end(data, tag & 7, begin, end)
        found = READ[tag](data, begin, at)
    return found


def _varint_of(read: Callable[[int], Any]) -> Read:
    def value(data: bytes, at: int, end: int) -> Any:
        number = data[at]
        if number > 0x7F:
            number, at = varint(data, at)
        else:
            at += 1
        if at != end:
            raise ValueError("length of a value")
        return read(number)

    return value


def _fixed_of(packer: struct.Struct) -> Read:
    def value(data: bytes, at: int, end: int) -> Any:
        if at + packer.size != end:
            raise ValueError("length of a value")
        (number,) = packer.unpack_from(data, at)
        return number if number == number else None  # NaN is null, as when it is written by columns

    return value


def _content_of(read: Callable[[bytes], Any]) -> Read:
    def value(data: bytes, at: int, end: int) -> Any:
        at, end = content(data, at, end)
        return read(data[at:end])

    return value


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _signed32(number: int) -> int:
    number &= 0xFFFF_FFFF
    return number - 2**32 if number >= 2**31 else number


def _moment(number: int) -> datetime | None:
    seconds = _signed(number)
    return None if seconds == _NO_TIME else datetime.fromtimestamp(seconds, UTC)


def _json(content: bytes) -> Any:
    text = content.decode()
    try:
        return json.loads(text)
    except ValueError:
        return text


def _messages(read: Read, into: Callable[[Any], Any] = list) -> Read:
    """A message with one repeated field, each of its values a message or text that `read` reads."""

    def value(data: bytes, at: int, end: int) -> Any:
        return into(
            read(data, begin, stop) for field, begin, stop in fields(data, *content(data, at, end)) if field == 1
        )

    return value


def _numbers(read: Callable[[bytes, int], tuple[Any, int]], into: Callable[[Any], Any] = list) -> Read:
    """A message with one repeated field of numbers, packed or one by one."""

    def value(data: bytes, at: int, end: int) -> Any:
        found: list[Any] = []
        for field, begin, stop in fields(data, *content(data, at, end)):
            while field == 1 and begin < stop:
                number, begin = read(data, begin)
                found.append(number)
        return into(found)

    return value


def _repeated(read: Callable[[int], Any]) -> Callable[[bytes, int], tuple[Any, int]]:
    def value(data: bytes, at: int) -> tuple[Any, int]:
        number, at = varint(data, at)
        return read(number), at

    return value


def _repeated_fixed(packer: struct.Struct) -> Callable[[bytes, int], tuple[Any, int]]:
    return lambda data, at: (packer.unpack_from(data, at)[0], at + packer.size)


def _text_of(read: Callable[[bytes], Any]) -> Read:
    return lambda data, at, end: read(data[at:end])


def _map(data: bytes, at: int, end: int) -> dict[str, Any]:
    pairs = (entry(data, begin, stop) for field, begin, stop in fields(data, at, end) if field == 1)
    return {key.decode(): value for key, value in pairs}


def _scalar_map(data: bytes, at: int, end: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for _, begin, stop in fields(data, at, end):
        key = value = None
        for field, start, until in fields(data, begin, stop):
            if field == 1:
                key = _map_key(data, start, until)
            elif field == 2:
                value = read_value(data, start, until)
        found[key] = value
    return found


def _map_key(data: bytes, at: int, end: int) -> Any:
    found = None
    while at < end:
        tag, begin = varint(data, at)
        at = field_end(data, tag & 7, begin, end)
        found = _KEY[tag](data, begin, at)
    return found


def _zoned(data: bytes, at: int, end: int) -> datetime | None:
    seconds, zone = 0, ""
    for field, begin, stop in fields(data, at, end):
        if field == 1:
            seconds = _signed(varint(data, begin)[0])
        elif field == 2:
            zone = data[begin:stop].decode()
    return None if seconds == _NO_TIME else datetime.fromtimestamp(seconds, _zone(zone))


def _zone(name: str) -> tzinfo:
    """A zone of the IANA, an offset such as UTC-07:00, or UTC for what is neither, as Feast has it."""
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        match = _OFFSET.fullmatch(name.strip())
    if match is None:
        return UTC
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


def _whole(read: Read) -> Read:
    """A message as a field."""
    return lambda data, at, end: read(data, *content(data, at, end))


def _uuid(content: bytes) -> UUID:
    return UUID(content.decode())


def _decimal(content: bytes) -> Decimal:
    return Decimal(content.decode())


def _table(kinds: dict[int, tuple[int, Read]]) -> dict[int, Read]:
    """By tag: number of the field and its wire type."""
    return {number << 3 | wire: read for number, (wire, read) in kinds.items()}


_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_LISTS: dict[int, Callable[[Callable[[Any], Any]], Read]] = {
    0: lambda into: _messages(_text_of(bytes), into),
    1: lambda into: _messages(_text_of(bytes.decode), into),
    2: lambda into: _numbers(_repeated(_signed32), into),
    3: lambda into: _numbers(_repeated(_signed), into),
    4: lambda into: _numbers(_repeated_fixed(_DOUBLE), into),
    5: lambda into: _numbers(_repeated_fixed(_FLOAT), into),
    6: lambda into: _numbers(_repeated(bool), into),
    7: lambda into: _numbers(_repeated(_moment), into),
}
"""The lists of fields 11 to 18 and the sets of 22 to 29, in the same order."""

READ: dict[int, Read] = _table(
    {
        1: (_DELIMITED, _content_of(bytes)),
        2: (_DELIMITED, _content_of(bytes.decode)),
        3: (_VARINT, _varint_of(_signed32)),
        4: (_VARINT, _varint_of(_signed)),
        5: (_FIXED64, _fixed_of(_DOUBLE)),
        6: (_FIXED32, _fixed_of(_FLOAT)),
        7: (_VARINT, _varint_of(bool)),
        8: (_VARINT, _varint_of(_moment)),
        **{11 + n: (_DELIMITED, make(list)) for n, make in _LISTS.items()},
        19: (_VARINT, _varint_of(lambda number: None)),
        20: (_DELIMITED, _whole(_map)),
        21: (_DELIMITED, _messages(_map)),
        **{22 + n: (_DELIMITED, make(set)) for n, make in _LISTS.items()},
        32: (_DELIMITED, _content_of(_json)),
        33: (_DELIMITED, _messages(_text_of(_json))),
        34: (_DELIMITED, _whole(_map)),
        35: (_DELIMITED, _messages(_map)),
        36: (_DELIMITED, _content_of(_uuid)),
        37: (_DELIMITED, _content_of(_uuid)),
        38: (_DELIMITED, _messages(_text_of(_uuid))),
        39: (_DELIMITED, _messages(_text_of(_uuid))),
        40: (_DELIMITED, _messages(_text_of(_uuid), set)),
        41: (_DELIMITED, _messages(_text_of(_uuid), set)),
        42: (_DELIMITED, _messages(read_value)),
        43: (_DELIMITED, _messages(read_value)),
        44: (_DELIMITED, _content_of(_decimal)),
        45: (_DELIMITED, _messages(_text_of(_decimal))),
        46: (_DELIMITED, _messages(_text_of(_decimal), set)),
        47: (_DELIMITED, _whole(_scalar_map)),
        48: (_DELIMITED, _whole(_zoned)),
    }
)
"""Tag of a field of `feast.types.Value` -> what reads it; a tag that is not here raises KeyError."""

_KEY: dict[int, Read] = _table(
    {
        1: (_VARINT, _varint_of(_signed32)),
        2: (_VARINT, _varint_of(_signed)),
        3: (_FIXED32, _fixed_of(_FLOAT)),
        4: (_FIXED64, _fixed_of(_DOUBLE)),
        5: (_VARINT, _varint_of(bool)),
        6: (_VARINT, _varint_of(_moment)),
        7: (_DELIMITED, _content_of(bytes)),
        8: (_DELIMITED, _content_of(_uuid)),
        9: (_DELIMITED, _content_of(_uuid)),
        10: (_DELIMITED, _content_of(_decimal)),
    }
)
"""The same of `feast.types.MapKey`."""
