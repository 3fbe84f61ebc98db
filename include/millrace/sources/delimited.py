"""Read csv. The fast path is Arrow's reader; its errors quote values, which may be personal, so when it refuses, a
slow second pass finds the line and says what is wrong in our words.

Arrow takes an unbalanced quote for a value that runs on: the rows that it swallows would be lost without a word.
So a file with quotes whose rows are fewer than its lines goes through the slow pass too, which is strict about them.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from millrace.errors import DataError
from millrace.sources.columns import NAMES, Public, Wanted, check_header
from millrace.sources.text import BLOCK, check_text

NULLS = ["", "NA"]
BATCH = 50_000


def read_csv(path: Path, name: str, wanted: Wanted, public: Public) -> pa.Table:
    """Read the declared columns. Raises DataError naming file, line and column where it can."""
    text = check_text(path, name)
    header = csv_header(path)
    check_header(header, f"{name}:1", wanted)
    table = _convert(path, wanted, quoted=text.quotes > 0)
    if table is not None and (not text.quotes or (text.quotes % 2 == 0 and table.num_rows == text.lines - 1)):
        return table
    if problem := _problem(path, name, header, wanted, public):
        raise problem
    if table is None:
        raise DataError(
            "the file cannot be read as csv", where=name, next_step=f"Is a line longer than {BLOCK >> 20} MiB?"
        )
    return table


def csv_header(path: Path) -> list[str]:
    """Names in the first line."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        return next(csv.reader(handle), [])


def _convert(source: Path | io.BytesIO, wanted: Wanted, quoted: bool) -> pa.Table | None:
    """What Arrow reads, None when it refuses. Only quoted values can hold line ends, which cost time to expect."""
    try:
        return pa.csv.read_csv(
            source,
            read_options=pa.csv.ReadOptions(block_size=BLOCK),
            parse_options=pa.csv.ParseOptions(newlines_in_values=quoted),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict(wanted), include_columns=list(wanted), null_values=NULLS, strings_can_be_null=True,
                true_values=["true", "True", "1"], false_values=["false", "False", "0"],
            ),
        )  # fmt: skip
    except pa.ArrowInvalid:
        return None


def _problem(path: Path, name: str, header: Sequence[str], wanted: Wanted, public: Public) -> DataError | None:
    """The first thing wrong with the file's rows, None when nothing is."""
    rows: list[tuple[int, list[str]]] = []
    line, structure = 1, None
    with _long_values(), path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, strict=True)
        try:
            for number, row in enumerate(reader):
                if number and row:
                    if len(row) != len(header):
                        structure = _fields(row, header, f"{name}:{line}", last=next(reader, None) is None)
                        break
                    rows.append((line, row))
                line = reader.line_num + 1
                if len(rows) == BATCH:
                    if found := _types(rows, name, header, wanted, public):
                        return found
                    rows.clear()
        except csv.Error as err:
            structure = structure or _quotes(str(err), f"{name}:{line}")
    return _types(rows, name, header, wanted, public) or structure


def _fields(row: list[str], header: Sequence[str], where: str, last: bool) -> DataError:
    hint = "The file ends here: it was probably cut off" if last and len(row) < len(header) else None
    return DataError(f"the line has {len(row)} fields, the header {len(header)}", where=where, next_step=hint)


def _quotes(message: str, where: str) -> DataError:
    if message == "unexpected end of data":
        return DataError("a quote that opens in this line is never closed", where=where)
    return DataError("a quote stands where none may", where=where, next_step="Look for an unbalanced quote before it")


def _types(
    rows: list[tuple[int, list[str]]], name: str, header: Sequence[str], wanted: Wanted, public: Public
) -> DataError | None:
    """The first value among some rows that is not of its column's type."""
    found: list[tuple[int, str]] = []
    for column, kind in wanted.items():
        if kind != pa.string():
            values = [row[header.index(column)] for _, row in rows]
            bad = _first_bad(values, kind)
            if bad is not None:
                found.append((bad, column))
    if not found:
        return None
    place, column = min(found)
    line, row = rows[place]
    return DataError(
        f"column '{column}' is not of type {NAMES[wanted[column]]}",
        where=f"{name}:{line}",
        given=row[header.index(column)] if public(column) else None,
        allowed="ISO 8601 with Z or an offset" if pa.types.is_timestamp(wanted[column]) else None,
    )


def _first_bad(values: list[str], kind: pa.DataType) -> int | None:
    """Place of the first value that Arrow's csv reader does not take for the type; found by halving."""
    if _takes(values, kind):
        return None
    good, bad = 0, len(values)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _takes(values[good:middle], kind):
            good = middle
        else:
            bad = middle
    return good


def _takes(values: list[str], kind: pa.DataType) -> bool:
    text = "a\n" + "".join('"' + value.replace('"', '""') + '"\n' for value in values)
    return _convert(io.BytesIO(text.encode()), {"a": kind}, quoted=True) is not None


@contextmanager
def _long_values() -> Iterator[None]:
    """Let Python's reader take values of any length, as Arrow's does."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
