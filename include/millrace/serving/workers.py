"""The processes that answer: forks of one parent that has loaded the models, on one socket that it bound before.

What none of them can take waits in the socket's queue and not in one worker's: one that hangs takes nothing more, and
of one that dies only the requests are lost that it had begun.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from millrace.core.errors import SpecError, Unavailable
from millrace.serving.slots import BEAT_S, Slot
from millrace.serving.supervision import Blame, Process, Supervisor

Make = Callable[[Slot], Any]
"""Makes the ASGI app of one worker, in it."""

_QUEUE = 2048
_PAUSE_S = 0.5
_LINGER_S = 1.0
"""Seconds in which a worker that leaves tells its clients so with an answer, before it closes connections at rest."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tls:
    """Files (PEM) of the server's certificate, with what leads to its root, and of its key."""

    certificate: Path
    key: Path
    password: str | None = None

    def check(self) -> None:
        """Raises SpecError where they cannot be used: here, and not in every worker."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, self.password or "")
        except OSError as err:  # ssl.SSLError is one
            raise SpecError(
                f"the certificate or its key cannot be used: {err}", where=f"{self.certificate}, {self.key}",
                next_step="Give a certificate and the key that belongs to it, both in PEM",
            ) from err  # fmt: skip


class Workers:
    """So many workers on one address, and the processes beside them. `address` is bound once this is made; port 0 is
    any free one.

    Raises Unavailable where the address cannot be had, SpecError for a certificate that cannot be used.
    """

    def __init__(
        self, make: Make, *, count: int, host: str, port: int, blame: Blame, ready: Callable[[], None] = lambda: None,
        tls: Tls | None = None, beside: Sequence[Process] = (), hang_s: float = 5.0, start_s: float = 120.0,
        drain_s: float = 30.0,
    ) -> None:  # fmt: skip
        if count < 1:
            raise ValueError(f"a server has at least one worker, not {count}")
        if tls is not None:
            tls.check()
        self._make, self._tls, self._drain_s = make, tls, drain_s
        self._socket = _bound(host, port)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        workers = [Process(f"worker {number}", self._serve, True, hang_s, start_s) for number in range(count)]
        self._supervisor = Supervisor(
            [*workers, *beside], blame=blame, ready=ready, leaving=self._socket.close, drain_s=drain_s
        )

    def run(self) -> None:
        """Serve until asked to leave (SIGTERM, SIGINT), then end what was begun. See `Supervisor.run`."""
        self._supervisor.run()

    def _serve(self, slot: Slot) -> None:
        config = uvicorn.Config(
            self._make(slot),
            http=HttpToolsProtocol,
            loop="auto",
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_QUEUE,
            # What has begun gets the time that the parent gives, but for what lingering and the app's own end take.
            timeout_graceful_shutdown=max(1, int(self._drain_s - _LINGER_S - 2)),
            ssl_certfile=self._tls.certificate if self._tls else None,
            ssl_keyfile=self._tls.key if self._tls else None,
            ssl_keyfile_password=self._tls.password if self._tls else None,
        )
        _Server(config, slot, self._socket).run(sockets=[])


class _Server(uvicorn.Server):
    """Uvicorn's, which says that it is alive, takes connections one by one, and leaves without closing those that a
    request is coming on."""

    def __init__(self, config: uvicorn.Config, slot: Slot, queue: socket.socket) -> None:
        super().__init__(config)
        self._slot, self._queue = slot, queue
        self._taking: set[asyncio.Future[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._beating = asyncio.create_task(self._beat())
        self._queue.setblocking(False)
        self._listen()

    async def _beat(self) -> None:
        while True:
            self._slot.beat()
            await asyncio.sleep(BEAT_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().remove_reader(self._queue)
        while self._take():  # where this is the last worker, who stands in the queue would be cut off
            pass
        self._queue.close()
        if self._taking:
            await asyncio.wait(self._taking, timeout=_LINGER_S)
        state = self.server_state
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        for connection in state.connections:
            if isinstance(connection, HttpToolsProtocol) and connection.cycle is not None:
                connection.cycle.keep_alive = False
        ends = asyncio.get_running_loop().time() + _LINGER_S
        while state.connections and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets=sockets)

    def _listen(self) -> None:
        if not self.should_exit:
            asyncio.get_running_loop().add_reader(self._queue, self._take)

    def _take(self) -> bool:
        """Take one connection: uvloop's own server takes all that wait, and leaves none to an idle neighbour. False
        where none waits."""
        try:
            came, _ = self._queue.accept()
        except BlockingIOError:
            return False
        except OSError as err:  # too many files, or it has gone again
            logger.warning("a connection could not be taken: %s", err)
            asyncio.get_running_loop().remove_reader(self._queue)
            asyncio.get_running_loop().call_later(_PAUSE_S, self._listen)
            return False
        came.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        made = loop.create_task(loop.connect_accepted_socket(self._protocol, came, ssl=self.config.ssl))
        self._taking.add(made)
        made.add_done_callback(self._taken)
        return True

    def _taken(self, made: asyncio.Future[Any]) -> None:
        self._taking.discard(made)
        if not made.cancelled() and (err := made.exception()):
            logger.info("a connection was not made: %s", err)

    def _protocol(self) -> asyncio.Protocol:
        return HttpToolsProtocol(self.config, self.server_state, self.lifespan.state)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM alone, which the parent sends; uvicorn's own would send itself the signal again when all is done."""
        before = signal.signal(signal.SIGTERM, self.handle_exit)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps an address for processes of one's own that listen there, each with SO_REUSEPORT; port 0 is
    any free one. Raises Unavailable where somebody else listens."""
    with _bound(host, port, queue=1) as alone:  # with SO_REUSEPORT another server of the same user would share it
        address = alone.getsockname()
    kept = socket.socket(alone.family)
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        kept.bind(address)
    except OSError as err:
        kept.close()
        raise _cannot_listen(host, port, err) from err
    return kept


def _bound(host: str, port: int, queue: int = _QUEUE) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=queue)
    except (OSError, OverflowError) as err:
        raise _cannot_listen(host, port, err) from err


def _cannot_listen(host: str, port: int, err: Exception) -> Unavailable:
    return Unavailable(f"the server cannot listen here: {err}", where=f"{host}:{port}", next_step="Choose another port")
