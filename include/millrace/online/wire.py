"""Wire: the parts of a protobuf message, found without protobuf. Each reads bytes[at:end]."""

from __future__ import annotations

from collections.abc import Iterator


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A base-128 varint and where it ends. Raises ValueError for one of more than ten bytes, IndexError for half."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("varint")


def field_end(data: bytes, wire: int, at: int, end: int) -> int:
    """Where a field ends."""
    if wire == 0:
        _, at = varint(data, at)
    elif wire == 1:
        at += 8
    elif wire == 2:
        size, at = varint(data, at)
        at += size
    elif wire == 5:
        at += 4
    else:
        raise ValueError("wire type")
    if at > end:
        raise ValueError("cut off")
    return at


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, begin, end) of each field of a message; of a length-delimited one without its length."""
    while at < end:
        tag, begin = varint(data, at)
        at = field_end(data, tag & 7, begin, end)
        if tag & 7 == 2:
            _, begin = varint(data, begin)
        yield tag >> 3, begin, at


def content(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Where the content of a length-delimited field is."""
    size, at = varint(data, at)
    if at + size != end:
        raise ValueError("length of a value")
    return at, end
