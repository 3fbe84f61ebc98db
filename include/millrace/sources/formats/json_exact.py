"""JSON line by line in Python: what a file of objects means, and what is wrong with it and where.

Slower than Arrow's reader, which `json_lines` asks first; this is the answer wherever that one refuses or cannot be
trusted. It needs memory for a batch of rows, and stops at the first line that is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace.core.errors import DataError
from millrace.sources.formats.columns import TYPES, Public, Refused, Wanted
from millrace.sources.formats.times import WRITTEN, read_text
from millrace.sources.formats.values import finite

BATCH = 50_000
EXACT = 2**53
"""From here on a float no longer holds every whole number."""
_SPACE = " \t\r\n"
_INT64 = range(-(2**63), 2**63)
_DIGITS = 400  # no float has more before its point
_LENGTH = 80  # of a value in a message
_LINES = "One object in each line"
_CALLED = {list: "an array", str: "a text", int: "a number", float: "a number", bool: "true or false"}
_TAKES: dict[pa.DataType, set[type]] = {
    TYPES["boolean"]: {bool},
    TYPES["integer"]: {int},
    TYPES["number"]: {int, float},
}


class _Twice(dict[str, Any]):
    """An object in which a key stands twice."""

    keys_twice: frozenset[str]


def read_exactly(path: Path, name: str, wanted: Wanted, public: Public, zone: str | None) -> pa.Table:
    """The declared columns of a file of UTF-8. Raises DataError for the first line that is wrong."""
    schema = pa.schema(list(wanted.items()))
    return pa.concat_tables(
        [schema.empty_table(), *(_table(rows, name, schema, public, zone) for rows in _batches(path, name))]
    )


def objects(path: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each line that holds something. Raises DataError for a line that is no object."""
    with path.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip(_SPACE):
                yield number, _object(line, f"{name}:{number}")


def _batches(path: Path, name: str) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """All rows in batches. The lines before one that is no object come first: they may be wrong themselves."""
    rows: list[tuple[int, dict[str, Any]]] = []
    problem = None
    try:
        for row in objects(path, name):
            rows.append(row)
            if len(rows) == BATCH:
                yield rows
                rows = []
    except DataError as err:
        problem = err
    yield rows
    if problem is not None:
        raise problem


def _object(line: str, where: str) -> dict[str, Any]:
    begins, unended = line.strip(_SPACE)[0], not line.endswith("\n")
    next_step = f"{_LINES}; jq -c '.[]' writes an array so" if begins == "[" else _LINES
    try:
        value = _DECODER.decode(line)
    except RecursionError:
        why = "its values nest too deep"
    except json.JSONDecodeError as err:
        why = f"{err.msg}, at character {err.pos + 1}"
        if err.msg == "Extra data":
            why = f"it ends at character {err.pos}, and more stands behind it"
        elif unended and begins == "{":
            next_step = "The file ends here: it was probably cut off"
        elif begins == "{" and err.pos >= len(line.rstrip(_SPACE)):
            why, next_step = "it goes on in the next line", f"{_LINES}; jq -c . writes objects so"
    else:
        if isinstance(value, dict):
            return value
        why = f"it is {_CALLED.get(type(value), 'null')}"
    raise DataError(f"the line is no JSON object ({why})", where=where, next_step=next_step)


def _table(
    rows: list[tuple[int, dict[str, Any]]], name: str, schema: pa.Schema, public: Public, zone: str | None
) -> pa.Table:
    made: list[pa.Array] = []
    wrong: list[tuple[str, list[Any], Refused]] = []
    for field in schema:
        values = [row.get(field.name) for _, row in rows]
        try:
            for place, (_, row) in enumerate(rows):
                if type(row) is _Twice and field.name in row.keys_twice:
                    raise Refused(place, "stands twice in the object")
            made.append(_column(values, field.type, zone))
        except Refused as err:
            wrong.append((field.name, values, err))
    if wrong:
        column, values, refused = min(wrong, key=lambda found: found[2].place)
        raise DataError(
            f"column '{column}' {refused.why}",
            where=f"{name}:{rows[refused.place][0]}",
            given=_shown(values[refused.place]) if public(column) else None,
            allowed=refused.allowed,
            next_step=refused.next_step,
        )
    return pa.Table.from_arrays(made, schema=schema)


def _shown(value: Any) -> Any:
    return value if len(repr(value)) <= _LENGTH else repr(value)[:_LENGTH] + " .."


def _column(values: list[Any], kind: pa.DataType, zone: str | None) -> pa.Array:
    """Values of a type, null for None. Raises Refused."""
    takes = _TAKES.get(kind, {str})
    if not set(map(type, values)) <= takes | {type(None)}:
        place = next(n for n, value in enumerate(values) if value is not None and type(value) not in takes)
        raise Refused.of(place, kind, WRITTEN.get(kind))
    if kind == TYPES["integer"]:
        for place, value in enumerate(values):
            if value is not None and value not in _INT64:
                raise Refused.of(place, kind, "whole numbers of 64 bits", "Declare it string where it is no quantity")
    elif kind == TYPES["number"]:
        return finite(pa.array([_float(value, place) for place, value in enumerate(values)], kind))
    elif kind not in _TAKES:
        text = _text(values)
        return read_text(text, kind, zone) if kind in WRITTEN else text
    return pa.array(values, kind)


def _float(value: float | None, place: int) -> float | None:
    """A whole number is taken where a float gives it back, exactly or as floats are written (1e22, 1.5e300)."""
    if type(value) is not int or abs(value) < EXACT:
        return value
    try:
        near = float(value)
    except OverflowError:
        return float("inf")
    if near != value and Decimal(repr(near)) != value:
        raise Refused(place, "is a whole number that a float does not hold exactly", f"below 2^53 = {EXACT}",
                      "Declare it integer, or string where it is no quantity")  # fmt: skip
    return near


def _text(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        pass
    halves = ({"\ud800" <= c <= "\udfff" for c in value or ""} for value in values)
    place = next(n for n, found in enumerate(halves) if True in found)
    raise Refused(place, "holds half of a surrogate pair, which is no character")


def _integer(digits: str) -> float:
    """Python refuses to read integers of thousands of digits; no type holds them."""
    return int(digits) if len(digits) <= _DIGITS else float("-inf" if digits[0] == "-" else "inf")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) == len(pairs):
        return row
    named = [key for key, _ in pairs]
    marked = _Twice(row)
    marked.keys_twice = frozenset(key for key in row if named.count(key) > 1)
    return marked


# Python, and so pandas, writes an absent number as NaN, which no JSON knows: it is null, whatever the column.
_CONSTANTS = {"NaN": None, "Infinity": float("inf"), "-Infinity": float("-inf")}
_DECODER = json.JSONDecoder(parse_constant=_CONSTANTS.__getitem__, parse_int=_integer, object_pairs_hook=_pairs)
