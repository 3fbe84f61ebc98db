"""A file that may change while the server runs: it is read again then, and where it is broken the former one counts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from millrace.core.errors import SpecError

log = logging.getLogger(__name__)
T = TypeVar("T")
_LOOK_EVERY = 1.0
"""Seconds between two looks at the file."""


class Watched(Generic[T]):
    """What a file says, as `read` reads it, which raises SpecError for a broken file. So does making this."""

    def __init__(self, path: Path, read: Callable[[Path], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._read, self._clock = path, read, clock
        self._seen = self._stamp()
        self._value = read(path)
        self._look_at = clock() + _LOOK_EVERY

    def current(self) -> T:
        """What it says now: another object once it was read again. The log says once that a new one is broken."""
        if (now := self._clock()) >= self._look_at:
            self._look_at = now + _LOOK_EVERY
            if (stamp := self._stamp()) != self._seen:
                self._seen = stamp
                self._again()
        return self._value

    def _again(self) -> None:
        try:
            self._value = self._read(self._path)
        except SpecError as err:
            log.error("%s\nWhat was read from it before counts until it is mended.", err)
        else:
            log.warning("%s was read again", self._path)  # above what a server leaves out by default

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
