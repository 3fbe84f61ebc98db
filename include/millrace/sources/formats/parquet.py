"""Read Parquet: types are in the file, so what is declared must be what is there; `arrow_values` converts it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.core.errors import DataError
from millrace.sources.formats.arrow_values import plain_type, reader
from millrace.sources.formats.columns import NAMES, TYPES, Refused, Wanted, check_header
from millrace.sources.formats.times import NO_ZONE

_INT96 = f"{NO_ZONE}; Spark, Hive and Impala mostly write INT96 in UTC"


def read_parquet(path: Path, name: str, wanted: Wanted, zone: str | None = None) -> pa.Table:
    """Read the declared columns. Raises DataError naming file and column, and the row where one is at fault."""
    check_header(parquet_header(path, name), name, wanted)
    try:
        # INT96 holds nanoseconds since the year -4712, which Arrow's own nanoseconds would wrap.
        file = pq.ParquetFile(path, coerce_int96_timestamp_unit="us")
        int96 = _int96(file.schema)
        table = file.read(columns=list(wanted))
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError):
        table = None
    if table is None:
        raise DataError("the file is damaged: its rows cannot be read", where=name)
    return pa.table({
        column: _read(table[column], column, name, kind, zone, column in int96) for column, kind in wanted.items()
    })  # fmt: skip


def parquet_header(path: Path, name: str) -> list[str]:
    """Column names. Raises DataError for a file that is no Parquet or lost its end."""
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        pass
    raise DataError("the file is not Parquet, or was cut off", where=name)


def _int96(schema: pq.ParquetSchema) -> set[str]:
    columns = [schema.column(place) for place in range(len(schema))]
    return {column.path for column in columns if column.physical_type == "INT96"}


def _read(
    values: pa.ChunkedArray, column: str, name: str, kind: pa.DataType, zone: str | None, int96: bool
) -> pa.ChunkedArray:
    given = plain_type(values.type)
    shown = "INT96" if int96 else str(given)
    if kind == TYPES["timestamp"] and pa.types.is_timestamp(given) and given.tz is None and zone is None:
        raise DataError(
            f"column '{column}' has no time zone",
            where=name,
            given=shown,
            allowed="timestamps with a time zone",
            next_step=_INT96 if int96 else NO_ZONE,
        )
    convert = reader(given, kind, zone)
    if convert is None:
        raise DataError(f"column '{column}' is not of its type", where=name, given=shown, allowed=NAMES[kind])
    made: list[pa.Array] = []
    try:
        made.extend(convert(chunk) for chunk in values.chunks)
    except Refused as err:
        row = sum(len(chunk) for chunk in made) + err.place + 1
        raise DataError(f"column '{column}' {err.why} in row {row}", where=name, given=shown,
                        allowed=err.allowed, next_step=err.next_step) from None  # fmt: skip
    return pa.chunked_array(made, kind)
