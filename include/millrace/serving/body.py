"""The body of a request: read as far as a limit and no longer than a time, and JSON that means one thing.

What is read costs no more than was allowed, whatever the sender says of it: a length that lies, a body that trickles,
a few bytes of gzip that unpack to gigabytes, lists in lists. What JSON leaves open is settled here: a name that stands
twice is refused, because whoever looked at the request before may have taken the other value; NaN is null, as
everywhere; an infinity, written so or as 1e999, is no value.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import pydantic_core

from millrace.core.deadline import Deadline
from millrace.serving.refused import Refused

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
DEEPEST = 64
"""Levels of lists and objects."""
LARGEST = 10**400
"""Whole numbers lie below it: any of a double does, and none takes longer to read than it is worth."""
_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 1 << 18
"""Bytes unpacked before others have their turn of the loop."""


async def read(receive: Receive, headers: Mapping[bytes, bytes], limit: int, seconds: float = 10.0) -> bytes:
    """Read the whole body, unpacked, of at most `limit` bytes; `headers` by lower-case name.

    Raises Refused: 413 for a larger one, before more of it is read; 415 for an encoding that is not gzip; 400 for a
    broken one; 408 where it is not there after `seconds`. A 408 or 413 closes the connection: the rest is not read.
    """
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding not in (b"", b"identity", b"gzip"):
        raise Refused(415, "the body is packed in a way that is not read", where="content-encoding",
                      given=_text(encoding), allowed=["gzip", "identity"],
                      headers=[(b"accept-encoding", b"gzip, identity")])  # fmt: skip
    if (said := headers.get(b"content-length")) is not None:
        if not said.isdigit():
            raise Refused(400, "not a number of bytes", where="content-length", given=_text(said))
        if len(said.lstrip(b"0")) > 18 or int(said) > limit:
            raise _too_large(limit, _text(said))
    try:
        with Deadline(seconds):
            data = await _received(receive, limit)
    except TimeoutError:
        raise Refused(408, f"the body was not there after {seconds:g} s", headers=[(b"connection", b"close")],
                      next_step="Send it again") from None  # fmt: skip
    return await _unpacked(data, limit) if encoding == b"gzip" else data


async def _received(receive: Receive, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the sender left before the body's end")
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_large(limit, None)
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _unpacked(data: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(_GZIP)
    pieces: list[bytes] = []
    size = 0
    try:
        while not unpacker.eof:
            piece = unpacker.decompress(data, min(_PIECE, limit - size + 1))
            size += len(piece)
            if size > limit:
                raise _too_large(limit, "more, unpacked")
            pieces.append(piece)
            if not (data := unpacker.unconsumed_tail) and not piece:
                break
            if len(piece) == _PIECE:
                await asyncio.sleep(0)
    except zlib.error:
        raise Refused(400, "the body is not gzip, as content-encoding says it is") from None
    if not unpacker.eof:
        raise Refused(400, "the body ends before its gzip does")
    if unpacker.unused_data:  # a further member could be another one without bytes, and thousands of them
        raise Refused(400, "the body goes on after its gzip has ended")
    return b"".join(pieces)


def _too_large(limit: int, given: str | None) -> Refused:
    return Refused(413, "the body is too large", given=given, allowed=f"up to {limit} bytes",
                   headers=[(b"connection", b"close")], next_step="Ask with fewer rows")  # fmt: skip


def parse(data: bytes) -> Any:
    """What a body of JSON says, with None for NaN.

    Raises Refused, 400, with the place of what is wrong: no JSON or not in UTF-8, a name that stands twice in an
    object, an infinity, a whole number of more than 400 digits, more than DEEPEST levels.
    """
    try:
        value = pydantic_core.from_json(data, allow_inf_nan=True)
    except ValueError as err:
        problem = str(err)
        if problem.startswith("recursion limit"):
            raise _too_deep() from None
        if problem.startswith("number out of range"):
            raise Refused(400, f"a whole number is too long, {problem[problem.rfind('at line'):]}",
                          allowed="up to 400 digits") from None  # fmt: skip
        raise Refused(400, f"the body is not JSON in UTF-8: {problem}") from None
    names = _settle(value) if type(value) in (dict, list) else _settle([value])
    if type(value) is float and value != value:
        return None
    # Each name has a colon after it: where there are no more colons than names and those in text, no name stands twice.
    # An escape may be a colon that is not counted in the bytes; then the slow parser looks.
    if data.count(b":") != names or b"\\" in data:
        _each_once(data)
    return value


def _settle(value: Any) -> int:
    """Make None of NaN, in place, and refuse what no value may be. Gives names in all objects, and colons in texts."""
    count = 0
    level: list[tuple[Any, Any]] = [(value, None)]  # with it the way there: (the way to what it is in, its key)
    for _ in range(DEEPEST):
        deeper: list[tuple[Any, Any]] = []
        for inside, way in level:
            if type(inside) is dict:
                count += len(inside)
                pairs: Any = inside.items()
            else:
                pairs = enumerate(inside)
            for key, each in pairs:
                kind = type(each)
                if kind is str:
                    if ":" in each:
                        count += each.count(":")
                elif kind is float:
                    if each - each != 0.0:  # only of what is not finite
                        if each == each:
                            raise Refused(400, "is infinite", where=_place(way, key), allowed="a finite number or null")
                        inside[key] = None
                elif kind is dict or kind is list:
                    deeper.append((each, (way, key)))
                elif kind is int and not -LARGEST < each < LARGEST:
                    raise Refused(400, "is too long", where=_place(way, key), allowed="up to 400 digits")
        if not deeper:
            return count
        level = deeper
    raise _too_deep()


def _too_deep() -> Refused:
    return Refused(400, "lists and objects lie too deep in each other", allowed=f"up to {DEEPEST} levels")


def _place(way: Any, key: Any) -> str:
    keys = [str(key)]
    while way is not None:
        way, key = way
        keys.append(str(key))
    return ".".join(reversed(keys))


def _each_once(data: bytes) -> None:
    def pairs(found: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in found:
            if name in seen:
                raise Refused(400, "a name stands twice in an object", given=name, next_step="Say it once")
            seen.add(name)

    json.loads(data, object_pairs_hook=pairs, parse_int=_nothing, parse_float=_nothing)


def _nothing(_: str) -> None:
    """A number was read already."""


def _text(said: bytes) -> str:
    return said.decode("ascii", "backslashreplace")
