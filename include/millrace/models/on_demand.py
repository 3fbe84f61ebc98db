"""On-demand features of many rows: the functions that a model brings, called for each row as a server calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from millrace.core.errors import DataError
from millrace.online.on_demand import MADE_FROM, OnDemandView, Typed, computed, made_from

if TYPE_CHECKING:
    import pyarrow as pa

_ARROW = {"INT32": "int32", "INT64": "int64", "FLOAT": "float", "DOUBLE": "double", "STRING": "string", "BOOL": "bool"}


def with_on_demand(rows: pa.Table, views: Sequence[OnDemandView]) -> pa.Table:
    """The rows, in their order, with the on-demand features of views computed anew; as they are where there is none.

    What a feature is made from is a column of its name, or `made_from.NAME` of a training set. Raises DataError for a
    column that is missing or of another type, CodeError as the functions do. Whoever calls has asked `permit_code`.
    """
    import pyarrow as pa

    if not views:
        return rows
    given = pa.table({each.name: _column(rows, each) for each in made_from(views)})
    columns = {name: column.to_pylist() for name, column in zip(given.column_names, given.columns, strict=True)}
    made: dict[str, list[Any]] = {each.name: [] for view in views for each in view.features}
    for values in zip(*columns.values(), strict=True) if columns else [()] * rows.num_rows:
        for name, value in computed(views, dict(zip(columns, values, strict=True))).items():
            made[name].append(value)
    types = {each.name: pa.type_for_alias(_ARROW[each.type]) for view in views for each in view.features}
    for name, kind in types.items():
        column = pa.chunked_array([pa.array(made[name], kind)])
        place = rows.schema.get_field_index(name)
        rows = rows.append_column(name, column) if place < 0 else rows.set_column(place, name, column)
    return rows


def _column(rows: pa.Table, each: Typed) -> Any:
    import pyarrow as pa

    name = MADE_FROM.format(each.name) if MADE_FROM.format(each.name) in rows.column_names else each.name
    if name not in rows.column_names:
        raise DataError("on-demand features need a column that is not there", given=each.name,
                        allowed=rows.column_names,
                        next_step="Make it in transform.sql: what a request carries is a column in the batch",
                        )  # fmt: skip
    column = rows[name]
    try:  # as the online store casts them
        return column.cast(pa.type_for_alias(_ARROW[each.type]), safe=each.type not in ("FLOAT", "DOUBLE"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError("a column that on-demand features are made from is of another type", where=each.name,
                        given=str(column.type), allowed=each.type) from None  # fmt: skip
