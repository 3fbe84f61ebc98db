"""WarmLocalExecutor: a LocalExecutor whose workers have the ML libraries imported before the first task comes.

Tasks are forks of workers, workers are forks of the scheduler: what `start()` imports here, every task has for free
(three to ten seconds each otherwise). It only imports: a parent that has *run* XGBoost or torch once makes that
library hang in its children.

A worker that dies costs the task it had, which Airflow then tries again at once. See `workers`.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from airflow.executors.local_executor import LocalExecutor

from millrace.airflow.runtime.workers import Worker, serve
from millrace.core.imports import hidden
from millrace.spec.jobs import WARM

# Waiting OpenMP threads must not spin: on two busy cores a training takes up to fifteen times as long. The variable is
# read when the library is loaded, which here happens first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

DEFAULT_MODULES = (
    "pandas",
    "pyarrow.parquet",
    *WARM,
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.operators.hitl",
    "millrace.jobs.guard",
    "millrace.airflow.dags.build",
)
"""What `start()` imports; `MILLRACE_WARM_MODULES` (comma-separated, may be empty) replaces the list, or adds to it
where it begins with `+`: `+millrace.airflow.pods.manifest` for jobs in pods."""


def warm_modules() -> list[str]:
    """The modules to import, from the setting or the default."""
    setting = os.environ.get("MILLRACE_WARM_MODULES")
    if setting is None:
        return list(DEFAULT_MODULES)
    added = setting.startswith("+")
    return [*(DEFAULT_MODULES if added else ()), *(m.strip() for m in setting.lstrip("+").split(",") if m.strip())]


class WarmLocalExecutor(LocalExecutor):
    """LocalExecutor for one machine. Named in `[core] executor`; needs the fork start method (Linux)."""

    _crew: dict[int, Worker]
    _pending: deque[Any]

    def start(self) -> None:
        """Import, then let LocalExecutor fork its workers."""
        self._crew, self._pending = {}, deque()
        if self.is_mp_using_fork:
            self._import()
        else:
            self.log.warning(
                "Nothing is warm: this platform starts task processes afresh (start method is not fork), "
                "so every task imports its libraries itself"
            )
        super().start()

    def _spawn_worker(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        inherited = [ours, *(each.pipe for each in self._crew.values())] if self.is_mp_using_fork else []
        process = multiprocessing.Process(target=serve, args=(theirs, inherited, self.log.name, self.conf))
        process.start()
        theirs.close()
        assert process.pid is not None
        self.workers[process.pid], self._crew[process.pid] = process, Worker(process, ours)

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        waiting: tuple[dict[Any, Any], ...] = (self.queued_tasks, self.queued_callbacks, self.queued_connection_tests)
        for workload in workload_list:
            for each in waiting:
                each.pop(workload.key, None)
            self._pending.append(workload)
        self._check_workers()

    def _check_workers(self) -> None:
        """Give what waits to workers that are idle, and start those that are missing for it."""
        if not self._pending:
            return
        missing = min(len(self._pending) - len(self._idle()), self.parallelism - len(self._crew))
        if missing > 0 and self.is_mp_using_fork:
            self._spawn_workers_with_gc_freeze(self.parallelism - len(self._crew))
        elif missing > 0:
            self._spawn_worker()
        for worker in self._idle():
            if self._pending and worker.give(self._pending[0]):
                self._pending.popleft()

    def _idle(self) -> list[Worker]:
        return [worker for worker in self._crew.values() if worker.work is None and worker.process.is_alive()]

    def _read_results(self) -> None:
        """Pass on what workers have said; what one had that has died has failed."""
        for pid, worker in list(self._crew.items()):
            alive = worker.process.is_alive()  # asked first, so that its last word is read
            for key, state in worker.said():
                self.change_state(key, state)
            if alive:
                continue
            if (lost := worker.work) is not None:
                why = f"its worker {pid} has died (exit code {worker.process.exitcode})"
                self.log.error("%s: %s", lost.display_name, why)
                self.change_state(lost.key, lost.failure_state, why)
            worker.pipe.close()
            worker.process.close()
            del self._crew[pid], self.workers[pid]

    def end(self) -> None:
        """Let what runs come to its end."""
        self.log.info("Waiting for running tasks to end; another signal ends them")
        for worker in self._crew.values():
            worker.dismiss()
        for worker in self._crew.values():
            worker.process.join()
        self._read_results()
        super().end()

    def _import(self) -> None:
        began = time.monotonic()
        variables = dict(os.environ)
        missing = []
        # Great Expectations would bring pyspark along where it is installed: memory that only Spark's jobs need.
        with hidden("pyspark"):
            for name in warm_modules():
                try:
                    importlib.import_module(name)
                except Exception as err:  # a broken library must cost its own jobs only, never the scheduler
                    missing.append(f"{name} ({type(err).__name__})")
        # Some libraries set variables at import (Feast: PROMETHEUS_MULTIPROC_DIR) that are not meant for every child.
        for name in set(os.environ) - set(variables):
            del os.environ[name]
        self.log.info("Warm executor ready after %.1f s", time.monotonic() - began)
        if missing:
            self.log.warning("Could not be imported ahead of time: %s", ", ".join(missing))
