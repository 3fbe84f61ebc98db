"""Read Parquet: types are in the file, so what is declared must be what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.errors import DataError
from millrace.sources.columns import NAMES, Refused, Wanted, check_header
from millrace.sources.times import NO_ZONE, WRITTEN, localise, read_text

# What a declared type may be in the file. Arrow would cast more, such as an integer to a time.
_FROM: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "string": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "integer": (pa.types.is_integer, pa.types.is_floating),
    "number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    "boolean": (pa.types.is_boolean,),
    "timestamp": (pa.types.is_timestamp,),
    "date": (pa.types.is_date,),
    "time": (pa.types.is_time,),
}


def read_parquet(path: Path, name: str, wanted: Wanted, zone: str | None = None) -> pa.Table:
    """Read the declared columns. Raises DataError naming file and column."""
    check_header(parquet_header(path, name), name, wanted)
    try:
        table = pq.ParquetFile(path).read(columns=list(wanted))
    except (pa.ArrowInvalid, OSError):
        table = None
    if table is None:
        raise DataError("the file is damaged: its rows cannot be read", where=name)
    return pa.table({column: _cast(table[column], column, name, kind, zone) for column, kind in wanted.items()})


def parquet_header(path: Path, name: str) -> list[str]:
    """Column names. Raises DataError for a file that is no Parquet or lost its end."""
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        pass
    raise DataError("the file is not Parquet, or was cut off", where=name)


def _cast(values: pa.ChunkedArray, column: str, name: str, kind: pa.DataType, zone: str | None) -> pa.ChunkedArray:
    given = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if kind in WRITTEN and (pa.types.is_string(given) or pa.types.is_large_string(given)):
        texts = values.cast(pa.string())
        return _timed(texts, lambda chunk: read_text(chunk, kind, zone), column, name, kind)
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(given) and given.tz is None:
        if zone is None:
            raise DataError(
                f"column '{column}' has no time zone",
                where=name,
                given=str(given),
                allowed="timestamps with a time zone",
                next_step=NO_ZONE,
            )
        micros = values.cast(pa.timestamp("us"), safe=False)
        return _timed(micros, lambda chunk: localise(chunk, zone), column, name, kind)
    if pa.types.is_null(given) or any(fits(given) for fits in _FROM[NAMES[kind]]):
        try:
            # Nanoseconds are cut to the store's microseconds; everything else must fit.
            return values.cast(kind, safe=not (pa.types.is_timestamp(given) or pa.types.is_time(given)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
    raise DataError(f"column '{column}' is not of its type", where=name, given=str(given), allowed=NAMES[kind])


def _timed(
    values: pa.ChunkedArray, read: Callable[[pa.Array], pa.Array], column: str, name: str, kind: pa.DataType
) -> pa.ChunkedArray:
    made: list[pa.Array] = []
    try:
        made.extend(read(chunk) for chunk in values.chunks)
    except Refused as err:
        row = sum(len(chunk) for chunk in made) + err.place + 1
        raise DataError(f"column '{column}' {err.why} in row {row}", where=name, given=str(values.type),
                        allowed=err.allowed, next_step=err.next_step) from None  # fmt: skip
    return pa.chunked_array(made, kind)
