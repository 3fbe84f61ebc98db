"""performance: the champion's loss on labels known by now, against its own holdout loss."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Metric, Outcome
from millrace.errors import DataError
from millrace.jobs.work import Work
from millrace.learners import losses
from millrace.learners.classes import Classes, probabilities_of
from millrace.learners.encoding import labels
from millrace.rules.degradation import degradation
from millrace.spec.training import LabelSpec

REACHES: tuple[str, ...] = ()
REUSABLE = True


class Params(BaseModel):
    """Up to when outcomes count as known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: datetime = Field(description="Aware. A label is known `label.known_after` after its event time.")


def run(work: Work, params: Params) -> Outcome:
    """Join predictions with labels by entity and event time, and judge the loss by blocks of time.

    Rows from the model's training window, and those that another model scored, are left out; labels that are null or
    not yet known are counted, not used.
    """
    spec = work.spec
    label, training, monitoring = spec.label, spec.training, spec.monitoring
    assert label is not None and training is not None and monitoring is not None
    joined = [_joined(work, item) for item in work.request.inputs("predictions")]
    rows = pa.concat_tables(joined, promote_options="default")  # models may differ in their number of classes
    total = rows.num_rows
    document = json.loads(work.get(work.request.input("evaluation")))
    # Another model's predictions, from before a promotion, say nothing about this one.
    own = pc.equal(rows["model_digest"], document["model"])
    fresh = rows.filter(pc.and_(own, pc.invert(rows["in_training_window"])))
    moment = fresh[spec.features.event_time]
    # Calendar durations are added to the limit, not to every row: subtracting from one moment is exact.
    limit = pa.scalar(label.known_after.before(params.as_of), moment.type)
    known = fresh.filter(pc.and_(pc.less_equal(moment, limit), fresh[label.column].is_valid()))
    facts: dict[str, Any] = {"rows": total, "left_out": total - fresh.num_rows, "labelled": known.num_rows,
                             "degraded": None}  # fmt: skip
    if known.num_rows < monitoring.minimum_rows:
        return Outcome(facts=facts)
    truth, guess = _truth_and_guess(known, label, tuple(document.get("classes", ())))
    keys = losses.block_keys(known[spec.features.event_time], training.holdout.block, spec.partition.timezone)
    each = losses.row_losses(label.task, truth, guess)
    window = losses.block_sums(keys, each)
    found = degradation(window, document["blocks"], monitoring.false_alarm_rate)
    intervals = losses.block_bootstrap(label.task, truth, guess, keys, seed=work.request.identity.seed)
    metrics = {
        name: Metric(value=_short(value), low=_short(intervals.get(name, (None, None))[0]),
                     high=_short(intervals.get(name, (None, None))[1]), rows=known.num_rows)
        for name, value in losses.metrics(label.task, truth, guess).items()
    }  # fmt: skip
    facts |= {
        "mean_loss": _short(found.mean), "reference_loss": _short(found.reference), "excess": _short(found.excess),
        "bound": _short(found.bound), "degraded": found.degraded,
        "blocks": {k: [_short(s), int(n)] for k, (s, n) in window.items()},
    }  # fmt: skip
    return Outcome(metrics=metrics, facts=facts)


def _short(value: float | None) -> Any:
    return None if value is None else losses.rounded(value)


def _truth_and_guess(known: pa.Table, label: LabelSpec, classes: Classes) -> tuple[losses.Floats, losses.Floats]:
    if label.task == "multiclass":
        return labels(known, label.column, label.task, classes), probabilities_of(known, classes)
    return known[label.column].cast(pa.float64()).to_numpy(), known["prediction"].to_numpy()


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
