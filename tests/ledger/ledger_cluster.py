"""A private PostgreSQL cluster on a unix socket, for tests; and what several processes do to a ledger at once."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INITDB = shutil.which("initdb") or next((str(p) for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)


def unprivileged() -> str | None:
    """A user that PostgreSQL agrees to run as; None: the present one will do."""
    if os.geteuid() != 0:
        return None
    known = {u.pw_name for u in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


@contextmanager
def cluster() -> Iterator[str]:
    """Start a fresh cluster and give the SQLAlchemy URL of its database, without a driver's name."""
    assert INITDB is not None
    user = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    if user:
        shutil.chown(folder, user)
    as_user = {"user": user, "cwd": folder}
    subprocess.run([INITDB, "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"],
                   check=True, capture_output=True, **as_user)
    options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"]
    binary = str(Path(INITDB).resolve().parent / "postgres")
    server = subprocess.Popen([binary, "-D", str(folder / "data"), "-k", str(folder), *options],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user)
    try:
        until = time.monotonic() + 30
        while not (folder / ".s.PGSQL.5432").exists():
            assert server.poll() is None and time.monotonic() < until, "PostgreSQL did not start"
            time.sleep(0.05)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder)


def together(script: str, url: str, names: list[str], timeout: float = 60) -> list[str]:
    """Run a script in one process per name, let all go at one moment, and return what each printed.

    The script has `ledger`, `url` and `name`, and calls `go()` to wait for the others.
    """
    processes = [start(script, url, name) for name in names]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        out, _ = process.communicate(timeout=timeout)
        assert process.returncode == 0, out
        answers.append(out.strip())
    return answers


def start(script: str, url: str, name: str) -> subprocess.Popen[str]:
    """Start one process with the script; see `together`."""
    before = (
        "import sys\nfrom millrace.errors import *\nfrom millrace.ledger import Ledger\nurl, name = sys.argv[1:]\n"
        "def go():\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
    )
    return subprocess.Popen([sys.executable, "-c", before + script, url, name],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
