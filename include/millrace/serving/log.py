"""The prediction log: what was answered, as records in local segments.

`durable`, as a log is unless told otherwise: what is acknowledged is on the disk. All that waits is written and synced
together, by a thread, so that a sync's few milliseconds are shared by everybody who came meanwhile. `buffered`: handed
to the kernel; a machine that loses its power loses what was not written back, a process that is killed loses nothing.

A segment is one writer's: `<name>.open` while it grows, `<name>.segment` once it will not, which is what is shipped.
Each record has its length and checksum before it; of a segment whose writer was killed the torn end, which nobody was
told of, is cut off when its folder is opened again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

from millrace.core.errors import Conflict, Corrupt, Unavailable

OPEN, CLOSED = ".open", ".segment"
LARGEST = 16 << 20
"""Bytes of a record."""
_HEAD = struct.Struct("<II")
_AT_ONCE = 512
"""Records of one write: `writev` takes 1,024 pieces, and each record is two."""
_Waiting = tuple[Sequence[bytes], Future[None]]


class Log:
    """The log of one process; any of its threads may write. No other process may have the folder meanwhile.

    Raises Conflict where one has, Unavailable where the folder cannot be used.
    """

    def __init__(
        self, folder: Path, *, durable: bool = True, segment_bytes: int = 64 << 20, segment_seconds: float = 300.0
    ) -> None:
        self.folder, self.durable = folder, durable
        self._bytes, self._seconds = segment_bytes, segment_seconds
        self._waiting: deque[_Waiting] = deque()
        self._wake, self._writing = threading.Condition(), threading.Lock()
        self._ending, self._dead = False, None  # type: bool, BaseException | None
        self._file, self._size, self._since, self._count = -1, 0, 0.0, 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                os.close(self._lock)
                raise Conflict("another process writes its predictions here", where=str(folder),
                               next_step="Give each process a folder of its own") from err  # fmt: skip
            for left in sorted(folder.glob(f"*{OPEN}")):
                _close_left(left)
        except OSError as err:
            raise _unavailable(folder, err) from err
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def append(self, record: bytes) -> Future[None]:
        """Write a record; see `append_all`."""
        return self.append_all((record,))

    def append_all(self, records: Sequence[bytes]) -> Future[None]:
        """Write records, all or none; the future is done once they count as written, and has an Unavailable where they
        do not: then nothing of them is in the log, and later ones may be again. A log that is buffered writes them here
        and now, since handing them to a thread would take longer.

        Raises ValueError for a record that is empty or larger than LARGEST, Unavailable once the log has ended.
        """
        for record in records:
            if not 0 < len(record) <= LARGEST:
                raise ValueError(f"a record has 1 to {LARGEST} bytes, not {len(record)}")
        done: Future[None] = Future()
        with self._wake:
            if self._ending or self._dead is not None:
                raise Unavailable("the prediction log has ended", where=str(self.folder)) from self._dead
            if self.durable:
                self._waiting.append((records, done))
                self._wake.notify()
                return done
        with self._writing:
            if self._file < 0 and self._lock < 0:
                raise Unavailable("the prediction log has ended", where=str(self.folder))
            began = self._file < 0
            self._write([(records, done)])
        if began:
            with self._wake:
                self._wake.notify()  # the thread closes it when it is old enough
        return done

    def segments(self) -> list[Path]:
        """Segments that will not change any more, oldest first."""
        return sorted(self.folder.glob(f"*{CLOSED}"))

    def close(self) -> None:
        """Write what waits, and close the segment."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join()
        with self._writing:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self) -> None:
        some: list[_Waiting] = []
        try:
            while some := self._next():
                with self._writing:
                    self._write(some)
            with self._writing:
                self._finish()
        except BaseException as err:  # whoever waits must hear of it: a thread that is dead answers nobody
            with self._wake:
                self._dead = err
                some += self._waiting
                self._waiting.clear()
            for _, done in some:
                if not done.done():
                    done.set_exception(Unavailable(f"the prediction log has failed: {err}", where=str(self.folder)))

    def _next(self) -> list[_Waiting]:
        """What waits, at least one; nothing when the log ends. Meanwhile a segment that is old enough is closed."""
        with self._wake:
            while not self._waiting:
                if self._ending:
                    return []
                left = self._since + self._seconds - time.monotonic() if self._file >= 0 else None
                if left is not None and left <= 0:
                    self._close_old()
                    continue
                self._wake.wait(left)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]

    def _close_old(self) -> None:
        """Close the segment that is old enough. Who writes holds `_writing` and never waits for `_wake` meanwhile."""
        with self._writing:
            if self._file >= 0 and time.monotonic() >= self._since + self._seconds:
                self._finish()

    def _write(self, some: list[_Waiting]) -> None:
        """Write records as one, or none of them: what was half written, or not synced, is taken back."""
        pieces = [
            piece
            for records, _ in some
            for record in records
            for piece in (_HEAD.pack(len(record), zlib.crc32(record)), record)
        ]
        try:
            if self._file >= 0 and time.monotonic() >= self._since + self._seconds:
                self._finish()
            if self._file < 0:
                self._begin()
            _write_all(self._file, pieces)
            if self.durable:
                os.fdatasync(self._file)
        except OSError as err:
            self._take_back()
            for _, done in some:
                done.set_exception(_unavailable(self.folder, err))
            return
        self._size += sum(len(piece) for piece in pieces)
        for _, done in some:
            done.set_result(None)
        if self._size >= self._bytes:
            self._finish()

    def _begin(self) -> None:
        self._count += 1
        name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{time.time_ns() % 10**9:09d}-{self._count:06d}"
        path = self.folder / f"{name}{OPEN}"
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self.durable:
            try:
                _sync_folder(self.folder)
            except OSError:  # a file whose name may be lost takes no record
                os.close(file)
                path.unlink()
                raise
        self._path, self._file, self._size, self._since = path, file, 0, time.monotonic()

    def _take_back(self) -> None:
        """Leave the segment as it was before. Where even that fails it is used no more: what may be torn at its end is
        cut off when the folder is opened again."""
        if self._file < 0:
            return
        try:
            os.ftruncate(self._file, self._size)
            os.fdatasync(self._file)
        except OSError:
            os.close(self._file)
            self._file = -1

    def _finish(self) -> None:
        if self._file < 0:
            return
        if not self.durable:
            os.fdatasync(self._file)
        os.close(self._file)
        self._file = -1
        _rename_closed(self._path, self._size)


