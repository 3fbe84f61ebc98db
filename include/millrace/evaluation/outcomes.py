"""Served predictions and their outcomes: which label came later for what was answered, by request or by entity.

An outcome is the label of a features row. It is a served row's where the features have its request's id; otherwise
where they have its entity and the event time of what was read for it. Whoever joins again sees what came late, and
what was corrected, as the features have it then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.evaluation.served import UTC_TIME
from millrace.models import metrics
from millrace.models.classes import Classes, probabilities_of
from millrace.models.encoding import labels
from millrace.rules.labels import absent, known, utc
from millrace.rules.paired import Loss
from millrace.spec import PipelineSpec
from millrace.spec.serving import TIME
from millrace.store.snapshots import concat

LIVE = ("champion", "challenger")
"""Roles whose answers callers were given as a version's own."""
REQUEST, ROW = "request_id", "row"
"""Columns by which features may name what was asked; without the second, requests of one row are meant."""
_PLACE = "__place"


def joined(spec: PipelineSpec, served: pa.Table, features: Sequence[pa.Table]) -> pa.Table:
    """Served rows that have a features row, with that row's entity, event time (UTC) and label; in the order of served.

    Features hold the entity, the event time and the label, and may hold the request's id. Of several features rows for
    one served row the latest counts. Raises DataError for event times that are none.
    """
    assert spec.label is not None
    entity, time, label = list(spec.features.entity), spec.features.event_time, spec.label.column
    known_rows = _distinct([_labelled(part, [*entity, time, label], time) for part in features], [*entity, time])
    places = pa.array(range(served.num_rows), pa.int64())
    found = _by_entity(served, places, known_rows, entity, time)
    by_request = _by_request(served, places, known_rows)
    if by_request.num_rows:
        taken = by_request[_PLACE].combine_chunks()
        found = found.filter(pc.invert(pc.is_in(found[_PLACE], value_set=taken)))
    hits = concat([each.select([_PLACE, *entity, time, label]) for each in (found, by_request)])
    hits = hits.sort_by([(_PLACE, "ascending"), (time, "descending")])
    hits = hits.filter(_first(hits[_PLACE].to_pylist()))
    rest = served.drop_columns([name for name in (*entity, time, label) if name in served.column_names])
    answered = rest.take(hits[_PLACE])
    for name in (*entity, time, label):
        answered = answered.append_column(name, hits[name])
    return answered.combine_chunks()


def losses(
    spec: PipelineSpec, rows: pa.Table, classes: Mapping[str, Classes], as_of: Any = None, roles: Sequence[str] = ()
) -> list[Loss]:
    """The loss of each joined row with a usable prediction and a label, known by `as_of` where that is given.

    `classes` are those of multiclass models by digest; `roles` are all where none is named.
    """
    label, training = spec.label, spec.training
    assert label is not None and training is not None
    if roles:
        rows = rows.filter(pc.is_in(rows["role"], value_set=pa.array(roles)))
    rows = rows.filter(pc.invert(absent(rows[label.column])))
    if as_of is not None:
        rows = rows.filter(known(rows, spec.features.event_time, label.known_after, as_of))
    found: list[Loss] = []
    for model in sorted(each for each in rows["model_digest"].unique().to_pylist() if each is not None):
        mine = rows.filter(pc.equal(rows["model_digest"], model))
        order = classes.get(model, ())
        guess: Any = mine["prediction"].to_numpy()
        if label.task == "multiclass":
            mine = mine.filter(pc.is_valid(mine["prediction"]))
            if not mine.num_rows:
                continue
            guess = probabilities_of(mine, order)
        good = metrics.usable(guess)
        mine, guess = mine.filter(pa.array(good)), guess[good]
        if not mine.num_rows:
            continue
        each = metrics.row_losses(label.task, labels(mine, label.column, label.task, order), guess)
        blocks = metrics.block_keys(mine[spec.features.event_time], training.holdout.block, spec.partition.timezone)
        names = zip(mine["request_id"].to_pylist(), mine["row"].to_pylist(), strict=True)
        found += [
            Loss(request=name, version=version, block=str(block), value=float(value), unit=unit)
            for name, version, block, value, unit in zip(
                names, mine["version"].to_pylist(), blocks, each, mine["unit"].to_pylist(), strict=True
            )
        ]
    return found


def live(served: pa.Table, model: str) -> pa.Table:
    """The rows that callers were given as this model's own answers."""
    mine = pc.and_(pc.equal(served["model_digest"], model), pc.is_in(served["role"], value_set=pa.array(LIVE)))
    return served.filter(pc.and_(mine.fill_null(False), pc.is_valid(served["prediction"])))


