"""A job in a pod. A project without one loads no word of Kubernetes: that is imported where a job runs in a pod."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import DAG, BaseOperator

from millrace.airflow.runners.runner import Planned, Runner
from millrace.airflow.runtime.run import step
from millrace.airflow.runtime.site import Site
from millrace.spec.compute import ComputeProfile


def task(asked: Planned) -> Callable[..., Any]:
    """A task that asks for the pod; it takes slots only where its profile names a pool."""
    from millrace.airflow.pods.task import PodTask

    profile = asked.profile
    assert isinstance(profile, ComputeProfile)
    taken = {"pool": profile.pool, "pool_slots": profile.slots} if profile.pool else {}

    def made(**arguments: Any) -> Any:
        named = {"task_id": asked.work.ask.__name__, **taken, **asked.operator}
        return PodTask(work=asked.work, arguments=arguments, profile=asked.name, **named).output

    return made


def sweep(site: Site, dag: DAG) -> None:
    """End a DAG with a sweep of its run's pods, where any of its jobs runs in one. A teardown: it runs however the run
    went, and does not decide its state."""
    tasks = [each for each in dag.tasks if isinstance(each, BaseOperator) and hasattr(each, "profile")]
    if tasks:
        from millrace.airflow.pods.sweep import sweep

        swept: Any = step(sweep, task_id="sweep_pods")(root=str(site.tree.root), pipeline=site.name)
        tasks >> swept.operator.as_teardown()


PODS = Runner(task, sweep)
