"""Materialise a Snapshot, and hold what is online against what is offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from feast import FeatureStore, FeatureView
from feast.utils import _convert_arrow_to_proto

from millrace.core.errors import DataError
from millrace.feast_stores.offline_stores import asof
from millrace.feast_stores.offline_stores.scan import Scan
from millrace.feast_stores.online_stores.rows import BATCH, RowStore
from millrace.sql.duck import Limits, connection

RELATIVE = 1e-9
"""Numbers agree when they differ by less, relative to the larger; float32 features by `RELATIVE_32`."""
RELATIVE_32 = 1e-6


@dataclass(frozen=True)
class Difference:
    """One value that the online store serves otherwise than the offline store; `column` None: the row is missing."""

    entity: tuple[Any, ...]
    column: str | None
    offline: Any
    online: Any


def latest_rows(view: FeatureView, data: pa.Table) -> pa.Table:
    """The latest row per entity of a view's source: event time, created time, then the whole row.

    Raises DataError for columns that the data lack, and for rows without a key or an event time.
    """
    source = view.batch_source
    keys, event, created = _keys(view, data), source.timestamp_field, source.created_timestamp_column or None
    for column in (*keys, event):
        if missing := data[column].null_count:
            raise DataError(f"{missing} of {data.num_rows} rows have no {column}", given=column)
    with connection(Limits(threads=1)) as opened:
        opened.register("data", data)
        types = {row[0]: row[1] for row in opened.execute("DESCRIBE data").fetchall()}
        query = asof.latest(opened, Scan("data", types, view.name), keys, event, created, data.column_names, "true")
        return opened.sql(query).to_arrow_table().select(data.column_names).cast(data.schema).combine_chunks()


def write(store: FeatureStore, view: FeatureView, rows: pa.Table, revision: int) -> None:
    """Write rows to the online store; a store of Feast's own gets them as Feast converts them."""
    online = store.provider.online_store
    if isinstance(online, RowStore):
        online.write_table(store.config, view, rows, revision)
        return
    join_keys = {column.name: column.dtype.to_value_type() for column in view.entity_columns}
    mapping = view.batch_source.field_mapping
    renamed = rows.rename_columns([mapping.get(name, name) for name in rows.column_names])
    for start in range(0, renamed.num_rows, BATCH):
        batch = renamed.slice(start, BATCH).combine_chunks()
        store.provider.online_write_batch(
            store.config, view, _convert_arrow_to_proto(batch, view, join_keys), progress=None
        )


def sample(rows: pa.Table, most: int, seed: int) -> pa.Table:
    """At most `most` rows, the same ones for the same rows and seed."""
    if rows.num_rows <= most:
        return rows
    chosen = np.random.default_rng(seed).choice(rows.num_rows, most, replace=False)
    return rows.take(pa.array(np.sort(chosen)))


def differences(store: FeatureStore, view: FeatureView, rows: pa.Table) -> tuple[list[Difference], int]:
    """Read entities of a Snapshot online and offline through Feast, and compare; also how many have moved on.

    `rows` are the sampled latest rows of the Snapshot, which the store's offline reads are pinned to. An entity whose
    online row is newer is another partition's to check.
    """
    keys = {column.name: source for column, source in zip(view.entity_columns, _keys(view, rows), strict=False)}
    entities = [dict(zip(keys, values, strict=True)) for values in zip(*(rows[c].to_pylist() for c in keys.values()),
                                                                       strict=True)]  # fmt: skip
    refs = [f"{view.name}:{feature.name}" for feature in view.features]
    answer = store.get_online_features(features=refs, entity_rows=entities).proto
    names = list(answer.metadata.feature_names.val)
    served = {name: answer.results[names.index(name)] for name in (feature.name for feature in view.features)}
    first = next(iter(served.values()))
    times = [stamp.ToDatetime(UTC) for stamp in first.event_timestamps]
    moments = [_aware(value) for value in rows[view.batch_source.timestamp_field].to_pylist()]
    found: list[Difference] = []
    same = []
    moved = 0
    for index, moment in enumerate(moments):
        if times[index] > moment:
            moved += 1
        elif times[index] < moment:
            found.append(Difference(tuple(entities[index].values()), None, moment, times[index]))
        else:
            same.append(index)
    joined = offline(store, refs, [entities[index] for index in same], [moments[index] for index in same])
    for name, results in served.items():
        kind = str(next(f.dtype for f in view.features if f.name == name))
        for index, expected in zip(same, joined[name], strict=True):
            got = _plain(results.values[index])
            if not agree(expected, got, kind):
                found.append(Difference(tuple(entities[index].values()), name, expected, got))
    return found, moved


def offline(
    store: FeatureStore,
    refs: Sequence[str],
    entities: Sequence[dict[str, Any]],
    moments: Sequence[datetime],
    *,
    known: bool = False,
) -> dict[str, list[Any]]:
    """Feature -> its values offline, of each entity at its moment; `known`: a value counts from its created time on."""
    import pandas as pd

    names = [ref.partition(":")[2] for ref in refs]
    if not entities:
        return {name: [] for name in names}
    frame = pd.DataFrame(list(entities)).assign(event_timestamp=pd.to_datetime(list(moments), utc=True))
    asked: dict[str, Any] = {"filter_by_created_timestamp": True} if known else {}
    table = store.get_historical_features(entity_df=frame, features=list(refs), **asked).to_arrow()
    return {name: table[name].to_pylist() for name in names}


def _plain(value: Any) -> Any:
    from feast.type_map import feast_value_type_to_python_type

    return feast_value_type_to_python_type(value)


def agree(offline: Any, online: Any, kind: str) -> bool:
    """Whether two values of a feature of this Feast type are one, but for what numbers lose on the way."""
    if offline is None or offline != offline:
        return online is None
    if online is None:
        return False
    if isinstance(offline, float):
        limit = RELATIVE_32 if kind == "Float32" else RELATIVE
        return abs(offline - online) <= limit * max(abs(offline), abs(online))
    if isinstance(offline, datetime):  # served in whole seconds
        return int(_aware(offline).timestamp()) == int(_aware(online).timestamp())
    return bool(offline == online)


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _keys(view: FeatureView, data: pa.Table) -> list[str]:
    """Columns of the data that hold the view's join keys. Raises DataError for columns the Snapshot lacks."""
    source = view.batch_source
    inverse = {new: old for old, new in source.field_mapping.items()}
    keys = [inverse.get(column.name, column.name) for column in view.entity_columns]
    times = [source.timestamp_field, *filter(None, [source.created_timestamp_column])]
    needed = [*keys, *(inverse.get(f.name, f.name) for f in view.features), *times]
    if lacking := [name for name in needed if name not in data.column_names]:
        raise DataError(
            f"feature view '{view.name}' needs columns that transform.sql did not make",
            given=", ".join(lacking),
            allowed=data.column_names,
            next_step="Make them in transform.sql, or take them out of the feature view",
        )
    return keys
