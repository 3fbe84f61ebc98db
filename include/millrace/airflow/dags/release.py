"""The release DAG: approve (a human, when the environment asks), promote. A rollback takes the same way.

Where the pipeline serves, what its rollout asks for lies between the two, and a watch after them.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from millrace.airflow import runners
from millrace.airflow.dags.common import arguments, job_step, optional_text
from millrace.airflow.runtime.run import step
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import release as tasks
from millrace.airflow.tasks import rollout
from millrace.airflow.tasks.approval import ReleaseApproval
from millrace.rules.rollout import stages


def build(site: Site) -> DAG:
    """Build `<pipeline>__release`: triggered by a registered challenger, or by hand with an older version (a rollback);
    waiting blocks nothing else."""
    here = {"root": str(site.tree.root), "pipeline": site.name}
    with DAG(
        **arguments(site, "release", "Asks for approval where the environment wants it, then promotes the version."),
        schedule=None,
        # A waiting approval holds its run's slot; newer challengers must not queue behind it.
        max_active_runs=16,
        params={
            "version": optional_text(
                "Model version",
                pattern="^[0-9]+$",
                description="A challenger, or for a rollback a version that was champion before.",
            ),
            "evidence": optional_text(
                "Evidence digest",
                description="Leave empty to take what the version was registered with.",
            ),
            "reason": optional_text(
                "Reason",
                description="Kept in the ledger; a rollback needs one.",
            ),
        },
    ) as dag:
        opened = step(tasks.open_release, task_id="open")(**here)
        approved = ReleaseApproval(task_id="approve", **here)
        promoted = step(tasks.promote if site.spec.serving is None else rollout.promote)(**here)
        opened >> approved
        if site.spec.serving is None:
            approved >> promoted
        else:
            last: Any = job_step(site, rollout.deploy, "deploy", pool=None)(**here)
            approved >> last
            first = 0 if site.spec.serving.rollout.shadow is not None else 1
            for number, stage in enumerate(stages(site.spec.serving), first):
                waits = rollout.RolloutStage(task_id=stage.name.replace(" ", "_"), stage=number, **here)
                last >> waits
                last = waits
            last >> promoted >> rollout.RolloutWatch(task_id="watch", **here)
            runners.close(site, dag)
    return dag
