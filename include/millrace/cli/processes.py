"""Process groups that outlive the command which started them, known by id and start time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

STOP_LIMIT_S = 20


@dataclass(frozen=True)
class Process:
    """A started process group: leader's id and its start time, which tells it from a later process of that id."""

    name: str
    pid: int
    born: str

    @property
    def alive(self) -> bool:
        """Whether the leader is still there."""
        return _born(self.pid) == self.born


def start(name: str, command: list[str], env: Mapping[str, str], home: Path) -> Process:
    """Start a command in a group of its own, its output in `logs/<name>.log` below `home`."""
    with (home / "logs" / f"{name}.log").open("ab") as log:
        started = subprocess.Popen(
            command, env=env, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return Process(name, started.pid, _born(started.pid) or "")


def stop(processes: Iterable[Process]) -> bool:
    """End those that are alive, gently first, then all that is left in their groups; whether any was alive."""
    found = [p for p in processes if p.alive]
    for process in found:
        _signal(process.pid, signal.SIGTERM, group=False)
    _await_end(found)
    for process in found:
        _signal(process.pid, signal.SIGKILL, group=True)  # what outlived its leader: idle workers, parsers
    _await_end(found)
    return bool(found)


def end_orphans(process: Process) -> None:
    """End what a process that died left in its group: workers of a killed scheduler would go on with their tasks."""
    if not Path(f"/proc/{process.pid}").exists() or _born(process.pid) is None:  # the id was not given again
        _signal(process.pid, signal.SIGKILL, group=True)


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


def _born(pid: int) -> str | None:
    """Start time of a live process as the kernel counts it; None when there is none or it is a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        try:  # no /proc (macOS): the id alone has to do
            os.kill(pid, 0)
        except OSError:
            return None
        return str(pid)
    return None if fields[0] == "Z" else fields[19]


def _signal(pid: int, number: int, *, group: bool) -> None:
    try:
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _await_end(processes: list[Process]) -> None:
    """Return when all have ended and those of this process are reaped, or after the limit."""
    limit = time.monotonic() + STOP_LIMIT_S
    left = list(processes)
    while left and time.monotonic() < limit:
        left = [process for process in left if not _ended(process)]
        time.sleep(0.1 if left else 0)


def _ended(process: Process) -> bool:
    """Whether a process is gone, and reaped where it is a child of this one.

    A child is asked for by `waitpid` alone: its main thread may be a zombie while others of it still run.
    """
    try:
        return os.waitpid(process.pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return not process.alive
