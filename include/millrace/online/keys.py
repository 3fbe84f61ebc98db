"""Keys: entity keys as Feast's `serialize_entity_key` (version 3) writes them, from values as JSON has them.

Number of join keys, their names, then type, length and bytes of each value, in the order of the names. All but the
values is the same for every entity of a view and is made once.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from millrace.core.errors import DataError
from millrace.online.stored import NO_ENTITY

KeyType = Literal["BYTES", "STRING", "INT32", "INT64", "UNIX_TIMESTAMP"]
"""Feast's value types that a join key can have."""

_NUMBER: dict[KeyType, int] = {"BYTES": 1, "STRING": 2, "INT32": 3, "INT64": 4, "UNIX_TIMESTAMP": 8}
_ALLOWED: dict[KeyType, str] = {
    "BYTES": "base64 text",
    "STRING": "a text",
    "INT32": "a whole number of 32 bits",
    "INT64": "a whole number of 64 bits",
    "UNIX_TIMESTAMP": "an ISO 8601 time such as 2024-01-31T12:00:00Z",
}
_U32 = struct.Struct("<I")


class KeyEncoder:
    """Encodes the entities of one feature view.

    `join_keys` gives for each of the view's own join keys the name that it has in a request, and its type. Without any
    it is a view without entities, whose one row has Feast's stand-in for a key.
    """

    def __init__(self, join_keys: Mapping[str, tuple[str, KeyType]]) -> None:
        names = sorted(join_keys)
        self._head = _U32.pack(len(names)) + b"".join(_text(_NUMBER["STRING"], name.encode()) for name in names)
        self._parts = [(asked, kind, _ENCODE[kind]) for asked, kind in (join_keys[name] for name in names)]
        if not names:
            self._head = _U32.pack(1) + _text(_NUMBER["STRING"], NO_ENTITY.encode()) + _string("")

    def encode(self, entity: Mapping[str, Any]) -> bytes:
        """The key of an entity. Names that are no join key of the view are left alone.

        Raises DataError naming the join key that is missing or has a value that cannot be one; quotes no value.
        """
        key = self._head
        for asked, kind, encode in self._parts:
            try:
                key += encode(entity[asked])
            except KeyError:
                raise DataError("the entity lacks a join key", given=asked, allowed=list(entity)) from None
            except (TypeError, ValueError, OverflowError, struct.error):
                given = "null" if entity[asked] is None else type(entity[asked]).__name__
                raise DataError(
                    f"join key '{asked}' cannot be this value", where=asked, given=given, allowed=_ALLOWED[kind]
                ) from None
        return key


def _text(kind: int, value: bytes) -> bytes:
    return struct.pack("<II", kind, len(value)) + value


def _string(value: Any) -> bytes:
    if type(value) is not str:
        raise TypeError
    return _text(2, value.encode())


def _bytes(value: Any) -> bytes:
    return _text(1, value if isinstance(value, bytes) else base64.b64decode(value, validate=True))


def _whole(kind: KeyType, layout: str) -> Callable[[Any], bytes]:
    packer = struct.Struct(layout)
    head = struct.pack("<II", _NUMBER[kind], packer.size - 8)

    def encode(value: Any) -> bytes:
        if type(value) is not int:  # True is one, too, for isinstance
            raise TypeError
        return packer.pack(head, value)

    return encode


def _moment(value: Any) -> bytes:
    """Whole seconds, towards 1970, as Feast has them; a time without a zone is UTC."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if moment.utcoffset() is None:
        moment = moment.replace(tzinfo=UTC)
    return _SECONDS(int(moment.timestamp()))


_SECONDS = _whole("UNIX_TIMESTAMP", "<8sq")
_ENCODE: dict[KeyType, Callable[[Any], bytes]] = {
    "BYTES": _bytes,
    "STRING": _string,
    "INT32": _whole("INT32", "<8si"),
    "INT64": _whole("INT64", "<8sq"),
    "UNIX_TIMESTAMP": _moment,
}
