"""A private PostgreSQL cluster on a unix socket, for tests; and what several processes do to a ledger at once."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

Act = Callable[[str, str, Callable[[], object]], Any]
FORK = multiprocessing.get_context("fork")  # a fresh interpreter takes a second to import SQLAlchemy
INITDB = shutil.which("initdb") or next((str(p) for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)


def unprivileged() -> str | None:
    """A user that PostgreSQL agrees to run as; None: the present one will do."""
    if os.geteuid() != 0:
        return None
    known = {u.pw_name for u in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


class Server:
    """A PostgreSQL cluster in a folder, whose server can be ended and started again. Its path must be short, as the
    socket lies there; `durable`: what is committed is on the disk, as in production."""

    def __init__(self, folder: Path, durable: bool = False) -> None:
        assert INITDB is not None
        self.folder, self.durable = folder, durable
        self._initdb = INITDB
        user = unprivileged()
        self._as_user: dict[str, Any] = {"user": user, "cwd": folder}
        if user:
            shutil.chown(folder, user)
        if not (folder / "data" / "PG_VERSION").exists():
            command = [INITDB, "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"]
            subprocess.run(command, check=True, capture_output=True, **self._as_user)

    @property
    def url(self) -> str:
        """SQLAlchemy URL of its database, without a driver's name."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = ["-c", "listen_addresses=", "-c", f"fsync={'on' if self.durable else 'off'}",
                   "-c", "shared_buffers=16MB"]  # fmt: skip
        binary = str(Path(self._initdb).resolve().parent / "postgres")
        self._server = subprocess.Popen(
            [binary, "-D", str(self.folder / "data"), "-k", str(self.folder), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as_user,
        )
        until = time.monotonic() + 30
        state = self.folder / "data" / "postmaster.pid"  # its last line is the server's own word of its state
        while not self._ready(state):
            assert self._server.poll() is None and time.monotonic() < until, "PostgreSQL did not start"
            time.sleep(0.05)

    def _ready(self, state: Path) -> bool:
        lines = state.read_text().split() if state.exists() else []
        return lines[:1] == [str(self._server.pid)] and lines[-1] == "ready"

    @property
    def alive(self) -> bool:
        """Whether the server is there."""
        return self._server.poll() is None

    def end(self, number: int = signal.SIGINT) -> None:
        """End it: by SIGINT in order, by SIGQUIT at once, as `pg_ctl stop -m immediate` and a crash do."""
        if self.alive:
            self._server.send_signal(number)
        self._server.wait(30)


@contextmanager
def cluster(durable: bool = False, folder: Path | None = None) -> Iterator[str]:
    """Start a cluster and give its URL. See `Server`; a given `folder` stays, and is gone on with."""
    with server(durable, folder) as running:
        yield running.url


@contextmanager
def server(durable: bool = False, folder: Path | None = None) -> Iterator[Server]:
    """Start a server, and end it. See `cluster`."""
    place = folder or Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    place.mkdir(exist_ok=True)
    running = Server(place, durable)
    running.start()
    try:
        yield running
    finally:
        running.end()
        if folder is None:
            shutil.rmtree(place)


def together(act: Act, url: str, names: list[str], limit: int = 60) -> list[Any]:
    """Call `act(url, name, go)` in one process per name, and return what each returned within `limit` seconds; `go()`
    waits for the others."""
    barrier = FORK.Barrier(len(names))
    running = [start(act, url, name, lambda: barrier.wait(30)) for name in names]
    answers = []
    for process, answer in running:
        assert answer.poll(limit), f"process {process.name} did not answer"
        answers.append(answer.recv())
        process.join(30)
        assert process.exitcode == 0
    return answers


def start(act: Act, url: str, name: str, go: Callable[[], object]) -> tuple[BaseProcess, Connection]:
    """Call `act` in one forked process; the connection gives what it returns."""
    mine, theirs = FORK.Pipe(duplex=False)

    def body() -> None:
        theirs.send(act(url, name, go))

    process = FORK.Process(target=body)
    process.start()
    theirs.close()
    return process, mine
