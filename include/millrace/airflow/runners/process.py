"""A job in a child of its task's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from millrace.airflow.runners.runner import Planned, Runner
from millrace.airflow.runtime.run import in_process, step


def task(asked: Planned) -> Callable[..., Any]:
    """A task that waits for its job here, with a slot of the pool meanwhile."""
    return step(in_process(asked.work), **({"pool": asked.pool} if asked.pool else {}), **asked.operator)


PROCESS = Runner(task)
