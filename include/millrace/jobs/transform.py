"""transform: run the pipeline's SQL in DuckDB over raw Snapshots, and write the features Snapshot."""

from __future__ import annotations

import re
import tempfile
from typing import Any

import duckdb
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from millrace.contract import Outcome
from millrace.errors import ContractError, DataError, MillraceError, SpecError
from millrace.jobs.land import strictest
from millrace.jobs.work import Work

REACHES: tuple[str, ...] = ()
REUSABLE = True


class Params(BaseModel):
    """Nothing: the SQL and all names are in the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def run(work: Work, params: Params) -> Outcome:
    """Make the features of the partition in scope.

    The SQL sees a view per source, over all its input Snapshots, and `scope(partition_key, start_time, end_time)`.
    Raises SpecError for SQL that does not run or lacks a column, DataError for rows that cannot be features.
    """
    spec, key = work.spec, work.partition
    start, end = spec.partitioning.start(key), spec.partitioning.end(key)
    with tempfile.TemporaryDirectory(prefix="millrace-sql-") as folder:
        connection = connect(folder)
        try:
            for name in spec.sources:
                inputs = sorted(work.request.inputs(name), key=lambda i: (i.partition or "", i.digest))
                if not inputs:
                    raise ContractError(f"transform needs a Snapshot of source '{name}'")
                connection.register(f"raw_{name}", pa.concat_tables([work.read(item) for item in inputs]))
                connection.execute(f'CREATE VIEW "{name}" AS SELECT * FROM "raw_{name}"')
            connection.execute(
                "CREATE TABLE scope AS SELECT ?::VARCHAR AS partition_key, ?::TIMESTAMPTZ AS start_time, "
                "?::TIMESTAMPTZ AS end_time", [key, start, end],
            )  # fmt: skip
            made = select(connection, work.bundle.sql)
        finally:
            connection.close()
    table = check(work, made, start, end)
    snapshot = work.snapshots.write(
        table, pipeline=spec.name, dataset="features", partition=key,
        classification=strictest(spec, table.column_names),
    )  # fmt: skip
    return Outcome(outputs={"data": snapshot}, facts={"rows": table.num_rows, "columns": table.column_names})


def connect(folder: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB that gives the same bytes everywhere (one thread) and reaches nothing outside."""
    connection = duckdb.connect()
    for name, value in (
        ("threads", 1), ("TimeZone", "UTC"), ("temp_directory", folder), ("autoinstall_known_extensions", False),
        ("autoload_known_extensions", False),
    ):  # fmt: skip
        connection.execute(f"SET {name} = '{value}'")
    connection.execute("SET enable_external_access = false")
    return connection


def select(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """Run the SQL's one SELECT. Raises SpecError naming the line; DuckDB's text may quote data, so it is cut."""
    try:
        return connection.sql(sql).to_arrow_table()
    except duckdb.ConversionException:
        message = "a value cannot be converted to the type that the SQL casts to"
    except duckdb.Error as err:
        text = str(err)
        line = re.search(r"LINE (\d+):", text)
        where = f"transform.sql:{line.group(1)}" if line else "transform.sql"
        raise SpecError(text.splitlines()[0], where=where) from None
    raise DataError(message, where="transform.sql", next_step="Use TRY_CAST, or a gate on the raw column")


def check(work: Work, made: pa.Table, start: Any, end: Any) -> pa.Table:
    """The rows in their one order, after all that must hold for features."""
    import pyarrow.compute as pc

    spec = work.spec
    needed = [*spec.features.entity, spec.features.event_time]
    needed += [spec.features.created_time] if spec.features.created_time else []
    needed += [spec.label.column] if spec.label else []
    for column in needed:
        if column not in made.column_names:
            raise SpecError(
                "the SQL does not make this column", where="transform.sql", given=column, allowed=made.column_names
            )
    table = _plain(made)
    time = table[spec.features.event_time]
    if not pa.types.is_timestamp(time.type):
        raise SpecError(
            f"event time '{spec.features.event_time}' is no timestamp",
            where="transform.sql",
            given=str(time.type),
            allowed="TIMESTAMPTZ",
        )
    if table.num_rows == 0:
        raise DataError(f"the SQL makes no rows for partition {work.partition}", where="transform.sql")
    outside = pc.or_(pc.less(time, pa.scalar(start, time.type)), pc.greater_equal(time, pa.scalar(end, time.type)))
    _none(pc.sum(pc.fill_null(outside, True)).as_py(), table, f"lie outside partition {work.partition} in time")
    for column in spec.features.entity:
        _none(table[column].null_count, table, f"have no '{column}'")
    keys = [*spec.features.entity, spec.features.event_time]
    distinct = table.group_by(keys).aggregate([]).num_rows
    _none(table.num_rows - distinct, table, f"repeat another row's {' and '.join(keys)}")
    first = [spec.features.event_time, *spec.features.entity]
    order = first + [c for c in table.column_names if c not in first]
    return table.sort_by([(c, "ascending") for c in order])


def _plain(table: pa.Table) -> pa.Table:
    """Types that every reader of the stack knows: no HUGEINT, no decimals, times in UTC microseconds."""
    fields = []
    for field in table.schema:
        kind = field.type
        if pa.types.is_decimal(kind):
            kind = pa.int64() if kind.scale == 0 else pa.float64()
        elif pa.types.is_timestamp(kind):
            kind = pa.timestamp("us", "UTC")
        elif pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
            kind = pa.string()
        fields.append(pa.field(field.name, kind))
    try:
        return table.cast(pa.schema(fields))
    except pa.ArrowInvalid:
        raise DataError("a number is too large for 64 bits", where="transform.sql") from None


def _none(count: int, table: pa.Table, what: str) -> None:
    if count:
        error: MillraceError = DataError(f"{count:,} of {table.num_rows:,} rows {what}", where="transform.sql")
        raise error
