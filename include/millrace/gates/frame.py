"""Arrow to pandas, once, in the types that GX's metrics take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


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
