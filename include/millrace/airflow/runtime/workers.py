"""What an executor's workers and their scheduler say to each other: each over a pipe of its own.

LocalExecutor's workers share one queue, whose lock an idle one holds while it waits: killed then (by the kernel for
want of memory, by a person), it leaves every other one waiting for ever. A pipe that two ends use has no lock, and
says by itself that the other end has gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from airflow.executors.local_executor import _run_worker

from millrace.core import orphans


@dataclass
class Worker:
    """A worker as its scheduler has it. `work` is what it was given and has not ended."""

    process: BaseProcess
    pipe: Connection
    work: Any = None

    def give(self, work: Any) -> bool:
        """Hand it something to do; False where it has gone."""
        with suppress(OSError):
            self.pipe.send(work)
            self.work = work
            return True
        return False

    def dismiss(self) -> None:
        """Let it end once it has nothing more to do."""
        with suppress(OSError):
            self.pipe.send(None)

    def said(self) -> Iterator[tuple[Any, Any]]:
        """What it has said since the last look: key and state of what it was given, and no waiting for more."""
        with suppress(EOFError, OSError):
            while self.pipe.poll():
                key, state = self.pipe.recv()
                if self.work is not None and state != self.work.running_state:
                    self.work = None
                yield key, state


class _End:
    """A worker's end of its pipe, as Airflow's worker reads its input and writes its output."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def get(self) -> Any:
        return self._pipe.recv()

    def put(self, said: tuple[Any, Any, Any]) -> None:
        """Without the exception, which is in the log: not every one can be sent, and nobody reads it."""
        with suppress(OSError):  # whoever asked has gone; the next `get` says so
            self._pipe.send(said[:2])


class _Uncounted:
    """In the place of the shared count of messages that nobody has taken yet, and of its lock."""

    value = 0

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def serve(pipe: Connection, inherited: Sequence[Connection], logger_name: str, team_conf: Any) -> None:
    """Do what comes through the pipe until it is closed. `inherited` are the scheduler's ends, which a fork has too:
    while one of them is open here, another worker would not learn that the scheduler has gone."""
    for each in inherited:
        each.close()
    _end_with(os.getpid())
    _run_worker(logger_name, _End(pipe), _End(pipe), _Uncounted(), team_conf)


def _end_with(worker: int) -> None:
    """Have the kernel kill a task's process when its worker dies: nobody would hear it, and it is tried again."""

    def bind() -> None:
        if os.getppid() == worker:
            orphans.end_with(worker)

    os.register_at_fork(after_in_child=bind)
