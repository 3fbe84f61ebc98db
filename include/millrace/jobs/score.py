"""score: predict a features Snapshot with a registered model, before its labels are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Outcome
from millrace.core.errors import ContractError, DataError
from millrace.jobs.embedded import embedding_of
from millrace.jobs.work import Work
from millrace.models.classes import PROBABILITY, likeliest
from millrace.models.files import Card, classification_of
from millrace.models.metrics import Floats, usable
from millrace.models.on_demand import with_on_demand

if TYPE_CHECKING:
    import pyarrow as pa


class Params(BaseModel):
    """Which ModelVersion the model is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str | int = Field(description="MLflow's number of the ModelVersion, kept with every prediction.")


def run(work: Work, params: Params) -> Outcome:
    """Write one prediction per row of `features`: keys, event time, prediction, version, digest, and whether the
    partition was in the model's training window (such predictions say nothing about performance).

    A multiclass prediction is the most probable class, and beside it `probability_0` .. in the order of the model's
    `classes`: plain columns, which every reader takes, and whose names tell nothing of the label.

    Raises DataError for predictions that are no numbers: none of them is ever stored.
    """
    import pyarrow as pa

    item = work.request.input("features")
    table, model = work.read(item), work.model("model")
    card = model.card
    if card.pipeline != work.spec.name:
        raise ContractError("the model belongs to another pipeline", given=card.pipeline, allowed=[work.spec.name])
    if embedding_of(work, [item]) != card.embedding:
        raise DataError(
            "the features come from another embedding than those the model was trained on",
            where=work.spec.name,
            next_step="Make the features of the training window anew, then train and promote a model on them",
        )
    keys = [*card.entity, card.event_time]
    if missing := [name for name in keys if name not in table.column_names]:
        raise DataError(f"the features lack the key column '{missing[0]}'", allowed=table.column_names)
    prediction = model.predict(with_on_demand(table, card.on_demand))
    if wrong := int((~usable(prediction)).sum()):
        raise DataError(
            f"the model predicts no number (NaN, infinite, or beyond float32) for {wrong} of {table.num_rows} rows",
            where=work.spec.name,
            next_step="Are these rows far from those it was trained on? Promote another version, or train a new model",
        )
    inside = work.partition in card.partitions
    scored = table.select(keys)
    for name, column in (
        *_predictions(prediction, card),
        ("model_version", pa.repeat(pa.scalar(str(params.version)), len(prediction))),
        ("model_digest", pa.repeat(pa.scalar(model.digest), len(prediction))),
        ("in_training_window", pa.repeat(pa.scalar(inside), len(prediction))),
    ):
        scored = scored.append_column(name, column)
    data = work.snapshots.write(
        scored,
        pipeline=work.spec.name,
        dataset="predictions",
        partition=work.partition,
        classification=classification_of(work.spec, [*keys, card.label]),
    )
    return Outcome(
        outputs={"data": data},
        facts={"rows": data.rows, "version": str(params.version), "model": model.digest, "in_training_window": inside},
    )


def _predictions(predictions: Floats, card: Card) -> list[tuple[str, pa.Array]]:
    import pyarrow as pa

    if card.task != "multiclass":
        return [("prediction", pa.array(predictions, pa.float64()))]
    shares = [(PROBABILITY.format(n), pa.array(predictions[:, n], pa.float64())) for n in range(len(card.classes))]
    return [("prediction", likeliest(predictions, card.classes)), *shares]
