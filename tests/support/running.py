"""A server of real processes for tests of its supervision: an app that echoes, hangs and crashes as it is asked.

python tests/support/running.py OPTIONS     (JSON) serves until asked to leave; says what happens, a line of JSON each
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

DIGEST = bytes(range(32))


def main() -> None:
    from millrace.core.errors import MillraceError
    from millrace.serving import supervision
    from millrace.serving.shadowing import ShadowChannel, ShadowClient, ShadowProcess
    from millrace.serving.slots import Slot
    from millrace.serving.workers import Tls, Workers

    given = json.loads(sys.argv[1])
    supervision._PAUSE_S = given.get("pause", supervision._PAUSE_S)
    channel = ShadowChannel()

    def say(**what: Any) -> None:
        print(json.dumps(what), flush=True)

    def app(slot: Slot) -> Any:
        client = ShadowClient(channel)

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await receive()
                if given.get("fails"):
                    raise RuntimeError("nothing can be loaded")
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})
                return
            body = json.dumps(await ACTIONS[scope["path"]](slot, client)).encode()
            headers = [(b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        if given.get("never starts"):
            time.sleep(60)
        return answer

    def handler(slot: Slot) -> Any:
        def handle(frames: list[bytes]) -> None:
            with slot.predicting(DIGEST):
                if b"segv" in frames:
                    ctypes.string_at(0)
                if b"hang" in frames:
                    time.sleep(60)
                time.sleep(given.get("slow", 0))
            say(handled=[frame.decode() for frame in frames if len(frame) < 10], counts=vars(channel.counts()))

        return handle

    shadow = ShadowProcess(channel, handler, hang_s=1.0).process
    tls = given.get("tls")
    try:
        workers = Workers(
            app, count=given.get("workers", 2), host="127.0.0.1", port=given.get("port", 0),
            beside=[shadow] if given.get("shadow") else [], tls=Tls(*map(Path, tls)) if tls else None,
            blame=lambda digest, how, of: say(blame=digest and digest.hex(), how=how, pid=of.pid, code=of.code),
            ready=lambda: say(port=workers.address[1]), hang_s=given.get("hang_s", 5.0),
            start_s=given.get("start_s", 60), drain_s=given.get("drain_s", 10.0),
        )  # fmt: skip
        workers.run()
    except MillraceError as err:
        sys.exit(f"{type(err).__name__}: {err}")


async def pid(slot: Any, client: Any) -> Any:
    return os.getpid()


async def slow(slot: Any, client: Any) -> Any:
    import asyncio

    await asyncio.sleep(1)
    return os.getpid()


async def spin(slot: Any, client: Any) -> Any:
    with slot.predicting(DIGEST):
        while True:
            pass


async def segv(slot: Any, client: Any) -> Any:
    with slot.predicting(DIGEST):
        ctypes.string_at(0)


async def segv_elsewhere(slot: Any, client: Any) -> Any:
    ctypes.string_at(0)


async def killed(slot: Any, client: Any) -> Any:
    """Killed while it predicts, and not for want of memory."""
    with slot.predicting(DIGEST):
        os.kill(os.getpid(), signal.SIGKILL)


async def shadowed(slot: Any, client: Any) -> Any:
    taken = []
    for _ in range(3000):
        began = time.perf_counter()
        client.send(b"head", bytes(4000))
        taken.append(time.perf_counter() - began)
    return {"sent": client.sent, "dropped": client.dropped, "median_us": sorted(taken)[1500] * 1e6}


async def too_large(slot: Any, client: Any) -> Any:
    return client.send(bytes(1 << 20))


def frame(what: bytes) -> Any:
    async def send(slot: Any, client: Any) -> Any:
        return client.send(what)

    return send


ACTIONS = {
    "/": pid, "/slow": slow, "/spin": spin, "/segv": segv, "/segv-elsewhere": segv_elsewhere, "/killed": killed,
    "/shadowed": shadowed, "/too-large": too_large, **{f"/frame/{w}": frame(w.encode()) for w in ("a", "segv", "hang")},
}  # fmt: skip


class Served:
    """One such server, in a process group of its own; none of its processes is left afterwards."""

    def __init__(self, **given: Any) -> None:
        self._errors = open(os.memfd_create("errors"), "w+b")  # noqa: SIM115  # closed with this
        self.process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(given)], stdout=subprocess.PIPE, stderr=self._errors,
            text=True, start_new_session=True,
        )  # fmt: skip
        self.never = "never starts" in given
        self.said: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def hear(self, key: str, seconds: float = 20, **want: Any) -> dict[str, Any]:
        """The first that it says with this key, and these values."""

        def found() -> dict[str, Any] | None:
            fits = (said for said in self.said if key in said and want.items() <= said.items())
            return next(fits, None)

        return until(found, seconds, lambda: f"{key} was not said, but {self.said}\n{self.errors()}")

    @property
    def port(self) -> int:
        return int(self.hear("port")["port"])

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode()

    def children(self) -> set[int]:
        """The processes of the server but for its parent."""
        with suppress(FileNotFoundError):
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
            return {int(each) for each in text.split()}
        return set()

    def ask(self, path: str = "/", timeout: float = 20) -> Any:
        """The answer on a connection of its own. Raises OSError or HTTPException where there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def ask_in_vain(self, path: str) -> threading.Thread:
        """Ask where no answer can come."""

        def ask() -> None:
            with suppress(OSError, http.client.HTTPException):
                self.ask(path)

        asking = threading.Thread(target=ask)
        asking.start()
        return asking

    def __enter__(self) -> Served:
        """Waits until it has started, unless it was told not to."""
        until(lambda: self.said or self.process.poll() is not None or self.never, 30, self.errors)
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        left = self.children()
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        assert not [each for each in left if alive(each)], self.errors()
        self._errors.close()


class Load:
    """Clients that ask without end on connections that they keep; each failure with the process it was asked of."""

    def __init__(self, port: int, count: int = 8) -> None:
        self.port, self.over = port, False
        self.answers, self.refused = 0, 0
        self.failed: list[tuple[int | None, str]] = []
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]

    def turn(self) -> tuple[Any, ...]:
        """What is asked next: method, path, and what else `http.client` takes. May wait until it is time."""
        return "GET", "/"

    def took(self, asked: tuple[Any, ...], status: int, body: bytes) -> Any:
        """An answer came; returns whose it is. Raises ValueError for one that cannot be."""
        return json.loads(body)

    def lost(self, asked: tuple[Any, ...], of: Any, how: Exception) -> None:
        """No answer came."""
        self.failed.append((of, repr(how)))

    def _ask(self) -> None:
        connection, of = None, None
        while not self.over:
            asked = self.turn()
            try:
                while connection is None and not self.over:
                    connection, of = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20), None
                    try:
                        connection.connect()
                    except OSError:
                        self.refused += 1
                        connection = None
                        time.sleep(0.01)
                if connection is None:
                    return
                connection.request(*asked)
                response = connection.getresponse()
                of = self.took(asked, response.status, response.read())
                self.answers += 1
                if response.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException, ValueError) as err:
                self.lost(asked, of, err)
                connection = None

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        for each in self._threads:
            each.join()


def until(look: Callable[[], Any], seconds: float, otherwise: Callable[[], str] = lambda: "it did not happen") -> Any:
    """What `look` gives once it gives something."""
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends, otherwise()
        time.sleep(0.02)
    return found


def alive(process: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    main()
