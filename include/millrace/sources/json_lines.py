"""Read newline-delimited JSON: fast by Arrow, and line by line where that refuses (its errors may quote values)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from millrace.errors import DataError
from millrace.sources.columns import Public, Refused, Wanted, check_header
from millrace.sources.text import BLOCK, check_text
from millrace.sources.times import WRITTEN, read_text

INT64 = range(-(2**63), 2**63)


def read_json(path: Path, name: str, wanted: Wanted, public: Public, zone: str | None = None) -> pa.Table:
    """Read the declared columns; a key that an object lacks is null. Raises DataError naming the line where it can."""
    check_text(path, name)
    # Times are read as text first: Arrow's JSON reader takes none with an offset.
    schema = pa.schema([(c, pa.string() if t in WRITTEN else t) for c, t in wanted.items()])
    try:
        table = pa.json.read_json(
            path,
            read_options=pa.json.ReadOptions(block_size=BLOCK),
            parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        table = pa.table({c: _timed(table[c], t, zone) if t in WRITTEN else table[c] for c, t in wanted.items()})
    except (pa.ArrowInvalid, Refused):
        table = None
    if table is None:
        raise _problem(path, name, wanted, public, zone)
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


def _timed(texts: pa.ChunkedArray, kind: pa.DataType, zone: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([read_text(chunk, kind, zone) for chunk in texts.chunks], kind)


def _problem(path: Path, name: str, wanted: Wanted, public: Public, zone: str | None) -> DataError:
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
                if value is not None and (refused := _refused(kind, value, zone)):
                    return DataError(
                        f"column '{column}' {refused.why}",
                        where=where,
                        given=value if public(column) else None,
                        allowed=refused.allowed,
                        next_step=refused.next_step,
                    )
    if not rows:
        return DataError("the file has no rows", where=name)
    return DataError(
        "the file cannot be read as JSON, one object in each line",
        where=name,
        next_step=f"Is a line longer than {BLOCK >> 20} MiB?",
    )


def _refused(kind: pa.DataType, value: Any, zone: str | None) -> Refused | None:
    """Why a value is not taken for its column's type, None when it is."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind in WRITTEN and isinstance(value, str):
        try:
            read_text(pa.array([value]), kind, zone)
        except Refused as err:
            return err
        return None
    fits = {
        pa.bool_(): isinstance(value, bool),
        pa.int64(): whole and value in INT64,
        pa.float64(): whole or isinstance(value, float),
        pa.string(): isinstance(value, str),
    }
    return None if fits.get(kind) else Refused.of(0, kind, WRITTEN.get(kind))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key stands twice")
    return row
