"""The context of an Airflow task, without an Airflow: for the functions of `millrace.airflow.tasks`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow.sdk.execution_time.context import OutletEventAccessors, set_current_context

from millrace.airflow.runtime.run import Done, JobTask
from millrace.airflow.runtime.site import Site
from millrace.contract import JobRequest, JobResult, Outcome


@dataclass
class TaskInstance:
    """As much of Airflow's task instance as tasks use. `xcoms` is what other tasks of the run have returned."""

    dag_id: str
    task_id: str
    run_id: str
    try_number: int = 1
    max_tries: int = 3
    map_index: int = -1
    xcoms: dict[str, Any] = field(default_factory=dict)
    log_url: str | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str) -> Any:
        return self.xcoms.get(task_ids)


@dataclass
class DagRun:
    """As much of Airflow's run as tasks use."""

    run_id: str
    partition_key: str | None = None
    conf: dict[str, Any] = field(default_factory=dict)
    run_type: str = "manual"
    triggering_user_name: str | None = None
    start_date: datetime | None = None
    run_after: datetime | None = None


@contextmanager
def running(
    dag_id: str = "orders__features",
    task_id: str = "task",
    *,
    run_id: str = "manual__1",
    partition_key: str | None = None,
    params: dict[str, Any] | None = None,
    xcoms: dict[str, Any] | None = None,
    try_number: int = 1,
    run_type: str = "manual",
    user: str | None = None,
    start_date: datetime | None = None,
    run_after: datetime | None = None,
) -> Iterator[dict[str, Any]]:
    """Be inside a task: `get_current_context()` gives what is yielded here, as in a task of a real run."""
    context = {
        "ti": TaskInstance(dag_id, task_id, run_id, try_number, xcoms=xcoms or {}),
        "dag_run": DagRun(
            run_id, partition_key, params or {}, run_type, user, start_date, run_after or datetime.now(UTC)
        ),
        "params": params or {},
        "outlet_events": OutletEventAccessors(),
        "run_id": run_id,
    }
    context["task_instance"] = context["ti"]
    with set_current_context(context):  # type: ignore[arg-type]
        yield context


@dataclass
class Asked:
    """A task of one job that has asked, as a wait and another process would find it."""

    work: JobTask
    arguments: dict[str, Any]
    request: JobRequest

    def answered(self, outcome: Outcome, **observed: Any) -> Any:
        """What the task returns when its job gave this outcome, whose result is in the store as the runner puts it."""
        digest = self.request.request_digest
        result = JobResult(job="any", request_digest=digest, outcome=outcome, observed=observed)
        assert self.request.place.result is not None
        Site.at(self.arguments["root"], self.arguments["pipeline"]).objects.put(
            self.request.place.result, result.to_json().encode()
        )
        return self.work.taken(Done(self.request, outcome, result), **self.arguments)


def asked(work: JobTask, **arguments: Any) -> Asked:
    """Let a task of one job ask for it."""
    request = work.ask(**arguments)
    assert request is not None, "the task asks for no job"
    return Asked(work, arguments, request)


def unasked(work: JobTask, **arguments: Any) -> Any:
    """What a task of one job returns where it asks for none."""
    assert work.ask(**arguments) is None
    return work.taken(None, **arguments)
