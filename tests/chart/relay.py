"""Relay: a way to a server that can refuse or hold back what goes through it, as a broken network would."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Relay:
    """Listens at `at`, a host and a port (0: a free one), and hands bytes over to `host`:`to`."""

    def __init__(self, host: str, to: int, at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.host, self.to = host, to
        self._at, self.port = at
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Relay:
        self._thread.start()
        self._do(self._listen())
        self._loop.call_soon_threadsafe(self._open.set)
        return self

    def __exit__(self, *_: Any) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens, and connections that were open are cut."""
        self._do(self._close())
        try:
            yield
        finally:
            self._do(self._listen())

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Connections are taken and kept, and nothing goes through."""
        self._loop.call_soon_threadsafe(self._open.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._open.set)

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, self._at, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection(self.host, self.to)
            self._writers.add(back)
            await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))
            self._writers.discard(back)
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while some := await reader.read(65536):
                await self._open.wait()
                writer.write(some)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
