"""train: fit a challenger on a training set, and store it as weights with their model.json."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.canonical import digest
from millrace.contract import Artifact, Input, Metric, Outcome
from millrace.errors import ContractError
from millrace.jobs.reference import reference_of
from millrace.jobs.work import Work
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.losses import LOSS, rounded
from millrace.learners.model_files import Model, classification_of, save
from millrace.learners.protocol import Settings, Weights, engine_of
from millrace.learners.tracking import Tracked, lock_digest, tracked
from millrace.learners.training import Prepared, card_of, log_training, prepare
from millrace.spec.learner import LEARNERS

REACHES: tuple[str, ...] = ("mlflow",)
REUSABLE = True


class Params(BaseModel):
    """Which learner, where it is not the spec's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learner: dict[str, Any] | None = Field(default=None, description="Kind and parameters; the spec's when left out.")


def run(work: Work, params: Params) -> Outcome:
    """Train on the input `training_set`; a killed training goes on from its last checkpoint to the same bytes."""
    identity, place = work.request.identity, work.request.place
    item = work.request.input("training_set")
    table = work.read(item)
    data = prepare(work.spec, table)
    learner = _learner(work, params)
    engine = engine_of(learner)
    settings = Settings(data.task, identity.seed, identity.threads, len(data.classes))
    checkpoints = Checkpoints(work.objects, place.checkpoint, work.request.request_digest)
    with _tracked(work, learner, item) as mlflow:
        if mlflow:
            columns = {field.name: str(field.type) for field in table.schema}
            address = work.objects.url(work.request.key(item).rstrip("/"))
            mlflow.dataset(f"{work.spec.name} training set", item.digest, address, columns)
        weights = engine.fit(
            data.train, data.holdout, learner, settings, checkpoints, mlflow.points if mlflow else lambda points: None
        )
        reference = reference_of(work, table, data, lambda rows: engine.predict(weights.data, rows, learner, settings))
        card = card_of(work.spec, identity, item.digest, data, learner, engine, weights.data)
        embedding = work.snapshots.manifest_of(work.request.key(item), item.digest).source
        card = card.model_copy(update={"reference": digest(reference), "embedding": embedding})
        features = [f.name for f in card.encoder.features]
        kind = classification_of(work.spec, [*features, card.label])
        artifact = save(work.objects, card, weights.data, kind, reference)
        if mlflow:
            model = Model(card, artifact.digest, weights.data, learner, engine)
            log_training(mlflow, model, data, weights.curve)
            mlflow.tags({"millrace.model_digest": artifact.digest})
    checkpoints.clear()
    return _outcome(artifact, data, weights, learner)


def _learner(work: Work, params: Params) -> Any:
    training = work.spec.training
    assert training is not None  # prepare() refuses a pipeline without
    if params.learner is None:
        return training.learner
    try:
        return LEARNERS.resolve(str(params.learner.get("kind"))).model_validate(params.learner)
    except (ValidationError, ValueError) as err:
        raise ContractError(f"params of job 'train', learner: {err}", allowed=LEARNERS.kinds()) from err


@contextmanager
def _tracked(work: Work, learner: Any, item: Input) -> Iterator[Tracked | None]:
    """The MLflow run of this attempt, None where the request gives no MLflow."""
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
    with tracked(work.service("mlflow"), request, experiment=spec.name, name=name, tags=tags) as run:
        work.mlflow_run = run.run
        if run.link:
            work.links["mlflow"] = run.link
        run.params(
            {
                **learner.model_dump(mode="json"),
                "seed": identity.seed,
                "threads": identity.threads,
                "partitions": f"{scope[0]} .. {scope[-1]}" if scope else "",
            }
        )
        yield run


def _outcome(artifact: Artifact, data: Prepared, weights: Weights, learner: Any) -> Outcome:
    final = weights.curve[-1][1] if weights.curve else {}
    rows = {"train": len(data.train), "holdout": len(data.holdout)}
    return Outcome(
        outputs={"model": artifact},
        facts={"learner": learner.kind, "features": len(data.encoder.features), "rows": rows},
        metrics={
            f"{side}_{LOSS[data.task]}": Metric(value=rounded(value), rows=rows[side])
            for side, value in final.items()
            if math.isfinite(value)
        },
    )
