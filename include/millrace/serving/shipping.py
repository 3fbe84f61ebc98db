"""Shipping: from the segments of the prediction log to the store, and then off this disk.

A segment's records are split by pipeline and hour, and each part is written under a key that derives from server,
worker, segment, pipeline and hour. So whoever is killed anywhere is followed by another who does the same again; only
when every part has been read back from the store does the segment go.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from millrace.core.errors import Conflict, Corrupt, StoreError, Unavailable
from millrace.serving.log import CLOSED, OPEN, Log, read
from millrace.store import ObjectStore, layout
from millrace.store.served import hour_of, pack, unpack

BROKEN = ".broken"
"""What a segment is called that could not be shipped whole; a person looks at it."""
_NAMED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PIPELINE = re.compile(r"[a-z][a-z0-9_]{0,62}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shipped:
    """What came of one call: segments and records that are in the store now, how many segments are still here, which
    were set aside, and why the store took no more (None where it took all)."""

    segments: int = 0
    records: int = 0
    waiting: int = 0
    set_aside: tuple[Path, ...] = ()
    away: str | None = None


def ship(folder: Path, objects: ObjectStore, server: str, *, left_for: float = 60.0) -> Shipped:
    """Ship the closed segments of a log folder and of its workers' folders, the oldest first; call it every few
    seconds, from one process or several.

    What a dead worker left open is closed first, where its folder has not changed for `left_for` seconds: one that
    starts again meanwhile needs the folder's lock. A broken segment's good records are shipped, and the file is set
    aside. Raises ValueError for a server's name that cannot be part of a key.
    """
    if not _NAMED.fullmatch(server):
        raise ValueError(f"a server's name is made of letters, digits, '.', '_' and '-': not {server!r}")
    segments = records = 0
    aside: list[Path] = []
    away = None
    for worker in _workers(folder):
        if left_for <= time.time() - _changed(worker):
            _close_left(worker)
        for path in sorted(worker.glob(f"*{CLOSED}")):
            if away is not None:
                break
            try:
                count, whole = _ship(path, objects, server, worker.name)
            except FileNotFoundError:
                continue  # another one has shipped it
            except (StoreError, Unavailable, OSError) as err:
                away = str(err)
                log.warning("the prediction log stays here, the store does not take it: %s", away)
                break
            segments, records = segments + 1, records + count
            if whole:
                path.unlink(missing_ok=True)
            elif (there := _set_aside(path)) is not None:
                aside.append(there)
    waiting = sum(1 for worker in _workers(folder) for _ in worker.glob(f"*{CLOSED}"))
    return Shipped(segments, records, waiting, tuple(aside), away)


def _workers(folder: Path) -> Iterator[Path]:
    """Folders that hold, or have held, a log."""
    yield folder
    if folder.is_dir():
        yield from sorted(each for each in folder.iterdir() if each.is_dir() and _NAMED.fullmatch(each.name))


def _changed(worker: Path) -> float:
    """When somebody last wrote there; in the future where nothing is left open."""
    try:
        return max((path.stat().st_mtime for path in worker.glob(f"*{OPEN}")), default=float("inf"))
    except FileNotFoundError:
        return float("inf")


def _close_left(worker: Path) -> None:
    """Close what a writer that is gone has left; nothing where one has the folder."""
    try:
        Log(worker).close()
    except Conflict:
        pass
    except Unavailable as err:
        log.warning("what a dead worker left cannot be closed: %s", err)


def _set_aside(path: Path) -> Path | None:
    try:
        there = path.replace(path.with_suffix(BROKEN))
    except FileNotFoundError:
        return None  # by another one
    log.error("a segment of the prediction log is broken; its good records are shipped, and it lies in %s", there)
    return there


def _ship(path: Path, objects: ObjectStore, server: str, worker: str) -> tuple[int, bool]:
    """Put a segment's parts into the store; how many records, and whether the segment was whole."""
    found, whole = _parts(path)
    for (pipeline, hour), records in found.items():
        key = layout.served(pipeline, hour, server, f"{worker}-{path.stem}")
        try:
            objects.put_if(key, pack(records), None)
        except Conflict:
            pass  # shipped before, by one that was killed since
        try:
            same = unpack(objects.get(key), objects.url(key)) == records
        except Corrupt:
            same = False
        if not same:
            log.error("%s holds other records than %s", objects.url(key), path)
            whole = False
    return sum(map(len, found.values())), whole


def _parts(path: Path) -> tuple[dict[tuple[str, str], list[bytes]], bool]:
    """Records by pipeline and hour, each one line, and whether all could be read."""
    found: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    whole = True
    try:
        for record in read(path):
            try:
                said = json.loads(record)
                pipeline, hour = str(said["pipeline"]), hour_of(int(said["at"]))
                if not _PIPELINE.fullmatch(pipeline):
                    raise ValueError(pipeline)
            except (ValueError, KeyError, TypeError, OverflowError, OSError):
                whole = False
                continue
            # In JSON a line's end stands between values only.
            found[pipeline, hour].append(record.replace(b"\n", b" ").replace(b"\r", b" "))
    except Corrupt:
        whole = False
    return found, whole
