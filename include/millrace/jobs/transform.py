"""transform: run the pipeline's SQL over raw Snapshots, and write the features Snapshot."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from millrace.contract import Input, Outcome
from millrace.core.errors import ContractError, DataError, SpecError
from millrace.embeddings.files import Fitted
from millrace.jobs.embedded import embed, fitted
from millrace.jobs.land import strictest
from millrace.jobs.work import Work
from millrace.spec.media import EMBEDDED
from millrace.spec.recipe import Recipe
from millrace.sql.duck import without_nan
from millrace.sql.result import plain
from millrace.sql.select import FILE, Scope, connect, select, show


class Params(BaseModel):
    """Nothing: the SQL and all names are in the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def run(work: Work, params: Params) -> Outcome:
    """Make the features of the partition in scope.

    The SQL sees a view per source, over all its input Snapshots, and `scope(partition_key, start_time, end_time)`;
    where the spec has an embedding also `embedded`, a row per distinct file of its source. Its clocks are those of the
    pipeline's zone.
    Raises SpecError for SQL that does not run or lacks a column, DataError for rows that cannot be features.
    """
    spec, key = work.spec, work.partition
    scope = Scope(key, spec.partitioning.start(key), spec.partitioning.end(key), spec.partition.timezone)
    sources = {name: _source(work, name) for name in spec.sources}
    embedding = fitted(work)
    if spec.features.engine == "spark":
        made = _spark(work, sources, scope)
    else:
        made = _duckdb(work, sources, scope, embedding)
    table = check(work, made, scope.start_time, scope.end_time)
    snapshot = work.snapshots.write(
        table, pipeline=spec.name, dataset="features", partition=key,
        classification=strictest(spec, table.column_names), source=embedding.digest if embedding else None,
    )  # fmt: skip
    facts = {"rows": table.num_rows, "columns": table.column_names, "recipe": Recipe.of(work.bundle).digest}
    return Outcome(outputs={"data": snapshot}, facts=facts | ({"embedding": embedding.digest} if embedding else {}))


def _duckdb(work: Work, sources: dict[str, list[Input]], scope: Scope, embedding: Fitted | None) -> pa.Table:
    """Run the SQL here. `limits` of the request: `duckdb_memory` (8GB), `duckdb_temp` (folder to spill to)."""
    limits = work.request.means.limits
    with tempfile.TemporaryDirectory(prefix="millrace-sql-", dir=limits.get("duckdb_temp")) as folder:
        files = {
            name: [str(without_nan(work.path(item), folder)) for item in inputs] for name, inputs in sources.items()
        }
        if embedding is not None:
            path = Path(folder) / f"{EMBEDDED}.parquet"
            pq.write_table(embed(work, sources[embedding.params.source], embedding), path)
            files[EMBEDDED] = [str(path)]
        reads = [path for paths in files.values() for path in paths]
        with connect(folder, scope.timezone, reads, limits.get("duckdb_memory")) as connection:
            show(connection, files, scope)
            return select(connection, work.bundle.sql)


def _spark(work: Work, sources: dict[str, list[Input]], scope: Scope) -> pa.Table:
    """Run the SQL where the service `spark` (a master URL) says, in this process where the request names none."""
    from millrace.sql import select_spark

    master = work.spark()
    schemas = {name: pq.read_schema(work.path(inputs[0])) for name, inputs in sources.items()}
    with tempfile.TemporaryDirectory(prefix="millrace-sql-") as folder:
        files = {name: [_place(work, item, master, folder) for item in inputs] for name, inputs in sources.items()}
        return select_spark.select(master, work.bundle.sql, schemas, files, scope)


def _place(work: Work, item: Input, master: str, folder: str) -> str:
    """An input as Spark's executors find it. Raises DataError for one with NaN that only this machine could mend."""
    path = work.path(item)
    plain = without_nan(path, folder)
    if plain == path:
        return work.spark_place(item, master)
    if master.startswith("local"):
        return str(plain)
    raise DataError(
        f"partition {item.partition} of source '{item.role}' holds NaN: an earlier version landed it",
        next_step="Land it again: run the features DAG for this partition",
    )


def _source(work: Work, name: str) -> list[Input]:
    """A source's input Snapshots, in the order of their partitions however they were sent."""
    inputs = sorted(work.request.inputs(name), key=lambda item: item.partition or "")
    if not inputs:
        raise ContractError(f"transform needs a Snapshot of source '{name}'")
    if len({item.partition for item in inputs}) < len(inputs):
        raise ContractError(f"a partition of source '{name}' comes twice", given=[item.partition for item in inputs])
    schemas = [pq.read_schema(work.path(item)) for item in inputs]
    for item, schema in zip(inputs, schemas, strict=True):
        if schema != schemas[0]:
            raise DataError(
                f"partition {item.partition} of source '{name}' has other columns or types than {inputs[0].partition}",
                next_step="It was landed under another spec: land it again",
            )
    return inputs


def check(work: Work, made: pa.Table, start: datetime, end: datetime) -> pa.Table:
    """The rows in their one order, after all that must hold for features."""
    features, names = work.spec.features, made.column_names
    twice = sorted({name for name in names if [n.lower() for n in names].count(name.lower()) > 1})
    if twice:
        raise SpecError(f"the SQL makes a column twice: {', '.join(twice)}", where=FILE)
    times = [features.event_time, *([features.created_time] if features.created_time else [])]
    for column in [*features.entity, *times, *([work.spec.label.column] if work.spec.label else [])]:
        if column not in names:
            raise SpecError("the SQL does not make this column", where=FILE, given=column, allowed=names)
    table = plain(made, work.spec)
    for column in times:
        kind = table[column].type
        if not pa.types.is_timestamp(kind):
            raise SpecError(f"time '{column}' is no timestamp", where=FILE, given=str(kind), allowed="TIMESTAMPTZ")
    if table.num_rows == 0:
        raise DataError(f"the SQL makes no rows for partition {work.partition}", where=FILE)
    time = table[features.event_time]
    for column in [*features.entity, features.event_time]:
        _none(table[column].null_count, table, f"have no '{column}'")
    outside = pc.or_(pc.less(time, pa.scalar(start, time.type)), pc.greater_equal(time, pa.scalar(end, time.type)))
    _none(pc.sum(outside).as_py(), table, f"lie outside partition {work.partition} in time")
    keys = [features.event_time, *features.entity]
    distinct = table.group_by(keys, use_threads=False).aggregate([]).num_rows
    _none(table.num_rows - distinct, table, f"repeat another row's {' and '.join(keys)}")
    return table.sort_by([(column, "ascending") for column in keys])  # one order, as the keys are unique


def _none(count: int, table: pa.Table, what: str) -> None:
    if count:
        raise DataError(f"{count:,} of {table.num_rows:,} rows {what}", where=FILE)
