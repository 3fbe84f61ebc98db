"""The features DAG: land, gate, transform, gate, publish, materialize, score; one partition a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, Param, PartitionedAtRuntime, TaskGroup

from millrace.airflow import runners
from millrace.airflow.dags.common import arguments, job_step, optional_text
from millrace.airflow.runtime.assets import features_asset, scored_asset
from millrace.airflow.runtime.run import step
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.timetable import PartitionTimetable
from millrace.airflow.tasks import features as tasks
from millrace.airflow.tasks import landing, online, served


def build(site: Site) -> DAG:
    """Build `<pipeline>__features`: serves the schedule, backfill, REST with a partition key, and a manual run."""
    spec, partitioning = site.spec, site.partitioning
    here = {"root": str(site.tree.root), "pipeline": spec.name}
    does = "Lands one partition, checks it, makes features, publishes and scores them."
    with DAG(
        **arguments(site, "features", does, by_clock=_by_clock(site)),
        schedule=_schedule(site),
        # No end_date: Airflow gives a run by hand no tasks after it, and calls that success. The schedule has the end.
        start_date=partitioning.start(spec.partition.start),
        max_active_runs=4,
        params={
            "partition": optional_text(
                "Partition",
                description=f"One {partitioning.grain}, such as {spec.partition.start}: for the command line. In this "
                "form rather Airflow's own Partition Key under Advanced Options, which grid and calendar show.",
            ),
            "rebuild": Param(
                False,
                type="boolean",
                title="Rebuild",
                description="Only make the features anew: neither score the partition nor monitor it again.",
            ),
        },
    ) as dag:
        landed: dict[str, Any] = {}
        with TaskGroup("land", tooltip="Take each source's file as it came"):
            for name in spec.sources:
                landed[name] = step(landing.land, task_id=name)(source=name, **here)
        gated: Any = step(tasks.gate_raw)(landed=landed, **here)
        made: Any = job_step(site, tasks.transform, "transform")(sources=gated, **here)
        passed: Any = step(tasks.gate_features)(**here)
        published: Any = step(tasks.publish, outlets=[features_asset(site)])(**here)
        materialized: Any = step(online.materialize)(**here)
        made >> passed >> published >> materialized
        if spec.training is not None:
            scoring = job_step(site, tasks.score, "score", pool=None, outlets=[scored_asset(site)])
            scored = scoring(**here)
            materialized >> scored
            if spec.serving is not None and spec.monitoring is None:  # else the monitoring DAG does, before it judges
                scored >> step(served.collect, trigger_rule="none_failed")(**here)
        runners.close(site, dag)
    return dag


def _by_clock(site: Site) -> bool:
    """Whether the clock will start runs: not where the environment says so, nor after the last partition's end."""
    end = site.spec.partition.end
    return site.placed.scheduled and (end is None or site.partitioning.end(end) > datetime.now(UTC))


def _schedule(site: Site) -> Any:
    if not site.placed.scheduled:
        return PartitionedAtRuntime()
    partitioning, spec = site.partitioning, site.spec.partition
    return PartitionTimetable(partitioning.grain, timezone=partitioning.timezone, start=spec.start, end=spec.end)
