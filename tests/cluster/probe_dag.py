"""DAGs of one task that trains in a pod, one for each compute profile and each of two kubeconfigs.

Copied into the dags folder of the project under test: what the training DAG does around that task is not needed to
see what happens to a pod.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, get_current_context

from millrace.airflow.dags.common import arguments
from millrace.airflow.pods.task import PodTask
from millrace.airflow.runtime.run import Done, JobTask, unpack
from millrace.airflow.runtime.site import Site
from millrace.contract import JobRequest

HERE = Path(__file__).resolve().parents[1]
ROOTS = {"least": HERE, "admin": HERE.with_name("admin")}
"""Projects that differ in the Connection of the cluster alone."""


@JobTask
def train(root: str, pipeline: str, given: str) -> JobRequest:
    """Train a pipeline's model on `given["data"]` with `given["learner"]`, for `given["limit"]` seconds at most."""
    asked: dict[str, Any] = json.loads(given)
    request = Site.at(root, pipeline).request(
        "train",
        scope=tuple(asked["scope"]),
        inputs=[("training_set", unpack(asked["data"]), None)],
        params={"learner": asked["learner"]},
        context=get_current_context(),
    )
    limits = {**request.means.limits, **({"seconds": str(asked["limit"])} if asked["limit"] else {})}
    return request.model_copy(update={"means": request.means.model_copy(update={"limits": limits})})


@train.then
def _trained(done: Done, root: str, pipeline: str, given: str) -> str | None:
    return done.result.outcome_digest


for rights, root in ROOTS.items():
    site = Site.at(str(root), "digits")
    for profile in site.tree.compute.profiles:
        named = {**arguments(site, "training", "Trains in a pod."), "dag_id": f"probe__{profile}__{rights}"}
        with DAG(**named, schedule=None, params={"given": Param({}, type="object")}) as dag:
            PodTask(
                task_id="train",
                work=train,
                arguments={
                    "root": str(root),
                    "pipeline": "{{ params.given.pipeline }}",
                    "given": "{{ params.given | tojson }}",
                },
                profile=profile,
            )
        globals()[dag.dag_id] = dag
