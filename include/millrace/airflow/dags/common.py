"""What the four DAG builders share: ids, defaults, and the text people read in the UI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import Param
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from millrace.airflow.runners import Planned, runner_of
from millrace.airflow.runtime.retry import RETRIES, RETRY_DELAY, retry_policy
from millrace.airflow.runtime.run import JobTask
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.tell import of_a_failed_run, of_a_missed_deadline
from millrace.spec.environment import Part

POOL = "millrace_compute"
"""Airflow pool with cores / threads slots, so that several trainings do not slow each other down tenfold."""


def job_step(site: Site, work: JobTask, job: str, *, pool: str | None = POOL, **operator: Any) -> Callable[..., Any]:
    """A task of one job, in the compute profile that spec and environment name for it; `pool` is that of a job in this
    process, None for the default one, and `operator` are the operator's arguments."""
    name = site.placed.profile(job)
    profile = site.placed.compute_profile(name)
    return runner_of(profile).task(Planned(work, name, profile, pool, operator))


def optional_text(title: str, **more: Any) -> Param:
    """A field of a run's form that may stay empty; `more` as in JSON Schema."""
    return Param(None, type=["null", "string"], title=title, **more)


def dag_id(pipeline: str, part: str) -> str:
    """`<pipeline>__<part>`."""
    return f"{pipeline}__{part}"


def arguments(site: Site, part: Part, does: str, *, by_clock: bool = False) -> dict[str, Any]:
    """Keyword arguments that all DAGs of a pipeline share; `by_clock`: the clock starts runs that nobody asked for."""
    spec = site.spec
    return {
        "dag_id": dag_id(spec.name, part),
        "description": does,
        "tags": sorted({spec.name, part, site.tree.project.name, *spec.tags}),
        "doc_md": _doc(site, part, does),
        "default_args": {
            "owner": spec.owner,
            "retries": RETRIES,
            "retry_delay": RETRY_DELAY,
            "retry_policy": retry_policy(),
        },
        "catchup": False,
        # Runs of a paused DAG wait without a word. Only what the clock would start waits for a person (or follows
        # Airflow's own setting); the others do nothing until somebody, or another DAG, asks for a run.
        "is_paused_upon_creation": None if by_clock else False,
        "render_template_as_native_obj": False,
        "deadline": _deadline(site, part),
        "on_failure_callback": of_a_failed_run(str(site.tree.root), spec.name) if _told(site, "failed_run") else None,
    }


def _deadline(site: Site, part: Part) -> DeadlineAlert | None:
    """Airflow's own alert: the scheduler sees that a run is late, the executor calls the notifiers.

    It counts from when the run was queued, as one by hand has no other time.
    """
    limit = site.placed.deadline(part)
    if limit is None:
        return None
    told = {"root": str(site.tree.root), "pipeline": site.name, "limit": str(limit)}
    callback = SyncCallback(of_a_missed_deadline, kwargs=told)
    return DeadlineAlert(reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=limit.length, callback=callback)


def _told(site: Site, happening: str) -> bool:
    return any(happening in wanted.of for wanted in site.placed.environment.notify)


def _doc(site: Site, part: str, does: str) -> str:
    spec = site.spec
    parts = [
        "features",
        *(["training", "release"] if spec.training else []),
        *(["rollback"] if spec.training and spec.serving else []),
        *(["monitoring"] if spec.monitoring else []),
        *(["retirement"] if spec.training and (site.placed.environment.retention or spec.serving) else []),
    ]
    others = ", ".join(f"`{dag_id(spec.name, p)}`" for p in parts if p != part)
    return (
        f"### {spec.name}: {part}\n\n{does}\n\n{spec.description}\n\n"
        f"* Pipeline folder: `include/pipelines/{spec.name}/`\n"
        f"* Partition: one {spec.partition.grain}, {spec.partition.timezone}, from {spec.partition.start}\n"
        f"* Environment: {site.settings.environment}\n"
        f"* Owner: {spec.owner}\n" + (f"* Other DAGs: {others}\n" if others else "")
    )