def read(path: Path) -> Iterator[bytes]:
    """The records of a segment, oldest first. Of one that is open or was left so, those that are whole.

    Raises Corrupt for a closed one that does not end with a record, or in which one has not its checksum.
    """
    data = path.read_bytes()
    at = 0
    for record, end in _records(data):
        yield record
        at = end
    if at < len(data) and path.suffix != OPEN:
        raise Corrupt(f"a segment of the prediction log is broken {at} bytes from its beginning", where=str(path))


def _records(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        record = data[at + _HEAD.size : at + _HEAD.size + length]
        if not 0 < length <= LARGEST or len(record) < length or zlib.crc32(record) != checksum:
            return
        at += _HEAD.size + length
        yield record, at


def _write_all(file: int, pieces: list[bytes]) -> None:
    left = [memoryview(piece) for piece in pieces]
    while left:
        written = os.writev(file, left[: 2 * _AT_ONCE])
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]


def _close_left(path: Path) -> None:
    """Close a segment whose writer is gone, without what is torn at its end."""
    end = 0
    for _, end in _records(path.read_bytes()):  # noqa: B007
        pass
    with path.open("r+b") as file:
        file.truncate(end)
        os.fsync(file.fileno())
    _rename_closed(path, end)


def _rename_closed(path: Path, size: int) -> None:
    if size:
        path.rename(path.with_suffix(CLOSED))
    else:
        path.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A file's name is on the disk when its folder is."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _unavailable(folder: Path, err: OSError) -> Unavailable:
    full = err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return Unavailable(
        f"predictions cannot be logged: {err.strerror or err}",
        where=str(folder),
        next_step="Make room: ship or remove segments" if full else "Is the folder there, and may it be written?",
    )
