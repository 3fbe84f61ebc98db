"""GX's Spark engine over a Snapshot's file, for pipelines whose engine is Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from millrace.gates import gx
from millrace.gates.gx.frame import infinite, kind_of
from millrace.gates.sql.rows import VIEW, SQLRows
from millrace.sql.spark import guarded, session

if TYPE_CHECKING:
    from millrace.gates.gx.suite import Entry

_NO_ZONE = ("expect_column_values_to_be_null", "expect_column_values_to_be_unique")
"""Types whose examples Spark gives without the zone of a time."""


class SparkRows(SQLRows):
    """Rows of a Parquet file in Spark.

    `table` holds the same rows for what goes to pandas; `place` is the file as the executors find it, `master` Spark's
    address. `gx.load(spark=True)` comes before the first use of GX in the process. Raises Unavailable where Spark does
    not start.
    """

    def __init__(self, table: pa.Table, place: str, master: str, entries: Sequence[Entry]) -> None:
        self.table = table
        self._session = session(master)
        self._kinds = {field.name: kind_of(field.type) for field in table.schema}
        columns = ", ".join(_as_pandas_has_it(field) for field in table.schema)

        def view() -> Any:
            self._session.read.parquet(place).createOrReplaceTempView("parquet_rows")
            shown = self._session.sql(f"SELECT {columns} FROM parquet_rows").cache()
            shown.createOrReplaceTempView(VIEW)
            return shown

        self._shown = guarded(view, "the gate")
        super().__init__(None, self._kinds, entries)

    @property
    def infinite(self) -> Mapping[str, int]:
        """Infinities by column, of those that have any."""
        return infinite(self.table)

    def quote(self, column: str) -> str:
        """A column's name in Spark's SQL."""
        return _quote(column)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Columns as Arrow."""
        return self.table.select(list(columns))

    def close(self) -> None:
        """Let Spark forget the rows; the session stays the process's."""
        self._shown.unpersist()

    def _falls_back(self, entry: Entry) -> bool:
        times = any(self._kinds.get(column) == "time" for column in entry.columns)
        return super()._falls_back(entry) or (times and entry.type in _NO_ZONE)

    @cached_property
    def _validator(self) -> Any:
        gx.load(spark=True)
        from great_expectations.execution_engine import SparkDFExecutionEngine
        from great_expectations.execution_engine.sparkdf_batch_data import SparkDFBatchData

        engine = SparkDFExecutionEngine(persist=False)  # is cached already
        return gx.validator(engine, SparkDFBatchData(execution_engine=engine, dataframe=self._shown))

    def _row(self, query: str) -> Sequence[Any]:
        return guarded(lambda: tuple(self._session.sql(query).collect()[0]), "the gate")


def _quote(column: str) -> str:
    return "`" + column.replace("`", "``") + "`"


def _as_pandas_has_it(field: pa.Field) -> str:
    """NaN as null, decimals as floats, all integers long (GX takes no mean of short ones); of others, what is null."""
    column, kind = _quote(field.name), kind_of(field.type)
    if kind == "other":
        real = f"isnan({column})" if pa.types.is_floating(field.type) else "false"
        return f"CASE WHEN {column} IS NULL OR {real} THEN NULL ELSE 0 END AS {column}"
    if kind == "number":
        return f"nullif(CAST({column} AS DOUBLE), double('NaN')) AS {column}"
    return f"CAST({column} AS BIGINT) AS {column}" if kind == "integer" else column
