"""WarmLocalExecutor: a LocalExecutor whose workers have the ML libraries imported before the first task comes.

Tasks are forks of workers, workers are forks of the scheduler: what `start()` imports here, every task has for free
(three to ten seconds each otherwise). It only imports: a parent that has *run* XGBoost or torch once makes that
library hang in its children.
"""

from __future__ import annotations

import importlib
import os
import time

from airflow.executors.local_executor import LocalExecutor

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

    def start(self) -> None:
        """Import, then let LocalExecutor fork its workers."""
        if self.is_mp_using_fork:
            self._import()
        else:
            self.log.warning(
                "Nothing is warm: this platform starts task processes afresh (start method is not fork), "
                "so every task imports its libraries itself"
            )
        super().start()

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
