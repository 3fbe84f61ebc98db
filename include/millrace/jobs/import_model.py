"""import_model: make a model of a weights file that was trained elsewhere, as if a learner here had left it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.contract import Input, Outcome
from millrace.core.canonical import digest
from millrace.core.errors import DataError
from millrace.jobs.reference import reference_of
from millrace.jobs.work import Work
from millrace.learners.training import Prepared, card_of, log_training, prepare
from millrace.mlflow.runs import tracked
from millrace.models.encoding import Encoder, labels
from millrace.models.files import Card, Model, classification_of, save
from millrace.models.formats import check_weights
from millrace.models.protocol import Matrix, Settings, engine_of
from millrace.spec.learner import OnnxModel, TorchMLPLearner, XGBoostLearner

LEARNERS: dict[str, type[BaseModel]] = {"ubj": XGBoostLearner, "safetensors": TorchMLPLearner, "onnx": OnnxModel}
"""What predicts by a file of each format. Formats that could hold code are not among them."""


class Params(BaseModel):
    """Which format the file has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = Field(description="ubj, safetensors or onnx.")


def run(work: Work, params: Params) -> Outcome:
    """Make a model of the input `file`, to be judged on what the `training_set` holds out.

    The input `card`, a model.json, says how features become numbers where the file does not: categories, and the layers
    of a network. Without one trees and ONNX graphs of numbers alone can be taken. Raises DataError for a file that is
    not what its format says, for features that are not those of the pipeline, and for predictions that the task cannot
    have.
    """
    item, given = work.request.input("training_set"), _card(work)
    weights, table = work.get(work.request.input("file")), work.read(item)
    learner = _learner(params.format, given, work)
    engine = engine_of(learner)
    check_weights(engine.file, weights)
    identity = work.request.identity
    data = prepare(work.spec, table, identity.scope[-1])
    data = _encoded(work, data, table, _encoder(data.encoder, given, weights, params.format), given)
    settings = Settings(data.task, identity.seed, identity.threads, len(data.classes))
    predict = engine.predictor(weights, data.encoder.columns, learner, settings)
    _check_predictions(data, predict(data.holdout))
    reference = reference_of(work, table, data, predict)
    card = card_of(work.spec, identity, item.digest, data, learner, engine, weights, on_demand=work.on_demand())
    embedding = work.snapshots.manifest_of(work.request.key(item), item.digest).source
    card = card.model_copy(update={"reference": digest(reference), "embedding": embedding})
    kind = classification_of(work.spec, [*(f.name for f in card.encoder.features), card.label])
    artifact = save(work.objects, card, weights, kind, reference)
    file = work.request.input("file").digest
    tags: dict[str, str | None] = {"millrace.pipeline": work.spec.name, "millrace.imported": file,
                                   "millrace.model_digest": artifact.digest}  # fmt: skip
    uri = work.service("mlflow")
    with tracked(uri, work.request, experiment=work.spec.name, name=f"import {params.format}", tags=tags) as mlflow:
        work.mlflow_run = mlflow.run
        log_training(mlflow, Model(card, artifact.digest, weights, learner, engine), data, [])
    return Outcome(outputs={"model": artifact}, facts={"format": params.format, "file": file})


def _card(work: Work) -> Card | None:
    items: list[Input] = work.request.inputs("card")
    if not items:
        return None
    try:
        return Card.model_validate_json(work.get(items[0]))
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"the card is no model.json: {where}: {first['msg']}") from err


def _learner(form: str, card: Card | None, work: Work) -> Any:
    """Parameters of what predicts; those of a training elsewhere are not known, and nothing hangs on them."""
    kind = LEARNERS.get(form)
    if kind is None:
        raise DataError("no format that can be imported", given=form, allowed=sorted(LEARNERS))
    spec = work.spec.training
    if form == "onnx":  # what the graph computes it says itself; the card may be of whatever learned the mapping
        said: Any = {}
    elif card is not None:
        said = card.learner
    elif form == "safetensors" and spec is not None and isinstance(spec.learner, kind):
        said = spec.learner.model_dump(mode="json")
    elif form == "safetensors":
        raise DataError("these weights do not say of which layers they are", next_step="Give the model's card: --card")
    else:
        said = {}
    try:
        return kind.model_validate(said)
    except ValidationError as err:
        raise DataError(f"the card is of another learner than {form} files are of: {err.errors()[0]['msg']}",
                        given=said.get("kind")) from err  # fmt: skip


def _encoder(mine: Encoder, card: Card | None, weights: bytes, form: str) -> Encoder:
    """How features become numbers, in the order in which the file wants them."""
    known = {feature.name: feature for feature in mine.features}
    theirs = card.encoder if card is not None else mine
    if card is None:
        if unknown := [f.name for f in mine.features if f.kind != "number"]:
            raise DataError(
                f"the file does not say which number stands for which value of {', '.join(unknown)}",
                next_step="Give the model's card: --card model.json",
            )
        names = _graph_names(weights) if form == "onnx" else _names(weights)
        if names:
            _same(set(known), set(names))
            theirs = Encoder(features=tuple(known[name] for name in names))
    _same(set(known), {feature.name for feature in theirs.features})
    if changed := [f.name for f in theirs.features if f.kind != known[f.name].kind]:
        raise DataError(f"the card has other kinds of {', '.join(changed)} than the pipeline's features")
    return theirs


def _same(mine: set[str], theirs: set[str]) -> None:
    if mine != theirs:
        raise DataError(
            "the model was trained on other features than the pipeline's service serves",
            given=", ".join(sorted(theirs - mine)) or "none that are not served",
            allowed=sorted(mine),
            next_step="Let the FeatureService serve just those",
        )


def _names(weights: bytes) -> list[str] | None:
    import xgboost

    try:
        return xgboost.Booster(model_file=bytearray(weights)).feature_names
    except xgboost.core.XGBoostError as err:
        raise DataError("XGBoost cannot read these weights") from err


def _graph_names(weights: bytes) -> list[str] | None:
    """Features of a graph that takes each by its name; None for one that takes all as one matrix."""
    from millrace.models.onnx_graph import input_names

    names = input_names(weights)
    return names if len(names) > 1 else None


def _encoded(work: Work, data: Prepared, table: Any, encoder: Encoder, card: Card | None) -> Prepared:
    """Both sides, encoded as the model wants them."""
    classes = card.classes if card is not None and data.task == "multiclass" else data.classes
    if card is not None and card.task != data.task:
        raise DataError("the model is of another task than the pipeline's label", given=card.task, allowed=[data.task])
    rows = encoder.encode(table)
    public = work.spec.classification(data.label) == "public"
    rows = Matrix(rows.columns, rows.values, labels(table, data.label, data.task, classes, public=public))
    held, _ = data.rule.divide(table[work.spec.features.event_time])
    return replace(data, encoder=encoder, classes=classes, train=rows.take(~held), holdout=rows.take(held))


def _check_predictions(data: Prepared, found: Any) -> None:
    shape = (len(data.holdout), len(data.classes)) if data.task == "multiclass" else (len(data.holdout),)
    if np.shape(found) != shape or not np.isfinite(found).all():
        raise DataError("the model does not predict a number for each row", given=str(np.shape(found)),
                        allowed=str(shape))  # fmt: skip
    if data.task != "regression" and not ((found >= 0) & (found <= 1)).all():
        raise DataError("the model's predictions are no probabilities", allowed="an objective whose output is one")
