"""csv against Python's own reader: what is taken is what that reads, byte for byte, wherever blocks end."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from millrace.core.errors import DataError
from millrace.sources.formats import text
from millrace.sources.formats.tabular import read
from millrace.spec.csv import NONE, Csv

pytestmark = pytest.mark.fuzz
BLOCKS = st.integers(4, 40)
COLUMNS = ("a", "b")
VALUES = st.text(st.sampled_from("ab ,;\"'\\\r\n\tüé€😀0\x00\x85\u2028"), max_size=8) | st.text(max_size=5)


def land(data: bytes, block: int, form: Csv, columns: tuple[str, ...] = COLUMNS) -> pa.Table:
    with tempfile.TemporaryDirectory() as folder, patch.object(text, "BLOCK", block):
        path = Path(folder) / "x.csv"
        path.write_bytes(data)
        return read(path, "x.csv", "csv", columns, {}, lambda column: False, form)


@given(
    st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=6),
    BLOCKS,
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(['"', "'"]),
    st.sampled_from([NONE, "\\"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_is_written_comes_back(
    rows: list[tuple[str, str]],
    block: int,
    end: str,
    quoting: int,
    delimiter: str,
    quote: str,
    escape: str,
    encoding: str,
) -> None:
    # Given values of any kind in any form that Python writes; quoted as needed, its lines end with both
    end = end if quoting == csv.QUOTE_ALL else "\r\n"
    assume(all(c < "\ud800" or c > "\udfff" for row in rows for value in row for c in value))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quotechar=quote, quoting=quoting, lineterminator=end,
                        escapechar=None if escape == NONE else escape, doublequote=escape == NONE)  # fmt: skip
    writer.writerows([COLUMNS, *rows])
    # Then they come back, the empty one as null only where nothing is around it
    form = Csv(delimiter=delimiter, quote=quote, escape=escape, null_values=[], encoding=encoding)
    table = land(out.getvalue().encode(encoding), block, form)
    assert [tuple(row.values()) for row in table.to_pylist()] == rows


@given(
    st.text(st.sampled_from('ab,"\r\n\\'), max_size=30),
    BLOCKS,
    st.booleans(),
)
@example('"a\r\nb",c\n', 6, False)
@example('a,b"c"d\n', 9, False)
@example('"a""b","c\\",d"\n', 9, True)
@example(",\\\r", 4, True)
@example("a,\\\n", 4, True)
def test_what_is_taken_of_any_bytes_is_what_python_reads(body: str, block: int, escaped: bool) -> None:
    form = Csv(null_values=[], escape="\\" if escaped else NONE)
    try:
        made = [list(row.values()) for row in land(("a,b\n" + body).encode(), block, form).to_pylist()]
    except DataError as err:
        # Strict: a reason in words, and a line where it is not the whole file
        assert str(err).startswith("x.csv:")
        assert not any(part in str(err) for part in ("Arrow", "cannot be read as csv"))
        return
    # A line more: an escaped line end at the end of the file is a value to us, an unfinished one to Python
    whole = io.StringIO(body + "\n", newline="")
    expected = list(csv.reader(whole, strict=True, escapechar="\\" if escaped else None))
    assert made == [row for row in expected if row]


@given(st.binary(max_size=60), BLOCKS)
def test_any_bytes_are_read_or_refused(data: bytes, block: int) -> None:
    for start in (b"", b"a,b\n"):
        try:
            land(start + data, block, Csv())
        except DataError as err:
            assert str(err).startswith("x.csv")


@given(st.lists(st.floats() | st.integers(-(2**70), 2**70), min_size=1, max_size=5), BLOCKS)
def test_numbers_are_those_of_python(numbers: list[float], block: int) -> None:
    data = "".join(f"{number!r}\n" for number in ["n", *numbers]).replace("'", "")
    with tempfile.TemporaryDirectory() as folder, patch.object(text, "BLOCK", block):
        path = Path(folder) / "x.csv"
        path.write_text(data)
        try:
            made = read(path, "x.csv", "csv", ("n",), {"n": "number"}, lambda column: False)["n"].to_pylist()
        except DataError as err:
            assert "is infinite" in str(err) and any(abs(number) == float("inf") for number in numbers)
            return
    assert made == [None if number != number else float(number) for number in numbers]
