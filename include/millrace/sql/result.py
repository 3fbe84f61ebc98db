"""What a pipeline's SELECT made, as a features Snapshot holds it: types that all readers know, and null for nothing."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from millrace.core.errors import DataError, SpecError
from millrace.spec import PipelineSpec
from millrace.sql.select import FILE

TYPES = ["BOOLEAN", "BIGINT", "DOUBLE", "VARCHAR", "DATE", "TIMESTAMPTZ"]


def plain(made: pa.Table, spec: PipelineSpec) -> pa.Table:
    """The table with plain types and finite numbers: NaN, which SQL makes of nothing in some places, is null.

    Raises SpecError for a type that features cannot have, a time without its zone among them; DataError for infinities,
    and for numbers that a learner, which counts in float32, would take for infinite.
    """
    features = spec.features
    given = {*features.entity, features.event_time, features.created_time, spec.label.column if spec.label else None}
    columns = {}
    for name in made.column_names:
        column = _typed(name, made[name], spec.partition.timezone)
        if pa.types.is_floating(column.type):
            column = _finite(name, column, learned=name not in given)
        columns[name] = column
    return pa.table(columns)


def _typed(name: str, values: pa.ChunkedArray, zone: str) -> pa.ChunkedArray:
    """Types that every reader of the stack knows: no HUGEINT, no decimals, times in UTC microseconds."""
    kind, is_ = values.type, pa.types
    if is_.is_decimal(kind):
        wanted = pa.int64() if kind.scale == 0 else pa.float64()
    elif is_.is_timestamp(kind) and kind.tz is None:
        raise SpecError(
            f"column '{name}' is a time without a zone, so nobody can tell which moment it is", where=FILE,
            given="TIMESTAMP", allowed="TIMESTAMPTZ", next_step=f"Say whose clock it is: {name} AT TIME ZONE '{zone}'",
        )  # fmt: skip
    elif is_.is_timestamp(kind):
        wanted = pa.timestamp("us", "UTC")
    elif is_.is_dictionary(kind) or is_.is_large_string(kind) or is_.is_string(kind):
        wanted = pa.string()
    elif is_.is_boolean(kind) or is_.is_integer(kind) or is_.is_floating(kind) or is_.is_date(kind):
        wanted = kind
    else:
        raise SpecError(
            f"column '{name}' is of a type that features cannot have", where=FILE, given=str(kind), allowed=TYPES,
            next_step="Cast it in the SQL",
        )  # fmt: skip
    try:
        return values.cast(wanted, safe=not is_.is_timestamp(kind))  # nanoseconds are cut, anything else must fit
    except pa.ArrowInvalid:
        pass
    raise DataError(f"a number of column '{name}' is too large for 64 bits", where=FILE)


def _finite(name: str, values: pa.ChunkedArray, *, learned: bool) -> pa.ChunkedArray:
    """The numbers, null where there is none. Raises DataError for infinite ones, and where they are learned from also
    for those beyond float32."""
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    if infinite := _count(pc.is_inf(values)):
        raise DataError(
            f"{infinite:,} of {len(values):,} rows have an infinite '{name}'", where=FILE,
            next_step=f"Say what it means, such as null: CASE WHEN isfinite({name}) THEN {name} END",
        )  # fmt: skip
    if learned and (large := _count(pc.is_inf(values.cast(pa.float32(), safe=False)))):
        raise DataError(
            f"{large:,} of {len(values):,} rows have a '{name}' beyond 3.4e38, the largest number that learners hold",
            where=FILE, next_step="Take its logarithm, or leave such readings out",
        )  # fmt: skip
    return values


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)
