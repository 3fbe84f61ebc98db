"""The training DAG: claim, training set, train, evaluate, register as challenger, start the release."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, CronTriggerTimetable, Param

from millrace.airflow import runners
from millrace.airflow.dags.common import arguments, dag_id, job_step, optional_text
from millrace.airflow.runtime.run import step
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import registration
from millrace.airflow.tasks import training as tasks


def build(site: Site) -> DAG:
    """Build `<pipeline>__training`: by hand with a form, on a schedule, or triggered with a decision."""
    spec = site.spec
    assert spec.training is not None
    here = {"root": str(site.tree.root), "pipeline": spec.name}
    schedule = spec.training.schedule if site.placed.scheduled else None
    with DAG(
        **arguments(site, "training", "Trains a challenger on the newest window and registers it."),
        schedule=CronTriggerTimetable(schedule, timezone=site.partitioning.timezone) if schedule else None,
        max_active_runs=1,
        params=_form(site),
    ) as dag:
        claimed: Any = step(tasks.claim)(**here)
        data: Any = job_step(site, tasks.training_set, "build_training_set")(**here)
        model: Any = job_step(site, tasks.train, "train")(**here)
        judged: Any = job_step(site, tasks.evaluate, "evaluate")(**here)
        registered: Any = step(registration.register)(**here)
        claimed >> data >> model >> judged >> registered
        release = TriggerDagRunOperator(
            task_id="release",
            trigger_dag_id=dag_id(spec.name, "release"),
            trigger_run_id="release__v{{ ti.xcom_pull(task_ids='register')['version'] }}",
            conf={
                "version": "{{ ti.xcom_pull(task_ids='register')['version'] }}",
                "evidence": "{{ ti.xcom_pull(task_ids='register')['evidence'] }}",
            },
            skip_when_already_exists=True,
            fail_when_dag_is_paused=True,  # where its run would wait, and nobody would see why
        )
        settled = step(tasks.settle, trigger_rule="all_done")(**here)
        registered >> release
        registered >> settled
        runners.close(site, dag)
    return dag


def _form(site: Site) -> dict[str, Param]:
    training = site.spec.training
    assert training is not None
    return {
        "reason": Param("by hand", type="string", minLength=1, title="Reason", description="Kept in the ledger."),
        "until": optional_text(
            "Last partition",
            description="Window ends with this partition; the newest published one if empty.",
        ),
        "window": Param(
            str(training.window), type="string", pattern=r"^P", title="Window", description="ISO 8601, such as P12M."
        ),
        "learner": Param(
            {},
            type="object",
            title="Learner parameters",
            description_md=f"Overrides of the {training.learner.kind} learner's parameters. Those of the spec:\n\n"
            f"```json\n{training.learner.model_dump_json(exclude={'kind'}, indent=2)}\n```",
        ),
        "source": optional_text(
            "Asked for by", description="Another system's name, where one asks through REST; leave empty by hand."
        ),
        "decision": optional_text("Decision", description="Set by monitoring; leave empty by hand."),
    }
