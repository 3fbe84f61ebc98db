"""probe: what a retraining would win now, by models that are fitted across the newest partition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Input, Outcome
from millrace.core.errors import DataError
from millrace.jobs.work import Work
from millrace.learners.probes import Form, Given, Prober
from millrace.models.files import Model
from millrace.models.metrics import block_keys, rounded
from millrace.models.on_demand import with_on_demand
from millrace.online.on_demand import OnDemandView, made_from
from millrace.rules.blocks import MINIMUM_BLOCKS
from millrace.rules.gain import gain, surely_better
from millrace.rules.labels import absent, known

if TYPE_CHECKING:
    import pyarrow as pa


class Params(BaseModel):
    """Up to when outcomes count as known, and the form of the probe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: datetime = Field(description="Aware. A label is known `label.known_after` after its event time.")
    form: Form = Field(description="`monitoring.retrain.probe`.")


def run(work: Work, params: Params) -> Outcome:
    """Probe the last partition in scope with the champion `model`, its `training_set` and `evaluation`, and `features`
    of each partition in scope: those since the champion's training, the newest one last.

    Fact `gain` is null where it cannot be said, and `why` says why: a probe never stands in the way of a decision.
    """
    facts: dict[str, Any] = {"gain": None, "why": None, "form": params.form}
    try:
        return Outcome(facts={**facts, **_probe(work, params)})
    except DataError as err:
        return Outcome(facts={**facts, "why": str(err)})


def _probe(work: Work, params: Params) -> dict[str, Any]:
    spec, scope = work.spec, work.request.identity.scope
    assert spec.monitoring is not None
    champion = work.model("model")
    card = champion.card
    document = json.loads(work.get(work.request.input("evaluation")))
    given = _given(work, champion, params.as_of)
    if given.newest.num_rows < spec.monitoring.minimum_rows:
        return {"why": f"{given.newest.num_rows} labelled rows in {scope[-1]}, fewer than monitoring.minimum_rows"}
    blocks = len(np.unique(block_keys(given.newest[card.event_time], card.holdout.block, card.holdout.timezone)))
    if blocks < MINIMUM_BLOCKS:
        return {"why": f"{blocks} blocks in {scope[-1]} are too few to judge by"}
    prober = Prober(champion, spec.partitioning, params.form, work.request.identity.threads)
    found = prober.probe(given)
    held = np.array(list(document["blocks"].values()), dtype=np.float64).reshape(-1, 2).sum(axis=0)
    unit = float(held[0] / held[1]) if held[1] else 0.0
    recent = surely_better(found.recent, found.alike)
    alike, chosen = (gain(found.champion, probe, unit, recent=recent) for probe in
                     (found.alike, found.recent if recent else found.alike))  # fmt: skip
    if alike is None or chosen is None:
        return {"why": "the champion held out no loss to measure by"}
    return {
        "gain": {"mean": rounded(chosen.mean), "error": rounded(chosen.error), "freedom": rounded(chosen.freedom),
                 "recent": recent},
        "alike": rounded(alike.mean),
        "blocks": blocks,
        "rows": found.rows,
    }  # fmt: skip


def _given(work: Work, champion: Model, as_of: datetime) -> Given:
    """The rows; without those held out, and of the history those that a retraining's window has."""
    import pyarrow as pa

    spec, card, scope = work.spec, champion.card, work.request.identity.scope
    assert spec.training is not None
    names = [*card.entity, card.event_time, *(f.name for f in card.encoder.features), card.label]
    whole = _read(work, work.request.input("training_set"), names)
    trained = whole.filter(pa.array(~card.holdout.mask(whole[card.event_time])[0]))
    begin = pa.scalar(spec.partitioning.start(spec.partitioning.window(scope[-1], spec.training.window)[0]))
    since = [
        _labelled(work, item, names, card.label, as_of, card.on_demand) for item in work.request.inputs("features")
    ]
    parts = [_from(trained, card.event_time, begin)]
    for rows in since[:-1]:
        parts.append(rows.filter(pa.array(~card.holdout.mask(rows[card.event_time])[0])) if rows.num_rows else rows)
    return Given(trained, pa.concat_tables(parts, promote_options="permissive"), since[-1], scope[-1])


def _labelled(
    work: Work, item: Input, names: list[str], label: str, as_of: datetime, on_demand: Sequence[OnDemandView]
) -> pa.Table:
    import pyarrow.compute as pc

    spec, made = work.spec, {each.name for view in on_demand for each in view.features}
    needed = [*(n for n in names if n not in made), *(each.name for each in made_from(on_demand))]
    rows = with_on_demand(_read(work, item, list(dict.fromkeys(needed))), on_demand).select(names)
    assert spec.label is not None
    due = known(rows, spec.features.event_time, spec.label.known_after, as_of)
    return rows.filter(pc.and_not(due, absent(rows[label])))


def _read(work: Work, item: Input, names: list[str]) -> pa.Table:
    """Columns of an input. Raises DataError where it lacks one."""
    import pyarrow.parquet as pq

    there = pq.read_schema(work.path(item)).names
    if missing := sorted(set(names) - set(there)):
        raise DataError(f"the {item.role} of {item.partition} lack the column '{missing[0]}'", allowed=there)
    return work.read(item, names)


def _from(rows: pa.Table, event_time: str, begin: Any) -> pa.Table:
    import pyarrow.compute as pc

    column = rows[event_time]
    return rows.filter(pc.greater_equal(column, begin.cast(column.type)))
