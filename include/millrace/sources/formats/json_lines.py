"""Read newline-delimited JSON: fast by Arrow where its answer can be trusted, else line by line (`json_exact`)."""

from __future__ import annotations

import codecs
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from millrace.sources.formats.columns import Public, Refused, Wanted, check_header
from millrace.sources.formats.json_exact import EXACT, objects, read_exactly
from millrace.sources.formats.text import BLOCK, check_text
from millrace.sources.formats.times import WRITTEN, read_text
from millrace.sources.formats.values import finite


def read_json(path: Path, name: str, wanted: Wanted, public: Public, zone: str | None = None) -> pa.Table:
    """Read the declared columns; null are NaN and a key that an object lacks. Raises DataError naming the line."""
    check_text(path, name)
    table = _fast(path, wanted, zone)
    if table is None:
        table = read_exactly(path, name, wanted, public, zone)
    if table.num_rows and (absent := {c for c in wanted if table[c].null_count == table.num_rows}):
        _named(path, name, wanted, absent)
    return table


def json_header(path: Path, name: str) -> list[str]:
    """Keys of the first object; the others may have more. Raises DataError for a first line that is none."""
    return list(next(objects(path, name), (0, {}))[1])


def _fast(path: Path, wanted: Wanted, zone: str | None) -> pa.Table | None:
    """What Arrow reads; None where it refuses, and where a row or number of it may not be what the file says."""
    if not (lines := _objects_in_lines(path)):
        return None
    # Times are read as text first: Arrow's JSON reader takes none with an offset.
    schema = pa.schema([(c, pa.string() if t in WRITTEN else t) for c, t in wanted.items()])
    try:
        table = pa.json.read_json(
            path,
            read_options=pa.json.ReadOptions(block_size=BLOCK),
            parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        if table.num_rows != lines or any(_beyond(table[c]) for c in wanted):
            return None
        return pa.table({c: _converted(table[c], kind, zone) for c, kind in wanted.items()})
    except (pa.ArrowException, Refused):
        return None


def _objects_in_lines(path: Path) -> int | None:
    """How many lines hold something; None where one does not begin and end as an object.

    Arrow's reader crashes where a block begins with `null`, reads `null` as a row, and two objects as two rows in
    whatever lines they stand. Where each line begins and ends with a brace and there are as many rows as lines, each
    line is one object: within an object no brace that closes is followed by one that opens.
    """
    count = 0
    with path.open("rb") as handle:
        for number, line in enumerate(handle):
            if number == 0:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line := line.strip(b" \t\r\n"):
                if not (line.startswith(b"{") and line.endswith(b"}")) or b"\r" in line or b"\0" in line:
                    return None
                count += 1
    return count


def _beyond(values: pa.ChunkedArray) -> bool:
    """Whether a number may have been a whole one that a float does not hold."""
    return pa.types.is_floating(values.type) and bool(pc.any(pc.greater_equal(pc.abs(values), float(EXACT))).as_py())


def _converted(values: pa.ChunkedArray, kind: pa.DataType, zone: str | None) -> pa.ChunkedArray:
    if kind in WRITTEN:
        return pa.chunked_array([read_text(chunk, kind, zone) for chunk in values.chunks], kind)
    if pa.types.is_floating(kind):
        return pa.chunked_array([finite(chunk) for chunk in values.chunks], kind)
    return values


def _named(path: Path, name: str, wanted: Wanted, absent: set[str]) -> None:
    """Raise DataError for a column that no object names: a misspelt key would read as nulls all over."""
    seen: dict[str, None] = {}
    for _, row in objects(path, name):
        seen.update(dict.fromkeys(row))
        absent -= row.keys()
        if not absent:
            return
    check_header(list(seen), name, wanted)
