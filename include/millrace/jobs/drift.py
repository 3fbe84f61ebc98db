"""drift: compare a window of features, predictions and known labels with the sketch of what the champion knows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Outcome
from millrace.core.canonical import canonical_json
from millrace.core.errors import DataError
from millrace.drift.blocks import sample
from millrace.drift.check import DriftResult, Given, check
from millrace.drift.report import page
from millrace.drift.sketch import PREDICTION, Sketch
from millrace.evaluation.outcomes import live, read_at, unscored
from millrace.jobs.work import Work
from millrace.models.files import load_reference, read_card
from millrace.models.metrics import block_keys
from millrace.models.on_demand import with_on_demand
from millrace.models.protocol import permit_code
from millrace.rules.labels import absent, known, utc
from millrace.store import layout
from millrace.store.snapshots import concat


class Params(BaseModel):
    """Up to when labels count as known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: datetime = Field(description="Aware. A label is known `label.known_after` after its event time.")


def run(work: Work, params: Params) -> Outcome:
    """Write the report and return its facts; where too little is known to judge, `drifted` is None.

    Raises DataError for a watched column that the window or the sketch lacks, or that has changed its kind.
    """
    monitoring, seed = work.spec.monitoring, work.request.identity.seed
    assert monitoring is not None
    model = work.request.input("model")
    stored = load_reference(work.objects, work.request.key(model), model.digest)
    table = pa.concat_tables([work.read(item) for item in work.request.inputs("current")])
    rows = table.num_rows
    if stored is None:
        work.notes.append("The champion was trained without a sketch of its reference: drift is not judged")
        return Outcome(facts={"rows": rows, "enough_rows": False, "columns": {}, "broken": {}, "drifted": None})
    spec = work.spec
    sketch = Sketch.model_validate_json(stored).shown(lambda column: spec.classification(column) == "public")
    result = check(
        sketch,
        _given(work, sketch, table, params.as_of),
        rate=monitoring.drift_false_alarm_rate,
        minimum_rows=min(monitoring.minimum_rows, monitoring.sample),  # no more rows than that are read
        seed=seed,
    )
    facts = _facts(result, sketch, rows, monitoring.drift_share)
    # The page carries random ids, so it is no part of the outcome; its place follows from the request.
    key = layout.document("reports", work.spec.name, work.request.request_digest, "drift.html")
    title = f"{work.spec.name}: {' '.join(work.request.identity.scope[-1:])} against the champion's reference"
    work.objects.put(key, page(result, title, seed).encode())
    work.links["report"] = work.objects.url(key)
    artifact = work.put("reports", "drift.json", canonical_json(facts), "report", "application/json")
    return Outcome(outputs={"result": artifact}, facts=facts)


def _given(work: Work, sketch: Sketch, table: pa.Table, as_of: datetime) -> list[Given]:
    """The watched columns of the window, the labels known by now, and the predictions if there are any."""
    spec = work.spec
    monitoring, label, training = spec.monitoring, spec.label, spec.training
    assert monitoring is not None and label is not None and training is not None
    seed, time, classes = work.request.identity.seed, spec.features.event_time, label.task == "multiclass"

    def keyed(table: pa.Table) -> Any:
        return block_keys(table[time], training.holdout.block, spec.partition.timezone)

    table = _made(work, sample(table, monitoring.sample, seed))
    columns = list(monitoring.columns) or sketch.names
    for column in columns:
        for side, names in (("sketch of the reference", sketch.names), ("window", table.column_names)):
            if column not in names:
                raise DataError(f"the {side} lacks a watched column", given=column, allowed=names)
    keys = keyed(table)
    given = [Given(column, table[column], keys) for column in columns]
    if label.column in table.column_names:
        due = known(table, time, label.known_after, as_of)
        labelled = table.filter(pc.and_not(due, absent(table[label.column])))
        if labelled.num_rows:
            values = labelled[label.column]
            # Classes are categories, integers too: that 9 lies far from 1 means nothing.
            given.append(Given(label.column, values.cast(pa.string()) if classes else values, keyed(labelled)))
    own = _predictions(work, work.request.input("model").digest)
    if own is not None and own.num_rows:
        own = sample(own, monitoring.sample, seed)
        values = own["prediction"]
        given.append(Given(PREDICTION, values.cast(pa.string()) if classes else pc.round(values, 6), keyed(own)))
    return given


def _made(work: Work, rows: pa.Table) -> pa.Table:
    """The rows with the champion's on-demand features. Raises ContractError where they may not be computed here."""
    item = work.request.input("model")
    views = read_card(work.objects, work.request.key(item), item.digest).on_demand
    if views:
        permit_code(work.request.means, "the functions of the model's on-demand features")
    return with_on_demand(rows, views)


def _predictions(work: Work, model: str) -> pa.Table | None:
    """Time and prediction of what the champion scored, and of what it answered beside; another model's, from before a
    promotion, say nothing about this one. None where nobody predicted."""
    time, entity = work.spec.features.event_time, list(work.spec.features.entity)
    found, scored = [], []
    for item in work.request.inputs("predictions"):
        rows = work.read(item, columns=[*entity, time, "prediction", "model_digest"])
        rows = rows.filter(pc.equal(rows["model_digest"], model))
        scored.append(rows.select([*entity, time]).set_column(len(entity), time, utc(rows[time], time)))
        found.append(rows.select([time, "prediction"]).set_column(0, time, utc(rows[time], time)))
    for item in work.request.inputs("served"):
        rows = live(work.read(item), model)
        rows = rows.append_column(time, read_at(rows)) if time not in rows.column_names else rows
        rows = unscored(rows, concat(scored) if scored else rows.select([*entity, time]).slice(0, 0), [*entity, time])
        found.append(rows.select([time, "prediction"]))
    return concat(found) if found else None


def _facts(result: DriftResult, sketch: Sketch, rows: int, least: float) -> dict[str, Any]:
    named: dict[str, str] = {c.role: c.name for part in sketch.parts for c in part.columns if c.role != "feature"}
    sides: dict[str, Any] = {role: result.column(name) for role, name in sorted(named.items()) if name in result.judged}
    return {
        "rows": rows,
        "reference_rows": sketch.rows,
        "enough_rows": result.enough,
        "columns": result.columns(),
        **sides,
        "broken": result.broken,
        "share": round(result.share, 6),
        "drifted": result.share >= least if result.enough else None,
        "causes": result.causes(),
    }
