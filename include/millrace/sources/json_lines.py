"""Read newline-delimited JSON: fast by Arrow, and line by line where that refuses (its errors may quote values)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from millrace.errors import DataError
from millrace.sources.columns import NAMES, Public, Wanted, check_header
from millrace.sources.text import BLOCK, check_text

INT64 = range(-(2**63), 2**63)


def read_json(path: Path, name: str, wanted: Wanted, public: Public) -> pa.Table:
    """Read the declared columns; a key that an object lacks is null. Raises DataError naming the line where it can."""
    check_text(path, name)
    # Times are read as text first: Arrow's JSON reader takes none with an offset.
    schema = pa.schema([(c, pa.string() if pa.types.is_timestamp(t) else t) for c, t in wanted.items()])
    try:
        table = pa.json.read_json(
            path,
            read_options=pa.json.ReadOptions(block_size=BLOCK),
            parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        table = table.select(list(wanted)).cast(pa.schema(list(wanted.items())))
    except pa.ArrowInvalid:
        table = None
    if table is None:
        raise _problem(path, name, wanted, public)
    if table.num_rows and any(table[column].null_count == table.num_rows for column in wanted):
        # A misspelt key reads as nulls all over.
        check_header(list(dict.fromkeys(key for row in _objects(path) for key in row)), name, wanted)
    return table


def json_header(path: Path) -> list[str]:
    """Keys of the first object; the others may have more."""
    return list(next(_objects(path), {}))


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as handle:
        for line in handle:
            if line.strip():
                yield json.loads(line)


def _problem(path: Path, name: str, wanted: Wanted, public: Public) -> DataError:
    rows = 0
    with path.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            where, rows = f"{name}:{number}", rows + 1
            try:
                row = json.loads(line, parse_constant=_refuse, object_pairs_hook=_once)
            except ValueError as err:
                cut = not line.endswith("\n") and next(handle, None) is None
                return DataError(
                    f"the line is no JSON object ({getattr(err, 'msg', err)})",
                    where=where,
                    next_step="The file ends here: it was probably cut off" if cut else "One object in each line",
                )
            if not isinstance(row, dict):
                return DataError("the line is no JSON object", where=where, next_step="One object in each line")
            for column, kind in wanted.items():
                value = row.get(column)
                if value is not None and not _is(kind, value):
                    return DataError(
                        f"column '{column}' is not of type {NAMES[kind]}",
                        where=where,
                        given=value if public(column) else None,
                        allowed="ISO 8601 with Z or an offset" if pa.types.is_timestamp(kind) else None,
                    )
    if not rows:
        return DataError("the file has no rows", where=name)
    return DataError(
        "the file cannot be read as JSON, one object in each line",
        where=name,
        next_step=f"Is a line longer than {BLOCK >> 20} MiB?",
    )


def _is(kind: pa.DataType, value: Any) -> bool:
    if kind == pa.bool_():
        return isinstance(value, bool)
    if kind == pa.int64():
        return isinstance(value, int) and not isinstance(value, bool) and value in INT64
    if kind == pa.float64():
        return isinstance(value, int | float) and not isinstance(value, bool)
    if not isinstance(value, str):
        return False
    if kind == pa.string():
        return True
    try:
        pa.array([value]).cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key stands twice")
    return row
