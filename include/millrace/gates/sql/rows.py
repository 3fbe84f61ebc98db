"""GX's own SQL engine: on DuckDB over an Arrow table, and on a database where the table lies already (also Spark).

What its SQL does otherwise than its pandas engine, or has not been proven to do alike, goes to pandas with just the
columns that are needed (`sql_proven`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from millrace.gates import gx
from millrace.gates.gx.frame import Frame, infinite, kind_of, nan_as_null
from millrace.gates.sql.proven import falls_back
from millrace.sql import duck
from millrace.sql.duck import name

if TYPE_CHECKING:
    from millrace.gates.gx.suite import Entry

VIEW = "millrace_rows"
"""The rows under test, in every database: NaN as null, decimals as floats, as pandas has them."""


class SQLRows:
    """Rows in a database behind a SQLAlchemy engine of one connection, in the view VIEW."""

    def __init__(self, engine: Any, kinds: Mapping[str, str], entries: Sequence[Entry]) -> None:
        self.engine = engine
        self.kinds = kinds
        self.column_names = list(kinds)
        self._entries = entries
        self.num_rows, self.nulls = self._counted()

    @property
    def infinite(self) -> Mapping[str, int]:
        """Infinities by column, of those that have any."""
        raise NotImplementedError

    def validate(self, entry: Entry, sample: int) -> Any:
        """GX's result in SQL, or in pandas where `falls_back` says so.

        To look for unexpected rows costs a query as dear as the one that counts them: only where there are any.
        """
        if self._falls_back(entry):
            return self._frame.validate(entry, sample)
        if sample and getattr(entry.expectation, "map_metric", None):
            found = gx.evaluate(self._validator, entry.expectation, 0)
            if not found.result.get("unexpected_count"):
                return found
        return gx.evaluate(self._validator, entry.expectation, sample)

    def selected(self, entry: Entry) -> tuple[int, bool]:
        """Rows of the row condition, less those that `ignore_row_if` leaves out; whether any holds a value."""
        if entry.kwargs.get("row_condition"):
            return self._frame.selected(entry)  # text that pandas reads
        if not any(self.nulls[column] for column in entry.columns):
            return self.num_rows, self.num_rows > 0
        null = [f"{self.quote(column)} IS NULL" for column in entry.columns]
        left_out = {
            "both_values_are_missing": " AND ",
            "all_values_are_missing": " AND ",
            "either_value_is_missing": " OR ",
            "any_value_is_missing": " OR ",
        }.get(str(getattr(entry.expectation, "ignore_row_if", None) or "never"))
        kept = f"NOT ({left_out.join(null)})" if left_out else "1 = 1"
        rows, values = self._row(
            f"SELECT count(*), coalesce(sum(CASE WHEN {' AND '.join(null)} THEN 0 ELSE 1 END), 0) "
            f"FROM {VIEW} WHERE {kept}"
        )
        return int(rows), int(values) > 0

    def quote(self, column: str) -> str:
        """A column's name in the database's SQL."""
        return name(column)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Columns as Arrow."""
        raise NotImplementedError

    def close(self) -> None:
        """Let the database go."""
        self.engine.dispose()

    def _counted(self) -> tuple[int, dict[str, int]]:
        """Number of rows, and nulls by column."""
        counts = ", ".join(["count(*)", *(f"count({self.quote(column)})" for column in self.column_names)])
        rows, *values = self._row(f"SELECT {counts} FROM {VIEW}")
        return rows, {c: rows - n for c, n in zip(self.column_names, values, strict=True)}

    def _falls_back(self, entry: Entry) -> bool:
        return falls_back(entry, self.kinds, self.nulls) is not None

    @cached_property
    def _frame(self) -> Frame:
        """The columns that some expectation needs in pandas; all of them where a condition, which is text, asks."""
        needed = [entry for entry in self._entries if entry.problem is None and self._falls_back(entry)]
        if any(entry.kwargs.get("row_condition") or not entry.columns for entry in needed):
            return Frame(self.read(self.column_names))
        named = {column for entry in needed for column in entry.columns}
        return Frame(self.read([column for column in self.column_names if column in named]))

    @cached_property
    def _validator(self) -> Any:
        gx.load()
        from great_expectations.execution_engine import SqlAlchemyExecutionEngine
        from great_expectations.execution_engine.sqlalchemy_batch_data import SqlAlchemyBatchData

        engine = SqlAlchemyExecutionEngine(engine=self.engine, create_temp_table=False)
        return gx.validator(engine, SqlAlchemyBatchData(execution_engine=engine, table_name=VIEW))

    def _row(self, query: str) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return tuple(connection.exec_driver_sql(query).fetchall()[0])


class DuckDBRows(SQLRows):
    """An Arrow table in DuckDB, read where it lies, on one thread: sums of doubles differ with the number of them."""

    def __init__(self, table: pa.Table, entries: Sequence[Entry]) -> None:
        from millrace.gates.sql.duckdb_engine import engine_over

        self.table = table
        self._opened = ExitStack()
        connection = self._opened.enter_context(duck.connection(duck.Limits(threads=1)))
        self._shown = as_pandas_has_it(table)
        connection.register(VIEW, self._shown)
        engine = engine_over(connection)
        super().__init__(engine, {field.name: kind_of(field.type) for field in table.schema}, entries)

    @property
    def infinite(self) -> Mapping[str, int]:
        """Infinities by column, of those that have any."""
        return infinite(self.table)

    def close(self) -> None:
        """Close the database."""
        super().close()
        self._opened.close()

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Columns as Arrow."""
        return self.table.select(list(columns))

    def _counted(self) -> tuple[int, dict[str, int]]:
        shown = self._shown
        return shown.num_rows, {c: shown[c].null_count for c in self.column_names}  # Arrow knows without a query


def holds(names: Sequence[str]) -> bool:
    """Whether SQL can tell columns apart as Arrow does: DuckDB takes `a` and `A` for one name."""
    return len({n.casefold() for n in names}) == len(names) and all(re.fullmatch(r"\w[\w .-]*", n) for n in names)


def as_pandas_has_it(table: pa.Table) -> pa.Table:
    """The table with what `to_frame` changes: dictionaries decoded, decimals as floats, NaN as null.

    Of a column of another kind, which always goes to pandas, only what is null is kept: DuckDB does not read them all.
    """
    import pyarrow.compute as pc

    columns = []
    for column in table.columns:
        if kind_of(column.type) == "other":
            nulls = pc.is_null(column, nan_is_null=True)
            columns.append(pc.if_else(nulls, pa.scalar(None, pa.int8()), pa.scalar(0, pa.int8())))
            continue
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        columns.append(nan_as_null(column))
    return pa.table(columns, names=table.column_names)
