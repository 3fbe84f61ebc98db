"""Processes that outlive the command which started them, known by id and start time, with all that they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STOP_LIMIT_S = 20
"""What a process gets to end by itself: the scheduler waits for the tasks at work."""
LEAVE_LIMIT_S = 5
"""What its tasks get after that: a training keeps its checkpoint."""
PROC = Path("/proc")
WAIT = 'read -r go && exec "$@" </dev/null'
"""A shell that becomes the command at a word, and ends where whoever should say it has ended."""


@dataclass(frozen=True)
class Process:
    """A started process: its id, which is that of its session too, and its start time, which tells it from a later
    process of that id."""

    name: str
    pid: int
    born: str

    @property
    def alive(self) -> bool:
        """Whether it is still there."""
        return _born(self.pid) == self.born


@dataclass(frozen=True)
class _Seen:
    """A live process as the kernel tells of it."""

    parent: int
    session: int
    born: str


def start(
    name: str, command: list[str], env: Mapping[str, str], home: Path, keep: Callable[[Process], None]
) -> Process:
    """Start a command in a session of its own, its output in `logs/<name>.log` below `home`.

    `keep` puts it on record before it does anything: there is no moment in which it runs and nobody knows.
    """
    with (home / "logs" / f"{name}.log").open("ab") as log:
        shell = subprocess.Popen(
            ["sh", "-c", WAIT, name, *command],
            env=env, cwd=home, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    assert shell.stdin is not None
    process = Process(name, shell.pid, _born(shell.pid) or "")
    with shell.stdin as word:
        keep(process)
        word.write(b"go\n")
    return process


def stop(processes: Iterable[Process]) -> tuple[list[str], list[str]]:
    """End processes with all that they started, in whatever process group: gently first, then by SIGKILL.

    Returns the names of those of which something was there, and what could not be ended as 'name (id)'.
    """
    given = list(processes)
    known: dict[int, tuple[str, str]] = {}  # id -> its start time, and whose it is

    def left() -> list[int]:
        for process in given:
            with suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)
            known.update({pid: (born, process.name) for pid, born in _all_of(process).items()})
        return [pid for pid, (born, _) in known.items() if _born(pid) == born]

    def end(number: int, limit: float, whom: Callable[[], list[int]]) -> None:
        until = time.monotonic() + limit
        for pid in whom():
            _signal(pid, number)
        while whom() and time.monotonic() < until:
            time.sleep(0.1)
            if number == signal.SIGKILL:  # and those that came in between
                for pid in whom():
                    _signal(pid, number)

    there = list(dict.fromkeys(known[pid][1] for pid in left()))
    leaders = [process.pid for process in given if process.alive]
    end(signal.SIGTERM, STOP_LIMIT_S, lambda: [pid for pid in left() if pid in leaders])
    end(signal.SIGTERM, LEAVE_LIMIT_S, left)
    if not PROC.is_dir():  # macOS: what shares the group is all that can be found
        for pid in leaders:
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
    end(signal.SIGKILL, LEAVE_LIMIT_S, left)
    return there, [f"{known[pid][1]} ({pid})" for pid in left()]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _all_of(process: Process) -> dict[int, str]:
    """A process and everything of its session, and what descends from these: id -> start time.

    Tasks have process groups of their own, but not sessions. While any process of a session lives, its number is not
    given to another; where the number's process is a later one, the session is not ours.
    """
    table = _table()
    if not PROC.is_dir():
        return {process.pid: process.born} if process.alive else {}
    leader = table.get(process.pid)
    if leader is not None and leader.born != process.born:
        return {}
    ours = {pid for pid, seen in table.items() if pid == process.pid or seen.session == process.pid}
    while more := {pid for pid, seen in table.items() if seen.parent in ours} - ours:
        ours |= more
    return {pid: table[pid].born for pid in ours if pid != os.getpid()}


def _table() -> dict[int, _Seen]:
    """All live processes of this machine."""
    found = {}
    for folder in PROC.glob("[0-9]*"):
        if (seen := _look(int(folder.name))) is not None:
            found[int(folder.name)] = seen
    return found


def _look(pid: int) -> _Seen | None:
    """A live process; None when there is none or it is a zombie of which no thread runs any more."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        if fields[0] in "ZX" and len(list((PROC / str(pid) / "task").iterdir())) < 2:
            return None
    except OSError:
        return None
    return _Seen(parent=int(fields[1]), session=int(fields[3]), born=fields[19])


def _born(pid: int) -> str | None:
    """Start time of a live process as the kernel counts it; None when there is none."""
    if PROC.is_dir():
        return seen.born if (seen := _look(pid)) else None
    try:  # no /proc (macOS): the id alone has to do
        os.kill(pid, 0)
    except OSError:
        return None
    return str(pid)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
