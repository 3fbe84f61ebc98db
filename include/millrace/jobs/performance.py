"""performance: the champion's loss on labels known by now, against its own holdout loss."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Metric, Outcome
from millrace.core.errors import DataError
from millrace.evaluation.outcomes import REQUEST, ROW, live, unscored
from millrace.evaluation.outcomes import joined as joined_outcomes
from millrace.jobs.work import Work
from millrace.models import metrics
from millrace.models.classes import Classes, probabilities_of
from millrace.models.encoding import labels
from millrace.models.files import read_card
from millrace.rules.degradation import degradation
from millrace.rules.labels import Task, absent, known, utc
from millrace.spec import PipelineSpec
from millrace.store import layout
from millrace.store.snapshots import concat


class Params(BaseModel):
    """Up to when outcomes count as known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: datetime = Field(description="Aware. A label is known `label.known_after` after its event time.")


def run(work: Work, params: Params) -> Outcome:
    """Join predictions with labels by entity and event time, and judge the loss by blocks of time.

    What the model served (`served`) is joined by request too, and judged beside what it scored, where the entity and
    event time was not scored. Rows from the model's training window, and those that another model scored, are left out;
    labels that are null or not yet known are counted, not used. Raises DataError for labels that the task cannot have.
    """
    spec = work.spec
    label, training, monitoring = spec.label, spec.training, spec.monitoring
    assert label is not None and training is not None and monitoring is not None
    document = json.loads(work.get(work.request.input("evaluation")))
    joined = [_joined(work, item) for item in work.request.inputs("predictions")]
    answered = answered_by(work, document["model"]) if work.request.inputs("served") else None
    total = sum(rows.num_rows for rows in joined) + (answered.num_rows if answered is not None else 0)
    # Another model's predictions, from before a promotion, say nothing about this one, and may be of another type.
    own = [rows.filter(pc.equal(rows["model_digest"], document["model"])) for rows in joined]
    own = [rows for rows in own if rows.num_rows] or own[:1]
    if answered is not None:
        own = [*own, _beside(own, answered, spec)]
    mine = concat([rows for rows in own if rows.num_rows] or own[:1])
    fresh = mine.filter(pc.invert(mine["in_training_window"]))
    due = known(fresh, spec.features.event_time, label.known_after, params.as_of)
    judged = fresh.filter(pc.and_not(due, absent(fresh[label.column])))
    facts: dict[str, Any] = {"rows": total, "left_out": total - fresh.num_rows, "labelled": judged.num_rows,
                             "degraded": None}  # fmt: skip
    if answered is not None:
        facts["served"] = own[-1].num_rows
    if judged.num_rows < monitoring.minimum_rows:
        return Outcome(facts=facts)
    classes, public = tuple(document.get("classes", ())), spec.classification(label.column) == "public"
    truth = labels(judged, label.column, label.task, classes, public=public)
    guess = _predicted(judged, label.task, classes)
    keys = metrics.block_keys(judged[spec.features.event_time], training.holdout.block, spec.partition.timezone)
    each = metrics.row_losses(label.task, truth, guess)
    window = metrics.block_sums(keys, each)
    found = degradation(window, document["blocks"], monitoring.false_alarm_rate)
    intervals = metrics.block_bootstrap(label.task, truth, guess, keys, seed=work.request.identity.seed)
    measured = {
        name: Metric(value=_short(value), low=_short(intervals.get(name, (None, None))[0]),
                     high=_short(intervals.get(name, (None, None))[1]), rows=judged.num_rows)
        for name, value in metrics.metrics(label.task, truth, guess).items()
    }  # fmt: skip
    facts |= {
        "mean_loss": _short(found.mean), "reference_loss": _short(found.reference), "excess": _short(found.excess),
        "bound": _short(found.bound), "degraded": found.degraded,
        "blocks": {k: [_short(s), int(n)] for k, (s, n) in window.items()},
    }  # fmt: skip
    return Outcome(metrics=measured, facts=facts)


def answered_by(work: Work, model: str) -> pa.Table:
    """What a model answered as a version of its own, with outcomes, and whether it was trained on their partition."""
    spec = work.spec
    assert spec.label is not None
    served = concat([live(work.read(item), model) for item in work.request.inputs("served")])
    wanted = [*spec.features.entity, spec.features.event_time, spec.label.column, REQUEST, ROW]
    features = []
    for item in work.request.inputs("features"):
        held = pq.read_schema(work.path(item)).names
        features.append(work.read(item, columns=[name for name in wanted if name in held]))
    rows = joined_outcomes(spec, served, features)
    trained = set(read_card(work.objects, layout.model(spec.name, model), model).partitions)
    keys = [spec.partitioning.key_of(moment) for moment in rows[spec.features.event_time].to_pylist()]
    return rows.append_column("in_training_window", pa.array([key in trained for key in keys], pa.bool_()))


def _beside(scored: list[pa.Table], answered: pa.Table, spec: PipelineSpec) -> pa.Table:
    """What was answered and not scored, in the columns of what was scored."""
    assert spec.label is not None
    keys = [*spec.features.entity, spec.features.event_time]
    known_keys = concat([rows.select(keys) for rows in scored]) if scored else answered.select(keys).slice(0, 0)
    known_keys = known_keys.set_column(len(keys) - 1, keys[-1], utc(known_keys[keys[-1]], keys[-1]))
    rows = unscored(answered, known_keys, keys)
    shares = [name for name in rows.column_names if name.startswith("probability_")]
    rows = rows.select([*keys, "prediction", *shares, "model_digest", "in_training_window", spec.label.column])
    if scored:
        kind = scored[0].schema.field(keys[-1]).type
        rows = rows.set_column(len(keys) - 1, keys[-1], rows[keys[-1]].cast(kind, safe=False))
    return rows


def _short(value: float | None) -> Any:
    return None if value is None else metrics.rounded(value)


def _predicted(rows: pa.Table, task: Task, classes: Classes) -> metrics.Floats:
    """Predictions as losses want them. Raises DataError for those that are no numbers, which score refuses."""
    found = probabilities_of(rows, classes) if task == "multiclass" else rows["prediction"].to_numpy()
    if wrong := int((~metrics.usable(found)).sum()):
        raise DataError(
            f"{wrong} of {rows.num_rows} predictions are no numbers (null, NaN, infinite, or beyond float32)",
            next_step="Score their partitions again",
        )
    return np.asarray(found, dtype=np.float64)


def _joined(work: Work, item: Any) -> pa.Table:
    """Predictions of one partition with their labels, row by row."""
    spec = work.spec
    assert spec.label is not None
    matching = [i for i in work.request.inputs("features") if i.partition == item.partition]
    if len(matching) != 1:
        raise DataError(f"predictions of {item.partition} have no features Snapshot beside them")
    keys = [*spec.features.entity, spec.features.event_time]
    predictions = work.read(item)
    labels = work.read(matching[0], columns=[*keys, spec.label.column])
    joined = predictions.join(labels, keys=keys, join_type="inner").combine_chunks()
    if joined.num_rows < predictions.num_rows:
        work.notes.append(f"{predictions.num_rows - joined.num_rows} scored rows of {item.partition} are gone from the "
                          "features: a corrected delivery replaced them")  # fmt: skip
    order = np.lexsort([joined[k].cast(pa.string()).to_numpy(zero_copy_only=False) for k in reversed(keys)])
    return joined.take(pa.array(order))
