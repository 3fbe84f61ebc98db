"""The release DAG: approve (a human, when the environment asks), promote. A rollback takes the same way."""

from __future__ import annotations

from airflow.sdk import DAG

from millrace.airflow.dags.common import arguments, optional_text
from millrace.airflow.runtime.run import step
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import release as tasks
from millrace.airflow.tasks.approval import ReleaseApproval


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
        promoted = step(tasks.promote)(**here)
        opened >> approved >> promoted
    return dag
