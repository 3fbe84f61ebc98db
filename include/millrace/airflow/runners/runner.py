"""Runner: how the task of a job runs it, chosen by the job's profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow.sdk import DAG

from millrace.airflow.runtime.run import JobTask
from millrace.airflow.runtime.site import Site
from millrace.spec.compute import Profile


@dataclass(frozen=True)
class Planned:
    """A task that shall be: its work, the profile of its job by name and as it is here, the Airflow pool of a job in
    this process (None for the default one), and the operator's arguments."""

    work: JobTask
    name: str
    profile: Profile
    pool: str | None
    operator: Mapping[str, Any]


@dataclass(frozen=True)
class Runner:
    """`task` makes what a DAG calls with the task's arguments. `close` is called once a DAG has all its tasks, in
    every DAG, for what a runner leaves behind."""

    task: Callable[[Planned], Callable[..., Any]]
    close: Callable[[Site, DAG], None] | None = None
