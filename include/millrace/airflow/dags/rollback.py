"""The rollback DAG: decide, carry out. Guards start it by what they write into the store; so may a person."""

from __future__ import annotations

from airflow.sdk import DAG, Asset, AssetWatcher

from millrace.airflow.dags.common import arguments, optional_text
from millrace.airflow.runtime.run import step
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.triggers import VetoTrigger
from millrace.airflow.tasks import rollback as tasks


def build(site: Site) -> DAG:
    """Build `<pipeline>__rollback`, where the pipeline serves: it depends on no run of the release DAG."""
    here = {"root": str(site.tree.root), "pipeline": site.name}
    does = "Takes a version out of the traffic that guards speak against, and brings the champion before back."
    with DAG(
        **arguments(site, "rollback", does),
        schedule=[vetoes_asset(site)],
        max_active_runs=1,
        params={
            "version": optional_text(
                "Model version",
                pattern="^[0-9]+$",
                description="That shall answer no more; leave empty to do what guards have asked for.",
            ),
            "reason": optional_text("Reason", description="Kept in the ledger; a version needs one."),
        },
    ) as dag:
        step(tasks.decide)(**here) >> step(tasks.carry_out)(**here)
    return dag


def vetoes_asset(site: Site) -> Asset:
    """Emitted while guards speak against a version that is served: the triggerer looks into the store."""
    watcher = AssetWatcher(name="vetoes", trigger=VetoTrigger(str(site.tree.root), site.name))
    return Asset(name=f"{site.tree.project.name}.{site.name}.vetoes", watchers=[watcher])
