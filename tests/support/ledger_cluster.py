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


@contextmanager
def cluster(durable: bool = False) -> Iterator[str]:
    """Start a fresh cluster and give the SQLAlchemy URL of its database, without a driver's name; `durable`: what is
    committed is on the disk, as in production."""
    assert INITDB is not None
    user = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    if user:
        shutil.chown(folder, user)
    as_user = {"user": user, "cwd": folder}
    subprocess.run(
        [INITDB, "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"],
        check=True,
        capture_output=True,
        **as_user,
    )
    options = ["-c", "listen_addresses=", "-c", f"fsync={'on' if durable else 'off'}", "-c", "shared_buffers=16MB"]
    binary = str(Path(INITDB).resolve().parent / "postgres")
    server = subprocess.Popen(
        [binary, "-D", str(folder / "data"), "-k", str(folder), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_user,
    )
    try:
        until = time.monotonic() + 30
        state = folder / "data" / "postmaster.pid"  # its last line is the server's own word of its state
        while not (state.exists() and state.read_text().rstrip().endswith("ready")):
            assert server.poll() is None and time.monotonic() < until, "PostgreSQL did not start"
            time.sleep(0.05)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder)


def together(act: Act, url: str, names: list[str]) -> list[Any]:
    """Call `act(url, name, go)` in one process per name, and return what each returned; `go()` waits for the others."""
    barrier = FORK.Barrier(len(names))
    running = [start(act, url, name, lambda: barrier.wait(30)) for name in names]
    answers = []
    for process, answer in running:
        assert answer.poll(60), f"process {process.name} did not answer"
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
