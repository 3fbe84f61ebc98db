"""Run a pipeline's SQL on Spark: the same SELECT, translated, over the same files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence

import pyarrow as pa

from millrace.sql.dialect.times import local
from millrace.sql.dialect.translate import translate
from millrace.sql.select import FILE, Scope, bind, connect
from millrace.sql.spark import guarded, session
from millrace.sql.zones import agree


def select(
    master: str, sql: str, schemas: Mapping[str, pa.Schema], files: Mapping[str, Sequence[str]], scope: Scope
) -> pa.Table:
    """Run the SQL's one SELECT over each source's Parquet files, places that the executors can read.

    Columns have DuckDB's types; rows come in no order. Clocks are those of the scope's zone, though Spark's session is
    in UTC: the translation says them. Sums of doubles may differ in their last digits between two
    runs. Raises SpecError with the line for SQL outside of the part that both engines have; DataError, without the
    value, where it fails on a row; MemoryError; Unavailable.
    """
    known = pa.table({
        "partition_key": [scope.partition_key],
        "start_time": pa.array([scope.start_time], pa.timestamp("us", "UTC")),
        "end_time": pa.array([scope.end_time], pa.timestamp("us", "UTC")),
    })  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="millrace-sql-") as folder, connect(folder, scope.timezone) as connection:
        connection.register("scope", known)
        for name, schema in schemas.items():
            connection.register(name, schema.empty_table())
        bind(connection, sql)
        query = translate(connection, sql).checked()
    spark = session(master)

    def local_times(moments: Sequence[int]) -> list[int]:
        rows = spark.createDataFrame(pa.table({"n": range(len(moments)), "m": pa.array(moments, pa.int64())}))
        clock = local(scope.timezone, "timestamp_micros(m)")
        made = rows.selectExpr("n", f"unix_micros(CAST({clock} AS TIMESTAMP)) AS clock").toArrow()
        clocks: list[int] = made.sort_by("n")["clock"].to_pylist()
        return clocks

    def run() -> pa.Table:
        if scope.timezone != "UTC":
            agree("Spark's Java", scope.timezone, scope.start_time, scope.end_time, local_times)
        for name, paths in files.items():
            spark.read.parquet(*paths).createOrReplaceTempView(name)
        spark.createDataFrame(known).createOrReplaceTempView("scope")
        return spark.sql(query).toArrow()

    return guarded(run, FILE)
