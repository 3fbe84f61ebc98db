"""Served records: the prediction logs of servers as they lie in the store, until a job makes Snapshots of them.

An object holds the records of one segment, one pipeline and one hour of UTC, so that a partition's are found by their
keys. It is written once, and changes only where subjects are erased.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from millrace.core.errors import Corrupt
from millrace.store import layout
from millrace.store.interface import Object, ObjectStore

HOUR = timedelta(hours=1)
_KEY = "%Y-%m-%dT%H"


def hour_of(at: int) -> str:
    """The hour of UTC that holds a moment, given in microseconds since 1970. Raises ValueError, OverflowError or
    OSError for one that is in no year that a calendar has."""
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime(_KEY).rjust(13, "0")


def pack(records: Iterable[bytes]) -> bytes:
    """Records, each JSON on one line, compressed: the same bytes for the same records."""
    return gzip.compress(b"".join(line + b"\n" for line in records), compresslevel=6, mtime=0)


def unpack(data: bytes, where: str) -> list[bytes]:
    """The records of an object. Raises Corrupt where it is none, or is cut off."""
    try:
        text = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as err:
        raise Corrupt("this is no shipped segment", where=where) from err
    return text.split(b"\n")[:-1]


def parts(objects: ObjectStore, pipeline: str, start: datetime, end: datetime) -> Iterator[Object]:
    """Objects that may hold records asked from `start` on and before `end`, aware, in the order of their keys."""
    day = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < end:
        for found in objects.list(layout.served_on(pipeline, f"{day:%Y-%m-%d}")):
            hour = begin(found.key)
            if hour < end and hour + HOUR > start:
                yield found
        day += timedelta(days=1)


def begin(key: str) -> datetime:
    """First moment of the hour whose records an object holds."""
    return datetime.strptime(layout.served_hour(key), _KEY).replace(tzinfo=UTC)


def before(objects: ObjectStore, pipeline: str, moment: datetime) -> list[str]:
    """Keys of objects all of whose records were asked before a moment."""
    listed = objects.list(layout.all_served(pipeline))
    return [found.key for found in listed if begin(found.key) + HOUR <= moment]
