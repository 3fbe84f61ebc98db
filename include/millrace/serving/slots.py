"""What each process of the server is doing, in memory that all of them share and that outlives whichever of them dies.

A process writes its own slot alone; its parent reads it, the prediction only once that process has ended. So there is
no lock that a killed one could hold.
"""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass
from types import TracebackType

BEAT_S = 0.25
"""Seconds between two heartbeats."""
_BEAT = struct.Struct("<q")
_PREDICTION = struct.Struct("<qq32s")
_PUT, _NOW = _PREDICTION.pack_into, time.monotonic_ns
_NOTHING = bytes(32)
_SIZE = 64


@dataclass(frozen=True)
class Predicting:
    """A call into a model: `digest` (32 bytes) of the version, index of its pipeline, since when (monotonic ns)."""

    digest: bytes
    pipeline: int
    since_ns: int


class Slot:
    """The slot of one process."""

    __slots__ = ("_at", "_memory", "_prediction", "number")

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self.number = number
        self._memory, self._at, self._prediction = memory, number * _SIZE, number * _SIZE + _BEAT.size

    def beat(self) -> None:
        """Say that the process is alive and gets round to what it has to do. The first time: that it has started."""
        _BEAT.pack_into(self._memory, self._at, _NOW())

    def predicting(self, digest: bytes, pipeline: int = 0) -> Slot:
        """Note a call into a model until the end of `with slot.predicting(..):`. One at a time, none inside another.

        Written here, not on entering the block: it is around every prediction, and each call of Python's counts.
        """
        _PUT(self._memory, self._prediction, _NOW(), pipeline, digest)
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        _PUT(self._memory, self._prediction, 0, 0, _NOTHING)

    def beaten(self) -> int:
        """When the process last said that it is alive (monotonic ns), 0 before it has started."""
        return int(_BEAT.unpack_from(self._memory, self._at)[0])

    def prediction(self) -> Predicting | None:
        """The call into a model that the process is in, or died in."""
        since, pipeline, digest = _PREDICTION.unpack_from(self._memory, self._prediction)
        return None if digest == _NOTHING else Predicting(digest, pipeline, since)

    def clear(self) -> None:
        """Make it as new, for the next process that has it."""
        self._memory[self._at : self._at + _SIZE] = bytes(_SIZE)


class Slots:
    """Slots for so many processes, made before they are forked."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, max(count, 1) * _SIZE)
        self._slots = [Slot(self._memory, number) for number in range(count)]

    def __getitem__(self, number: int) -> Slot:
        return self._slots[number]

    def __len__(self) -> int:
        return len(self._slots)
