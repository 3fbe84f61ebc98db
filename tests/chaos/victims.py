"""What of a running project may be killed, found anew at each moment by who started whom."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from millrace.local.processes import Process

PROC = Path("/proc")
COMPONENTS = ("scheduler", "triggerer", "dag-processor", "api-server", "execution-api")
WEIGHTS = {"task": 8, "job": 8, "worker": 3, "scheduler": 1, "triggerer": 0.25, "dag-processor": 0.25,
           "api-server": 0.25, "execution-api": 0.25}  # fmt: skip
"""How often each kind is chosen, where one of it is there."""


@dataclass(frozen=True)
class Victim:
    """A live process, what it is, and at what tasks the project was when it was chosen."""

    kind: str
    pid: int
    phase: str

    def kill(self) -> bool:
        """Kill it as the kernel would for want of memory; False where it has ended by itself."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def living() -> dict[int, int]:
    """All live processes: id -> its parent's."""
    found = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            found[int(folder.name)] = int(fields[1])
    return found


def title(pid: int) -> str:
    """The command line of a process, as it calls itself; empty where it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def children(of: int, parents: dict[int, int]) -> list[int]:
    return [pid for pid, parent in parents.items() if parent == of]


def present(processes: Sequence[Process]) -> dict[str, list[int]]:
    """Kind -> the processes of that kind: the scheduler's children are workers, theirs are tasks, theirs are jobs."""
    parents = living()
    found: dict[str, list[int]] = {name: [] for name in WEIGHTS}
    for process in processes:
        if process.name in COMPONENTS and process.alive:
            found[process.name].append(process.pid)
    for scheduler in found["scheduler"]:
        workers = [pid for pid in children(scheduler, parents) if "airflow worker" in title(pid)]
        tasks = [pid for worker in workers for pid in children(worker, parents)]
        found["worker"] += workers
        found["task"] += tasks
        found["job"] += [pid for task in tasks for pid in children(task, parents)]
    return found


def phase(database: Path) -> str:
    """The tasks at work, as Airflow has them on record, without the pipeline's name."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10) as connection:
        rows = connection.execute("SELECT dag_id, task_id FROM task_instance WHERE state = 'running'").fetchall()
    names = sorted({f"{dag.partition('__')[2]}.{task.partition('.')[0]}" for dag, task in rows})
    return " ".join(names) or "none"


def choose(processes: Sequence[Process], database: Path, chance: random.Random) -> Victim | None:
    """One at random; None while there is none."""
    there = {kind: pids for kind, pids in present(processes).items() if pids}
    if not there:
        return None
    (kind,) = chance.choices(list(there), [WEIGHTS[kind] for kind in there])
    return Victim(kind, chance.choice(there[kind]), phase(database))


def left(root: Path, processes: Sequence[Process]) -> list[str]:
    """What was started for a project and belongs to none of its components: 'id command', for a report."""
    parents, mine = living(), {process.pid for process in processes}
    mark = f"MILLRACE_PROJECT={root}".encode()

    def owned(pid: int) -> bool:
        while pid in parents:
            if pid in mine:
                return True
            pid = parents[pid]
        return False

    found = []
    for pid in parents:
        try:
            variables = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in variables and pid != os.getpid() and not owned(pid):
            found.append(f"{pid} {title(pid)[:120]}")
    return found
