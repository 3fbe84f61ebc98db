"""Groups of held out rows by the values of a column, named only where the column is public."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from millrace.core.errors import DataError
from millrace.spec.model_checks import GROUP

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 1000
"""Most groups of a column: more are an identifier, or numbers that say no group."""


@dataclass(frozen=True)
class Groups:
    """`names` in the order of the values; `index` is the place of each row's group among them."""

    column: str
    names: tuple[str, ...]
    index: NDArray[np.int64]


def groups_of(rows: pa.Table, column: str, public: Callable[[str], bool]) -> Groups:
    """Group rows; absent values are a group. Raises DataError for a column that is not there or has too many values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    name = column if column in rows.column_names else GROUP.format(column)
    if name not in rows.column_names:
        raise DataError(f"the training set has no column '{column}'", given=column, allowed=rows.column_names,
                        next_step="Let transform.sql make it, and train again")  # fmt: skip
    values = rows[name].cast(pa.string())
    known = sorted(value for value in values.unique().to_pylist() if value is not None)
    if len(known) > MOST:
        raise DataError(f"column '{column}' has {len(known)} values", allowed=f"at most {MOST} groups")
    places = pc.index_in(values, value_set=pa.array(known, pa.string())).fill_null(len(known))
    index = np.asarray(places.to_numpy(), dtype=np.int64)
    names = known if public(column) else [f"group {place}" for place in range(1, len(known) + 1)]
    absent = ["(absent)"] if len(known) in index else []
    return Groups(column, (*names, *absent), index)
