"""Whatever bytes a JSON file holds: the rows that Python's own reader finds, or a DataError. Nothing else."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millrace.core.errors import DataError
from millrace.sources.formats.columns import TYPES
from millrace.sources.formats.json_exact import read_exactly
from millrace.sources.formats.json_lines import _fast, read_json

pytestmark = pytest.mark.fuzz
WANTED = {name: TYPES[kind] for name, kind in
          (("n", "integer"), ("x", "number"), ("s", "string"), ("b", "boolean"))}  # fmt: skip
KEYS = st.sampled_from([*WANTED, *WANTED, "more", "", "N"])
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**66), 2**66) | st.floats() | st.text(max_size=5)
    | st.sampled_from(["\ud800", "\udc00x", 2**53 + 1, 10**22, 10**400, -0.0])
)  # fmt: skip
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=2) | st.dictionaries(KEYS, v, max_size=2), max_leaves=3)
RIGHT = st.fixed_dictionaries({}, optional={
    "n": st.none() | st.integers(-(2**63), 2**63 - 1), "x": st.none() | st.integers(-(2**53), 2**53) | st.floats(),
    "s": st.none() | st.text(max_size=5), "b": st.none() | st.booleans(), "more": VALUES})  # fmt: skip
OBJECTS = (RIGHT | st.dictionaries(KEYS, VALUES, max_size=4)).map(json.dumps)
BITS = st.sampled_from([
    "null", "{", "}", "[", "]", '"', ",", ":", "NaN", "Infinity", "1e400", "\\ud800", "\0", "\ufeff", "\u2028", "-",
    '{"n": 1}{"n": 2}', '{"n": 1, "n": 2}', '"x": 0x1F', "01",
])  # fmt: skip
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n", " ", ""])
FILES = st.lists(st.tuples(OBJECTS | BITS | st.text(max_size=8), ENDS), max_size=6).map(
    lambda lines: "".join(line + end for line, end in lines).encode("utf-8", "replace")
)


def read(path: Path, data: bytes) -> list[dict[str, Any]] | None:
    """The rows, None where the file is refused."""
    path.write_bytes(data)
    try:
        return read_json(path, "f.json", WANTED, lambda column: True).to_pylist()
    except DataError as err:
        assert str(err).startswith("f.json"), err
        str(err).encode()
        return None


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "f.json"


@given(FILES)
@example(b"null\n")
@example(b'{"n": 1}\0{"n": 2}')
@example(b'\xef\xbb\xbfnull\n{"n": 1}')
def test_any_file_is_read_as_python_reads_it_or_refused(path: Path, data: bytes) -> None:
    rows = read(path, data)
    if rows is None:
        return
    lines = [line for line in data.decode("utf-8-sig").replace("\r", "\n").split("\n") if line.strip(" \t")]
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        delivered = json.loads(line, parse_float=str, parse_int=int)
        for column in WANTED:
            assert same(row[column], delivered.get(column), column), (column, row, line)


def same(value: Any, delivered: Any, column: str) -> bool:
    if delivered is None or value is None or (isinstance(delivered, float) and math.isnan(delivered)):
        return value is None and (delivered is None or isinstance(delivered, float))
    if column == "x":
        return float(delivered) == value and (
            isinstance(delivered, str) or value == delivered or Decimal(repr(value)) == delivered
        )
    return type(value) is type(delivered) and value == delivered


@given(st.lists(RIGHT.map(json.dumps), min_size=1, max_size=5).map("\n".join))
def test_both_readers_read_alike(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    fast = _fast(path, WANTED, None)
    if fast is not None:
        assert fast.to_pylist() == read_exactly(path, "f.json", WANTED, lambda column: True, None).to_pylist()


@given(st.binary(max_size=60) | st.tuples(FILES, st.integers(0), st.binary(min_size=1, max_size=3)).map(
    lambda found: found[0][: found[1] % (len(found[0]) + 1)] + found[2] + found[0][found[1] % (len(found[0]) + 1) :]
))  # fmt: skip
def test_any_bytes_are_read_or_refused(path: Path, data: bytes) -> None:
    read(path, data)
