"""The features DAG: land, gate, transform, gate, publish, materialize, check parity, score; one partition a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, Param, PartitionedAtRuntime, TaskGroup

from millrace.airflow.dags.common import arguments, job_step, step, sweep_pods
from millrace.airflow.runtime.assets import features_asset, scored_asset
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.timetable import PartitionTimetable
from millrace.airflow.tasks import features as tasks
from millrace.airflow.tasks import online
from millrace.spec.gate import gate_checks, references


def build(site: Site) -> DAG:
    """Build `<pipeline>__features`: serves the schedule, backfill, REST with a partition key, and a manual run."""
    spec, cut = site.spec, site.cut
    here = {"root": str(site.tree.root), "pipeline": spec.name}
    does = "Lands one partition, checks it, makes features, publishes and scores them."
    with DAG(
        **arguments(site, "features", does, by_clock=_by_clock(site)),
        schedule=_schedule(site),
        # No end_date: Airflow gives a run by hand no tasks after it, and calls that success. The schedule has the end.
        start_date=cut.start(spec.partition.start),
        max_active_runs=4,
        params={
            "partition": Param(
                None,
                type=["null", "string"],
                title="Partition",
                description=f"One {cut.grain}, such as {spec.partition.start}. Needed when started by hand.",
            ),
            "rebuild": Param(
                False,
                type="boolean",
                title="Rebuild",
                description="Only make the features anew: neither score the partition nor monitor it again.",
            ),
        },
    ) as dag:
        partition: Any = step(tasks.resolve_partition, task_id="partition")(**here)
        gated: dict[str, Any] = {}
        landed: dict[str, Any] = {}
        with TaskGroup("land", tooltip="Take each source's file as it came"):
            for name in spec.sources:
                landed[name] = step(tasks.land, task_id=name)(partition=partition, source=name, **here)
        with TaskGroup("gate_raw", tooltip="Great Expectations on what was landed"):
            for name in spec.sources:
                gated[name] = step(tasks.gate_raw, task_id=name)(
                    partition=partition, source=name, landed=landed[name], **here
                )
        for name, source in spec.sources.items():
            for other in references(gate_checks(site.tree.suite(spec.name, source.gate), source.gate)):
                gated[other] >> gated[name]  # whose published Snapshot its checks look into
        made = job_step(site, tasks.transform, "transform")(partition=partition, sources=gated, **here)
        passed = step(tasks.gate_features)(partition=partition, features=made, **here)
        published = step(tasks.publish, outlets=[features_asset(site)])(partition=partition, features=passed, **here)
        materialized: Any = step(online.materialize)(partition=partition, features=published, **here)
        checked = step(online.parity)(partition=partition, materialized=materialized, **here)
        if spec.training is not None:
            scoring = job_step(site, tasks.score, "score", pool=None, outlets=[scored_asset(site)])
            scored = scoring(partition=partition, features=published, **here)
            checked >> scored
        sweep_pods(site, dag)
    return dag


def _by_clock(site: Site) -> bool:
    """Whether the clock will start runs: not where the environment says so, nor after the last partition's end."""
    end = site.spec.partition.end
    return site.placed.scheduled and (end is None or site.cut.end(end) > datetime.now(UTC))


def _schedule(site: Site) -> Any:
    if not site.placed.scheduled:
        return PartitionedAtRuntime()
    cut, spec = site.cut, site.spec.partition
    return PartitionTimetable(cut.grain, timezone=cut.timezone, start=spec.start, end=spec.end)
