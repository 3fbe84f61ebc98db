"""The retirement DAG: what was kept long enough is retired or gone, and MLflow is held against the ledger."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable

from millrace.airflow.dags.common import arguments
from millrace.airflow.runtime.run import step
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import retirement as tasks
from millrace.airflow.tasks import served

DAILY = "0 4 * * *"
"""When what was served goes, where the environment keeps versions for ever and so names no hour."""


def wanted(site: Site) -> bool:
    """Whether the pipeline has anything that is kept for a time."""
    keeps = site.placed.environment.retention is not None or site.spec.serving is not None
    return site.spec.training is not None and keeps


def build(site: Site) -> DAG:
    """Build `<pipeline>__retirement`, where the environment says how long versions are kept, or the pipeline how long
    what it served is."""
    here = {"root": str(site.tree.root), "pipeline": site.name}
    retention = site.placed.environment.retention
    with DAG(
        **arguments(site, "retirement", "Retires what was kept long enough; finds changes past the ledger."),
        schedule=CronTriggerTimetable(retention.schedule if retention else DAILY, timezone=site.partitioning.timezone),
        max_active_runs=1,
    ) as dag:
        if retention is not None:
            retired: Any = step(tasks.retire)(**here)
            retired >> step(tasks.reconcile)(**here)
        if site.spec.serving is not None:
            step(served.expire)(**here)
    return dag
