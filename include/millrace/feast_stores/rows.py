"""Arrow rows to the rows that Feast's online stores take, column by column.

Feast's own conversion goes through pandas values: an int64 column with a null becomes floats and loses digits, and
only the first chunk of a chunked table is read. Here every column keeps its Arrow type.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import VALUE_TYPE_TO_PROTO_VALUE_MAP, python_values_to_proto_values
from feast.value_type import ValueType

from millrace.errors import DataError

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]

_ARROW = {
    ValueType.INT32: pa.int32(),
    ValueType.INT64: pa.int64(),
    ValueType.FLOAT: pa.float32(),
    ValueType.DOUBLE: pa.float64(),
    ValueType.STRING: pa.string(),
    ValueType.BYTES: pa.binary(),
    ValueType.BOOL: pa.bool_(),
    ValueType.UNIX_TIMESTAMP: pa.timestamp("s", "UTC"),
}


def latest(table: pa.Table, keys: list[str], event_time: str, created_time: str | None) -> pa.Table:
    """Return one row per entity: latest event time, then latest created time, then last in the table.

    Raises DataError for rows without a key or an event time.
    """
    for column in (*keys, event_time):
        if missing := table[column].null_count:
            raise DataError(f"{missing} of {table.num_rows} rows have no {column}", given=column)
    order = [(event_time, "ascending"), *([(created_time, "ascending")] if created_time else [])]
    # Nulls first: a row whose created time is not known is older than one whose time is.
    ordered = table.select([*keys, *(name for name, _ in order)]).append_column(
        "__row", pa.array(range(table.num_rows), pa.int64())
    )
    ordered = ordered.take(pc.sort_indices(ordered, sort_keys=order, null_placement="at_start"))
    last = ordered.group_by(keys, use_threads=False).aggregate([("__row", "last")])["__row_last"]
    return table.take(last)


def to_rows(table: pa.Table, view: FeatureView) -> list[Row]:
    """Convert to (entity key, features, event time, created time), one per row, in order.

    Field mapping of the view's source is applied. Raises DataError for a column that is missing or of a type that
    does not fit the view's.
    """
    source = view.batch_source
    renamed = table.rename_columns([source.field_mapping.get(name, name) for name in table.column_names])
    keys = [field.name for field in view.entity_columns]
    values = {f.name: _values(renamed, f.name, f.dtype.to_value_type(), view.name) for f in view.entity_columns}
    features = {f.name: _values(renamed, f.name, f.dtype.to_value_type(), view.name) for f in view.features}
    entities = [EntityKey(join_keys=keys, entity_values=row) for row in zip(*values.values(), strict=True)]
    names = list(features)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*features.values(), strict=True)]
    events = _moments(table, source.timestamp_field)
    created = source.created_timestamp_column
    known: list[datetime | None] = [*_moments(table, created)] if created else [None] * table.num_rows
    return list(zip(entities, rows, events, known, strict=True))


def _values(table: pa.Table, name: str, kind: ValueType, view: str) -> list[Value]:
    if name not in table.column_names:
        raise DataError(
            f"feature view '{view}' has a column that the data lack", given=name, allowed=table.column_names
        )
    column, target = table[name], _ARROW.get(kind)
    if target is None:
        return list(python_values_to_proto_values(column.to_pylist(), kind))
    try:
        if pa.types.is_timestamp(target) and pa.types.is_timestamp(column.type):
            column = column.cast(target, safe=False).cast(pa.int64())
        else:
            column = column.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
        raise DataError(
            f"column '{name}' cannot be served as feature view '{view}' declares it",
            given=str(column.type),
            allowed=str(target),
            next_step="Change the field's type in the feature view, or the column's in the SQL",
        ) from err
    return _protos(column.to_pylist(), VALUE_TYPE_TO_PROTO_VALUE_MAP[kind])


def _protos(values: list[Any], attribute: str) -> list[Value]:
    """One Value per value; equal values share one, which readers only copy. Null and NaN become the empty Value."""
    made: dict[Any, Value] = {None: Value()}
    found = []
    for value in values:
        proto = made.get(value)
        if proto is None:
            proto = made[value] = Value(**{attribute: value}) if value == value else made[None]
        found.append(proto)
    return found


def _moments(table: pa.Table, name: str) -> list[datetime]:
    if name not in table.column_names or not pa.types.is_timestamp(table[name].type):
        raise DataError("a feature view's time column must be a timestamp of the data", given=name)
    return list(table[name].cast(pa.timestamp("us"), safe=False).to_pylist())
