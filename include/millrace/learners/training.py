"""From a training set to the two sides of a training, and from a training to what MLflow shows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from millrace.contract import Identity
from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import DataError, SpecError
from millrace.evaluation.importance import importance
from millrace.mlflow.runs import Tracked
from millrace.models.classes import PROBABILITY, Classes, classes_of
from millrace.models.encoding import Encoder, labels
from millrace.models.files import Card, Model, WeightsFile
from millrace.models.holdout import Holdout
from millrace.models.metrics import Point
from millrace.models.protocol import Engine, Matrix
from millrace.models.recency import weights
from millrace.online.on_demand import MADE_FROM, OnDemandView
from millrace.rules.labels import Task
from millrace.spec import PipelineSpec
from millrace.spec.model_checks import GROUP
from millrace.store.layout import CARD, SIGNATURE

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Prepared:
    """A training set, encoded and divided. The encoder has seen the training side only."""

    task: Task
    label: str
    classes: Classes
    encoder: Encoder
    rule: Holdout
    train: Matrix
    holdout: Matrix
    half_life: float | None = None
    """Partitions after which a row of the training side counts half; None: all count alike."""
    shown: tuple[str, ...] = ()
    """Names of the classes as a person may see them: numbered where the label is not public."""


def prepare(spec: PipelineSpec, table: pa.Table, last: str = "", half_life: float | None = None) -> Prepared:
    """Encode and divide a training set: every column is a feature but entity, event time, label, what only model checks
    group by, and what on-demand features are made from.

    The classes of a multiclass label are those of the training side, as the categories of a feature are. With a
    `half_life`, in partitions before the `last` one, rows of the training side have weights; those held out have none.

    Raises DataError for too few rows, no feature, a column or a number that no learner takes, labels that the task
    cannot have, or a side without both classes.
    """
    import pyarrow as pa

    if spec.training is None or spec.label is None:
        raise SpecError(f"pipeline '{spec.name}' has no training")
    if table.num_rows < spec.training.minimum_rows:
        raise DataError(
            f"the training set has {table.num_rows} labelled rows, fewer than training.minimum_rows",
            allowed=f"at least {spec.training.minimum_rows}",
            next_step="Publish more partitions, or choose a longer training window",
        )
    missing = {*spec.features.entity, spec.features.event_time} - set(table.column_names)
    if missing:
        raise DataError(f"the training set lacks {', '.join(sorted(missing))}", allowed=table.column_names)
    task = spec.label.task
    grouped = spec.evaluation.group_columns if spec.evaluation else ()
    other = {*spec.features.entity, spec.features.event_time, spec.label.column, *map(GROUP.format, grouped)}
    made_from = MADE_FROM.format("")
    names = [name for name in table.column_names if name not in other and not name.startswith(made_from)]
    if not names:
        raise DataError("the training set has no feature columns", next_step="Add features to the FeatureService")
    rule = Holdout.of(spec)
    held, _ = rule.divide(table[spec.features.event_time])
    seen = table.filter(pa.array(~held))
    classes = classes_of(seen, spec.label.column) if task == "multiclass" else ()
    public = spec.classification(spec.label.column) == "public"
    label = labels(table, spec.label.column, task, classes, public=public)
    encoder = Encoder.learn(seen, names)
    rows = encoder.encode(table)
    rows = Matrix(rows.columns, rows.values, label)
    train = rows.take(~held)
    if half_life is not None:
        moments = seen[spec.features.event_time]
        train = replace(train, weight=weights(moments, spec.partitioning, last, half_life))
    if task == "binary" and train.label.min() == train.label.max():
        raise DataError(f"label '{spec.label.column}' has one class only in the training rows")
    shown = tuple(str(name) if public else f"class {n}" for n, name in enumerate(classes, start=1))
    return Prepared(task, spec.label.column, classes, encoder, rule, train, rows.take(held), half_life, shown)


def card_of(
    spec: PipelineSpec,
    identity: Identity,
    training_set: str,
    data: Prepared,
    learner: BaseModel,
    engine: Engine,
    trained: bytes,
    code: str | None = None,
    on_demand: Sequence[OnDemandView] = (),
) -> Card:
    """What model.json says of a training."""
    return Card(
        pipeline=spec.name,
        learner=learner.model_dump(mode="json"),
        code=code,
        on_demand=tuple(on_demand),
        task=data.task,
        label=data.label,
        classes=data.classes,
        encoder=data.encoder,
        entity=spec.features.entity,
        event_time=spec.features.event_time,
        feature_service=spec.features.service,
        partitions=identity.scope,
        holdout=data.rule,
        half_life=data.half_life,
        training_set=training_set,
        spec_digest=identity.spec_digest,
        seed=identity.seed,
        threads=identity.threads,
        weights=WeightsFile(file=engine.file, digest=digest(trained), media_type=engine.media_type),
    )


def log_training(run: Tracked, model: Model, data: Prepared, curve: list[Point]) -> None:
    """Store the model's files and signature in the run, and draw the plots that a person wants."""
    from millrace.evaluation import plots  # matplotlib: only where somebody will look

    card, held = model.card, data.holdout
    prediction = model.predictor(held)
    if data.task == "multiclass":
        name, picture = "confusion", plots.confusion(held.label, prediction, data.shown)
    else:
        fit = plots.calibration if data.task == "binary" else plots.residuals
        name, picture = fit.__name__, fit(held.label, prediction)
    features = importance(model.predictor, held, data.task, seed=card.seed)
    run.files(
        {card.weights.file: model.data, CARD: canonical_json(card), SIGNATURE: canonical_json(_signature(card))},
        "model",
    )
    run.files(
        {
            **({"learning_curve.png": plots.learning_curve(curve, data.task)} if curve else {}),
            f"{name}.png": picture,
            "importance.png": plots.importances(features, data.task),
        },
        "plots",
    )


def _signature(card: Card) -> dict[str, Any]:
    """What the model takes and gives: names and types, no values."""
    outputs = [{"name": "prediction", "type": "double", "task": card.task}]
    if card.task == "multiclass":
        outputs[0]["type"] = "string" if isinstance(card.classes[0], str) else "int64"
        outputs += [{"name": PROBABILITY.format(n), "type": "double"} for n in range(len(card.classes))]
    return {
        "inputs": [{"name": f.name, "type": f.type, "kind": f.kind} for f in card.encoder.features],
        "outputs": outputs,
    }
