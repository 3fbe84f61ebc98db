"""train: fit a challenger on a training set, and store it as weights with their model.json."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.contract import Artifact, Metric, Outcome
from millrace.core.canonical import digest
from millrace.core.errors import ContractError
from millrace.core.usage import Usage
from millrace.jobs.reference import reference_of
from millrace.jobs.training_run import log_use, training_run
from millrace.jobs.work import Work
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import Weights, check_finite, learner_of
from millrace.learners.training import Prepared, card_of, log_training, prepare
from millrace.mlflow.runs import lock_digest
from millrace.models import device
from millrace.models.files import Model, classification_of, save
from millrace.models.metrics import LOSS, rounded
from millrace.models.protocol import Code, Settings, permit_code
from millrace.spec.learner import LEARNERS, CustomLearner
from millrace.spec.trainer import TRAINER


class Params(BaseModel):
    """Which learner, where it is not the spec's, and whether recent rows count for more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learner: dict[str, Any] | None = Field(default=None, description="Kind and parameters; the spec's when left out.")
    half_life: float | None = Field(
        default=None, gt=0, description="Partitions after which a row counts half; all count alike when left out."
    )


def run(work: Work, params: Params) -> Outcome:
    """Train on the input `training_set`; a killed training goes on from its last checkpoint to the same bytes."""
    identity, place, usage = work.request.identity, work.request.place, Usage()
    item = work.request.input("training_set")
    table = work.read(item)
    data = prepare(work.spec, table, identity.scope[-1] if identity.scope else "", params.half_life)
    learner = _learner(work, params)
    code = _code(work) if isinstance(learner, CustomLearner) else None
    engine = learner_of(learner, code)
    gpus, fallback = device.asked_of(work.request.means)
    placed = device.place(gpus, fallback=fallback, engine=engine, learner=learner.kind)
    work.device, work.lock = placed.device, lock_digest()
    if placed.note:
        work.notes.append(placed.note)
    if placed.gpus:
        usage.watch_gpus()
    settings = Settings(
        data.task, identity.seed, identity.threads, len(data.classes), device=placed.device, gpus=placed.gpus
    )
    checkpoints = Checkpoints(work.objects, place.checkpoint, work.request.request_digest)
    found = checkpoints.last()
    if found:
        kept = found.curve[-1][0] if found.curve else 0
        work.notes.append(f"Resumed from a checkpoint: {kept} rounds or epochs are not trained again")
    with training_run(work, learner, params.half_life, item, resumed=found is not None) as mlflow:
        if mlflow:
            columns = {field.name: str(field.type) for field in table.schema}
            address = work.objects.url(work.request.key(item).rstrip("/"))
            mlflow.dataset(f"{work.spec.name} training set", item.digest, address, columns)
        report = mlflow.points if mlflow else lambda points: None
        weights = engine.fit(data.train, data.holdout, learner, settings, checkpoints, report)
        check_finite(weights.curve)
        predictor = engine.predictor(weights.data, data.encoder.columns, learner, settings)
        reference = reference_of(work, table, data, predictor)
        text = code.text if code else None
        card = card_of(work.spec, identity, item.digest, data, learner, engine, weights.data, text, work.on_demand())
        embedding = work.snapshots.manifest_of(work.request.key(item), item.digest).source
        card = card.model_copy(update={"reference": digest(reference), "embedding": embedding})
        features = [f.name for f in card.encoder.features]
        kind = classification_of(work.spec, [*features, card.label])
        artifact = save(work.objects, card, weights.data, kind, reference)
        if mlflow:
            model = Model(card, artifact.digest, weights.data, learner, engine)
            log_training(mlflow, model, data, weights.curve)
            mlflow.tags({"millrace.model_digest": artifact.digest})
        work.notes += (gpu_notes := usage.gpu_notes())
        if mlflow:
            log_use(mlflow, usage, placed.device, gpu_notes)
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


def _code(work: Work) -> Code:
    """The bundle's trainer.py, where it may be executed. Raises ContractError."""
    permit_code(work.request.means)
    if TRAINER not in work.bundle.code:
        raise ContractError(f"learner 'custom' needs {TRAINER}, which pipeline '{work.spec.name}' does not have")
    return Code(work.bundle.code[TRAINER], f"include/pipelines/{work.spec.name}/{TRAINER}")


def _outcome(artifact: Artifact, data: Prepared, weights: Weights, learner: Any) -> Outcome:
    final = weights.curve[-1][1] if weights.curve else {}
    rows = {"train": len(data.train), "holdout": len(data.holdout)}
    return Outcome(
        outputs={"model": artifact},
        facts={"learner": learner.kind, "features": len(data.encoder.features), "rows": rows},
        metrics={
            f"{side}_{LOSS[data.task]}": Metric(value=rounded(value), rows=rows[side]) for side, value in final.items()
        },
    )
