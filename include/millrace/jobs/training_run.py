"""The MLflow run of a training, with what it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from millrace.contract import Input
from millrace.core.usage import Usage
from millrace.jobs.work import Work
from millrace.mlflow.runs import Tracked, lock_digest, tracked


@contextmanager
def training_run(
    work: Work, learner: Any, half_life: float | None, item: Input, *, resumed: bool
) -> Iterator[Tracked | None]:
    """The MLflow run of this attempt, None where the request gives no MLflow; a resumed training continues its run."""
    request, spec = work.request, work.spec
    if "mlflow" not in request.means.services:
        work.notes.append("No MLflow service was given: this training is not tracked")
        yield None
        return
    identity, asked, scope = request.identity, request.run, request.identity.scope
    tags = {
        "millrace.pipeline": spec.name,
        "millrace.feature_service": spec.features.service,
        "millrace.spec_digest": identity.spec_digest,
        "millrace.code_digest": identity.code_digest,
        "millrace.lock_digest": lock_digest(),
        "millrace.training_set": item.digest,
        "airflow.dag_id": asked.dag_id,
        "airflow.run_id": asked.run_id,
        "airflow.task_id": asked.task_id,
        "airflow.url": asked.url,
    }
    name = " ".join([learner.kind, *scope[-1:]])
    uri = work.service("mlflow")
    with tracked(uri, request, experiment=spec.name, name=name, tags=tags, resumed=resumed) as run:
        work.mlflow_run = run.run
        if run.link:
            work.links["mlflow"] = run.link
        run.params(
            {
                **learner.model_dump(mode="json"),
                "seed": identity.seed,
                "threads": identity.threads,
                "half_life": half_life or "none",
                "partitions": f"{scope[0]} .. {scope[-1]}" if scope else "",
            }
        )
        yield run


def log_use(run: Tracked, usage: Usage, device: str, gpus: list[str]) -> None:
    """What this try used, as metrics `used/...`, and on what."""
    run.metrics({f"used/{name}": value for name, value in usage.observed().items() if name != "started"})
    run.tags({"millrace.device": device, "millrace.gpu": "; ".join(gpus)})
