"""The retirement DAG: what was kept long enough is retired, and MLflow is held against the ledger."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable

from millrace.airflow.dags.common import arguments
from millrace.airflow.runtime.run import step
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import retirement as tasks


def build(site: Site) -> DAG:
    """Build `<pipeline>__retirement`, where the environment says how long versions are kept."""
    here = {"root": str(site.tree.root), "pipeline": site.name}
    retention = site.placed.environment.retention
    assert retention is not None
    with DAG(
        **arguments(site, "retirement", "Retires versions that were kept long enough; finds changes past the ledger."),
        schedule=CronTriggerTimetable(retention.schedule, timezone=site.partitioning.timezone),
        max_active_runs=1,
    ) as dag:
        retired: Any = step(tasks.retire)(**here)
        retired >> step(tasks.reconcile)(**here)
    return dag
