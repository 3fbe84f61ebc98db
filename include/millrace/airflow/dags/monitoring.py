"""The monitoring DAG: collect what was served; drift, performance, probe, decide; then retrain, or nothing, or
alert."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, PartitionedAssetTimetable, task

from millrace.airflow import runners
from millrace.airflow.dags.common import arguments, dag_id, job_step, optional_text
from millrace.airflow.runtime.assets import scored_asset
from millrace.airflow.runtime.run import step
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import monitoring as tasks
from millrace.airflow.tasks import served


def build(site: Site) -> DAG:
    """Build `<pipeline>__monitoring`: runs for each partition once it is scored, however its run was started."""
    here = {"root": str(site.tree.root), "pipeline": site.name}
    monitoring = site.spec.monitoring
    assert monitoring is not None
    decided = "ti.xcom_pull(task_ids='decide')"
    with DAG(
        **arguments(site, "monitoring", "Compares the newest window with what the champion was trained on; decides."),
        schedule=PartitionedAssetTimetable(assets=scored_asset(site)),
        max_active_runs=1,
        params={"partition": optional_text("Partition")},
    ) as dag:
        drift: Any = job_step(site, tasks.drift, "drift")(**here)
        performance: Any = job_step(site, tasks.performance, "performance")(**here)
        decision: Any = task.short_circuit(tasks.decide)(**here)
        retrain = TriggerDagRunOperator(
            task_id="retrain",
            trigger_dag_id=dag_id(site.name, "training"),
            trigger_run_id=f"retrain__{{{{ {decided}['decision'] }}}}",
            conf={
                "decision": f"{{{{ {decided}['decision'] }}}}",
                "reason": f"{{{{ {decided}['reason'] }}}}",
                "until": f"{{{{ {decided}['until'] }}}}",
            },
            skip_when_already_exists=True,
            fail_when_dag_is_paused=True,  # where its run would wait, and nobody would see why
        )
        [drift, performance] >> decision >> retrain
        if site.spec.serving is not None:
            collected: Any = step(served.collect)(**here)
            collected >> [drift, performance]
            collected >> step(served.skew)(**here)
        if monitoring.probes:  # the costliest, so last: a window that cannot be read fails before it
            performance >> job_step(site, tasks.probe, "probe")(**here) >> decision
        runners.close(site, dag)
    return dag