def read_at(served: pa.Table) -> pa.ChunkedArray:
    """The latest event time of what was read for each row; when it was asked where nothing was read."""
    times = [served[name] for name in served.column_names if name.startswith(TIME.format(""))]
    latest = pc.max_element_wise(*(each.cast(pa.int64()) for each in times)) if times else pa.nulls(served.num_rows)
    return pc.coalesce(latest.cast(pa.int64()).cast(UTC_TIME), served["asked"])


def unscored(served: pa.Table, scored: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The first served row of each entity and event time that was not scored: what was scored is not counted again. A
    row without an entity is nobody else's."""
    seen = set(zip(*(scored[key].to_pylist() for key in keys), strict=True)) if scored.num_rows else set()
    rows = served.sort_by([("asked", "ascending"), ("request_id", "ascending"), ("row", "ascending")])
    kept = []
    for key in zip(*(rows[name].to_pylist() for name in keys), strict=True):
        kept.append(key not in seen)
        if None not in key:
            seen.add(key)
    return rows.filter(pa.array(kept, pa.bool_()))


def _labelled(part: pa.Table, columns: list[str], time: str) -> pa.Table:
    """The columns of a join, event times in UTC, and the request's where the features have it."""
    asked = [name for name in (REQUEST, ROW) if name in part.column_names and REQUEST in part.column_names]
    part = part.select(list(dict.fromkeys([*columns, *asked])))
    return part.set_column(part.column_names.index(time), time, utc(part[time], time))


def _distinct(parts: list[pa.Table], keys: list[str]) -> pa.Table:
    """Rows of all parts, of those alike in entity, event time and request the first."""
    rows = concat(parts).combine_chunks()
    names = [*keys, *(name for name in (REQUEST, ROW) if name in rows.column_names)]
    return rows.filter(_first(list(zip(*(rows[name].to_pylist() for name in names), strict=True))))


def _first(keys: list[Any]) -> pa.Array:
    seen: set[Any] = set()
    return pa.array([not (key in seen or seen.add(key)) for key in keys], pa.bool_())  # type: ignore[func-returns-value]


def _by_entity(served: pa.Table, places: pa.Array, features: pa.Table, entity: list[str], time: str) -> pa.Table:
    """Hits by entity and by the event time of what was read, of any feature view."""
    found = []
    features = features.filter(_first(list(zip(*(features[n].to_pylist() for n in (*entity, time)), strict=True))))
    for column in [name for name in served.column_names if name.startswith(TIME.format(""))]:
        asked = pa.table({**{key: _as(served[key], features.schema.field(key).type) for key in entity},
                          time: served[column].cast(UTC_TIME), _PLACE: places}).drop_null()  # fmt: skip
        if asked.num_rows:
            found.append(asked.join(features, keys=[*entity, time], join_type="inner"))
    return concat(found) if found else features.slice(0, 0).append_column(_PLACE, pa.array([], pa.int64()))


def _by_request(served: pa.Table, places: pa.Array, features: pa.Table) -> pa.Table:
    """Hits by the request's id, and the row's number where features have that."""
    none = features.slice(0, 0).append_column(_PLACE, pa.array([], pa.int64()))
    if REQUEST not in features.column_names or not served.num_rows:
        return none
    named = features.filter(pc.is_valid(features[REQUEST]))
    asked = pa.table({REQUEST: served[REQUEST], ROW: served[ROW], _PLACE: places})
    named = named.set_column(named.column_names.index(REQUEST), REQUEST, named[REQUEST].cast(pa.string()))
    if ROW in named.column_names:
        named = named.set_column(named.column_names.index(ROW), ROW, named[ROW].cast(pa.int64()))
        return asked.join(named, keys=[REQUEST, ROW], join_type="inner")
    several = served.filter(pc.greater(served[ROW], 0))[REQUEST].unique()
    asked = asked.filter(pc.invert(pc.is_in(asked[REQUEST], value_set=several.combine_chunks()
                                            if isinstance(several, pa.ChunkedArray) else several)))  # fmt: skip
    return asked.drop_columns([ROW]).join(named, keys=[REQUEST], join_type="inner")


def _as(values: pa.ChunkedArray, kind: pa.DataType) -> Any:
    """Keys in the type of the features; none of them where they are of another kind."""
    if values.type == kind:
        return values
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(len(values), kind)
