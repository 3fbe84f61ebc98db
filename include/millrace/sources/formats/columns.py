"""Declared columns: their types, and the check of a file's header against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from millrace.core.errors import DataError, nearest

TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "binary": pa.binary(),
}
NAMES = {kind: name for name, kind in TYPES.items()}
"""Arrow type -> the spec's word for it."""

Wanted = Mapping[str, pa.DataType]
"""Declared column -> Arrow type, in the spec's order."""
Public = Callable[[str], bool]
"""Whether a column's values may be shown."""


class Refused(ValueError):
    """A value that is not taken: its place among those given, why (words that follow the column's name), what to do.

    Never holds the value itself, which may be personal.
    """

    def __init__(self, place: int, why: str, allowed: str | None = None, next_step: str | None = None) -> None:
        super().__init__(why)
        self.place, self.why, self.allowed, self.next_step = place, why, allowed, next_step

    @classmethod
    def of(cls, place: int, kind: pa.DataType, allowed: str | None = None, next_step: str | None = None) -> Refused:
        """A value that is not of its column's type."""
        return cls(place, f"is not of type {NAMES[kind]}", allowed, next_step)


def first_bad(values: pa.Array, takes: Callable[[pa.Array], bool]) -> int:
    """Place of the first value for which `takes` is false of every array that holds it; found by halving."""
    good, bad = 0, len(values)
    while bad - good > 1:
        middle = (good + bad) // 2
        if takes(values[good:middle]):
            good = middle
        else:
            bad = middle
    return good


def wanted(columns: Sequence[str], types: Mapping[str, str]) -> dict[str, pa.DataType]:
    """The declared columns with their Arrow types; string where the spec says nothing."""
    return {column: TYPES[types.get(column, "string")] for column in columns}


def check_header(header: Sequence[str], where: str, wanted: Wanted) -> None:
    """Raise DataError for a declared column that is absent, and for a name that stands twice.

    Columns without a name, as of a delimiter at each line's end, may be any number: nobody can ask for them.

    A file without a header has data in its first line, so names are quoted from it only once it is known for one.
    """
    twice = [column for column in dict.fromkeys(header) if column and list(header).count(column) > 1]
    missing = [column for column in wanted if column not in header]
    if named := [column for column in twice if column in wanted]:
        raise DataError(f"the header names a column twice: {', '.join(named)}", where=where)
    if len(missing) == len(wanted):
        raise DataError(
            f"none of the declared columns is named; first of them: '{missing[0]}'",
            where=where,
            next_step="Is this the right file, and has it a header? Its columns are named in pipeline.yaml",
        )
    if missing:
        near = nearest(missing[0], header)
        raise DataError(
            f"the header has no column {', '.join(repr(c) for c in missing)}"
            + (f"; did you mean '{near}'?" if near else ""),
            where=where,
            allowed=list(wanted),
            next_step="Is this the right file? Its columns are named in pipeline.yaml",
        )
    if twice:
        raise DataError(f"the header names a column twice: {', '.join(twice)}", where=where)
