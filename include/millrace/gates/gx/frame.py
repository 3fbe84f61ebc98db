"""A table's rows as GX's pandas engine takes them, and what every engine tells about rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from millrace.gates import gx

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from millrace.gates.gx.suite import Entry


class Rows(Protocol):
    """What a gate asks of the rows under test; it names columns and counts as an Arrow table does.

    `kinds` are those of `kind_of`; `nulls` count null and NaN, `infinite` infinities, of columns that have any.
    `selected` tells how many rows GX looks at for an
    expectation and whether any of them holds a value; `validate` gives GX's own result with `sample` unexpected
    values; `read` gives columns as Arrow; `close` lets go of what was opened.
    """

    column_names: list[str]
    num_rows: int

    @property
    def kinds(self) -> Mapping[str, str]: ...

    @property
    def nulls(self) -> Mapping[str, int]: ...

    @property
    def infinite(self) -> Mapping[str, int]: ...

    def selected(self, entry: Entry) -> tuple[int, bool]: ...

    def validate(self, entry: Entry, sample: int) -> Any: ...

    def read(self, columns: Sequence[str]) -> pa.Table: ...

    def close(self) -> None: ...


class Frame:
    """Rows of an Arrow table in pandas; the frame is made when it is first asked for."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.column_names = list(table.column_names)
        self.num_rows: int = table.num_rows
        self.kinds = {field.name: kind_of(field.type) for field in table.schema}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows in pandas."""
        return to_frame(self.table)

    @cached_property
    def nulls(self) -> Mapping[str, int]:
        """Nulls by column, NaN included."""
        return {name: int(self.frame[name].isna().sum()) for name in self.column_names}

    @cached_property
    def infinite(self) -> Mapping[str, int]:
        """Infinities by column, of those that have any."""
        return infinite(self.table)

    @cached_property
    def _validator(self) -> Any:
        return gx.over_frame(self.frame)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Columns as Arrow."""
        return self.table.select(list(columns))

    def close(self) -> None:
        """Nothing was opened."""

    def validate(self, entry: Entry, sample: int) -> Any:
        """GX's result in pandas."""
        return gx.evaluate(self._validator, entry.expectation, sample)

    def selected(self, entry: Entry) -> tuple[int, bool]:
        """Rows of the row condition, less those that `ignore_row_if` leaves out; whether any holds a value."""
        keys = ("column", "column_A", "column_B", "column_list", "row_condition", "condition_parser", "ignore_row_if")
        domain = {key: getattr(entry.expectation, key, None) for key in keys}
        found = self._validator.execution_engine.get_domain_records({k: v for k, v in domain.items() if v is not None})
        return len(found), bool(found[list(entry.columns)].notna().to_numpy().any())


def kind_of(arrow: Any) -> str:
    """What a column holds: text, integer, number, boolean, time (in UTC), zoned, clock (no zone), date or other.

    Decimals are numbers, as in `to_frame`; floats of less than 64 bits are other: pandas compares them narrowly.
    """
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(arrow):
        arrow = arrow.value_type
    if types.is_string(arrow) or types.is_large_string(arrow):
        return "text"
    if types.is_timestamp(arrow):
        return "clock" if arrow.tz is None else "time" if arrow.tz == "UTC" else "zoned"
    if types.is_float64(arrow) or types.is_decimal(arrow):
        return "number"
    known = ((types.is_boolean, "boolean"), (types.is_integer, "integer"), (types.is_date32, "date"))
    return next((name for test, name in known if test(arrow)), "other")


def nan_as_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with null for NaN: in a gate a value is there or not, whichever engine looks."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_floating(column.type):
        return column
    nans = pc.is_nan(column)
    return pc.if_else(nans, pa.scalar(None, column.type), column) if pc.any(nans).as_py() else column


def infinite(table: pa.Table) -> dict[str, int]:
    """Infinities by column, of those that have any."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_floating(column.type) and (count := pc.sum(pc.is_inf(column)).as_py()):
            found[name] = count
    return found


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Convert a table with distinct column names.

    Integers with nulls stay integers (pandas' nullable ones: as floats they would lose digits above 2**53), so an
    integer column is of GX type `int64` with and without nulls. Booleans are nullable too; decimals become floats,
    as GX's bounds are; NaN counts as null; timestamps keep their zone.
    """
    import pandas as pd

    return pd.DataFrame({name: _series(table.column(name)) for name in table.column_names}, copy=False)


def _series(column: pa.ChunkedArray) -> Any:
    import pandas as pd
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_boolean(kind):
        return column.to_pandas(types_mapper={kind: pd.BooleanDtype()}.get)
    elif pa.types.is_integer(kind) and column.null_count:
        name = str(kind).replace("uint", "UInt").replace("int", "Int") if str(kind)[0] == "u" else f"I{str(kind)[1:]}"
        return column.to_pandas(types_mapper={kind: pd.api.types.pandas_dtype(name)}.get)
    return column.to_pandas()
