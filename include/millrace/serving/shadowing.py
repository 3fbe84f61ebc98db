"""Shadow versions predict in a process of their own: what breaks or slows it never reaches whoever is answered live.

Workers hand it frames through one socket pair, made before they are forked. Nothing waits: a frame that there is no
room for is dropped, and counted. The parent keeps both ends, so that frames wait there while the process is replaced.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from millrace.serving.slots import BEAT_S, Slot
from millrace.serving.supervision import Process

Handle = Callable[[list[bytes]], None]
"""Does with some frames what there is to do, and says in its slot which version it has predict."""

NICENESS = 10
_BUFFER = 4 << 20
_COUNTS = struct.Struct("<qqq")


@dataclass(frozen=True)
class Counts:
    """Frames since the server began: handled; being handled; lost with a process that died while it had them."""

    handled: int
    in_hand: int
    lost: int


class ShadowChannel:
    """What workers and the shadow process share; made before either is forked. `largest` is in bytes of a frame."""

    def __init__(self, largest: int = 64 << 10) -> None:
        self.largest = largest
        # SEQPACKET: frames keep their bounds, and its room is counted in bytes; datagrams queue ten to a socket.
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self.near.setblocking(False)
        self.far.setblocking(False)
        self._counts = mmap.mmap(-1, _COUNTS.size)

    def counts(self) -> Counts:
        """What has come of the frames that were sent."""
        return Counts(*_COUNTS.unpack_from(self._counts))

    def count(self, counts: Counts) -> None:
        """For the shadow process alone."""
        _COUNTS.pack_into(self._counts, 0, counts.handled, counts.in_hand, counts.lost)


class ShadowClient:
    """A worker's end. `sent` and `dropped` are this worker's own."""

    def __init__(self, channel: ShadowChannel) -> None:
        self._send, self._largest = channel.near.sendmsg, channel.largest
        self.sent = self.dropped = 0

    def send(self, *parts: bytes) -> bool:
        """Hand over a frame, all parts as one; False where it was dropped. Never waits, and raises nothing."""
        if sum(map(len, parts)) <= self._largest:
            try:
                self._send(parts)
            except OSError:  # no room, or more than the kernel takes at once
                pass
            else:
                self.sent += 1
                return True
        self.dropped += 1
        return False


class ShadowProcess:
    """The process that handles frames, one to a server. `make` is called in it and gives the handler.

    A call of the handler that takes longer than `hang_s` counts as one that hangs; it may say in between that it does
    not, with `slot.beat()`. An exception of the handler ends the process, which is then replaced.
    """

    def __init__(
        self, channel: ShadowChannel, make: Callable[[Slot], Handle], *, hang_s: float = 30.0, largest_batch: int = 256
    ) -> None:
        self._channel, self._make, self._most = channel, make, largest_batch
        self.process = Process("shadow", self._run, vital=False, hang_s=hang_s)

    def _run(self, slot: Slot) -> None:
        os.nice(NICENESS)
        asked: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
        handle, channel = self._make(slot), self._channel
        left = channel.counts()
        channel.count(Counts(left.handled, 0, left.lost + left.in_hand))
        poll = select.poll()
        poll.register(channel.far, select.POLLIN)
        buffer = memoryview(bytearray(channel.largest))
        while True:
            slot.beat()
            poll.poll(BEAT_S * 1000)
            frames = self._waiting(buffer)
            if not frames:
                if asked:
                    return
                continue
            before = channel.counts()
            channel.count(Counts(before.handled, len(frames), before.lost))
            handle(frames)
            channel.count(Counts(before.handled + len(frames), 0, before.lost))

    def _waiting(self, buffer: memoryview) -> list[bytes]:
        """All that has come, as far as one batch takes it."""
        frames: list[bytes] = []
        try:
            while len(frames) < self._most:
                frames.append(bytes(buffer[: self._channel.far.recv_into(buffer)]))
        except BlockingIOError:
            pass
        return frames
