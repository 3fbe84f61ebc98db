"""csv: what Arrow takes is taken, what it would lose or quote is named by line, whatever the reason."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from millrace.core.errors import DataError
from millrace.sources.formats import text as text_blocks
from millrace.sources.formats.tabular import header, read

COLUMNS = ("id", "name", "paid", "when")
TYPES = {"id": "integer", "paid": "number", "when": "timestamp"}
NOON = "2024-01-01T12:00:00Z"


def land(path: Path, text: str | bytes, public: set[str] | None = None, **more: Any) -> pa.Table:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    known = {"columns": COLUMNS, "types": TYPES, **more}
    return read(path, "sales.csv", "csv", public=lambda column: column in (public or set()), **known)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "delivered"


def rows(count: int, start: int = 1) -> str:
    return "".join(f"{n},Ann,1.5,{NOON}\n" for n in range(start, start + count))


HEAD = "id,name,paid,when\n"


def test_nulls_zones_and_quotes(file: Path) -> None:
    table = land(file, '\ufeffid,name,paid,when\n1,"Ann, ""A""\nB",,2024-01-01T13:00:00+01:00\n2,,"",\n')
    assert table.schema.field("when").type == pa.timestamp("us", "UTC")
    assert table.to_pylist() == [
        {"id": 1, "name": 'Ann, "A"\nB', "paid": None, "when": datetime(2024, 1, 1, 12, tzinfo=UTC)},
        {"id": 2, "name": None, "paid": None, "when": None},
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_of_both_worlds_and_a_missing_last_one(file: Path, end: str) -> None:
    text = (HEAD + rows(3)).replace("\n", end)
    assert land(file, text).num_rows == land(file, text.removesuffix(end)).num_rows == 3


def test_blank_lines_are_no_rows(file: Path) -> None:
    assert land(file, HEAD + rows(2) + "\n" + rows(1, 3).replace("Ann", '"Ann"') + "\n\n").num_rows == 3


def test_declared_columns_only_in_the_specs_order(file: Path) -> None:
    table = land(file, 'more,when,paid,name,id,"and, more"\n' + f"x,{NOON},1,Ann,1,y\n")
    assert table.column_names == list(COLUMNS)
    assert header(file, "sales.csv", "csv") == ["more", "when", "paid", "name", "id", "and, more"]


@pytest.mark.parametrize("rest", [0, 400_000])
def test_a_quote_that_is_never_closed_swallows_no_rows(file: Path, rest: int) -> None:
    # Given a stray quote in line 3, after which Arrow alone sees one long value, or rows lost at a block's border
    with pytest.raises(DataError, match=r"^sales\.csv:3: a quote that opens in this line is never closed"):
        land(file, HEAD + rows(1) + f'2,"Ann,1.5,{NOON}\n' + rows(rest, 3))


def test_two_stray_quotes_swallow_no_rows(file: Path) -> None:
    # Given an even number of quotes, and as many fields in the swallowed row as in the header
    text = HEAD + f'1,"Ann,1.5,{NOON}\n' + rows(3, 2) + f'5,"Bob",1.5,{NOON}\n' + rows(1, 6)
    with pytest.raises(DataError, match=r"^sales\.csv:2: a quote stands where none may"):
        land(file, text)


def test_a_value_may_have_lines_wherever_a_block_ends(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_blocks, "BLOCK", 4096)
    text = HEAD + "".join(f'{n},"Ann\n{"x" * (n % 97)}",1.5,{NOON}\n' for n in range(2000))
    assert land(file, text)["id"].to_pylist() == list(range(2000))


@pytest.mark.parametrize("bad", [1, 2, 49_999, 50_000, 50_001, 99_999])
def test_the_line_of_a_bad_value_is_exact(file: Path, bad: int) -> None:
    lines = rows(100_000).splitlines(keepends=True)
    lines[bad - 1] = f"{bad},Ann,oops,{NOON}\n"
    with pytest.raises(DataError, match=rf"^sales\.csv:{bad + 1}: column 'paid' is not of type number"):
        land(file, HEAD + "".join(lines))


@pytest.mark.parametrize("value", ["1_0", "+5", "1e3", "99999999999999999999", "5.0", " x", "٣"])
def test_what_arrow_does_not_take_for_an_integer_is_named(file: Path, value: str) -> None:
    with pytest.raises(DataError, match=r"^sales\.csv:3: column 'id' is not of type integer"):
        land(file, HEAD + rows(1) + f"{value},Ann,1,{NOON}\n")


@pytest.mark.parametrize(
    "value",
    ["20240101T120000Z", "2024-13-01T00:00:00Z", "2024-02-30T00:00:00Z", "2024-01-01Z", "1704110400", "2024-01-01T24Z",
     "2024-01-01T12:00:00+24:00", "2024-01-01t12:00:00z"],
)  # fmt: skip
def test_a_time_needs_iso_8601(file: Path, value: str) -> None:
    with pytest.raises(DataError, match=r"^sales\.csv:2: column 'when' is not of type timestamp .*Z or an offset"):
        land(file, HEAD + f"1,Ann,1,{value}\n", public={"when"})


def test_the_first_of_several_bad_values_is_named(file: Path) -> None:
    text = HEAD + rows(3) + f"4,Ann,1,never\n5,Ann,oops,{NOON}\n6,Ann\n"
    with pytest.raises(DataError, match=r"^sales\.csv:5: column 'when'"):
        land(file, text)


def test_a_line_is_that_of_the_file_though_values_have_lines(file: Path) -> None:
    with pytest.raises(DataError, match=r"^sales\.csv:6: column 'id'"):
        land(file, HEAD + f'1,"A\nB\nC",1,{NOON}\n\nx,Ann,1,{NOON}\n')


def test_only_public_values_are_quoted(file: Path) -> None:
    text = HEAD + f"hunter2,Ann,1,{NOON}\n"
    with pytest.raises(DataError) as shown:
        land(file, text, public={"id"})
    assert "hunter2" in str(shown.value)
    with pytest.raises(DataError) as hidden:
        land(file, text, public={"name", "paid", "when"})
    cause = hidden.value.__cause__, hidden.value.__context__
    assert "hunter2" not in str(hidden.value) + str(cause)
    assert "'id' is not of type integer" in str(hidden.value)


def test_a_file_without_a_header_shows_no_value(file: Path) -> None:
    for first in ("1,Smith,9,x\n", "Smith,Smith,nome,x\n"):
        with pytest.raises(DataError, match=r"^sales\.csv:1: none of the declared columns") as caught:
            land(file, first + rows(2))
        assert "Smith" not in str(caught.value) and "nome" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "sales.csv: the file has a header but no rows"),
        (HEAD + "\n\n", "sales.csv: the file has a header but no rows"),
        (HEAD + rows(2) + "3,Ann", "sales.csv:4: the line has 2 fields, the header 4. The file ends here"),
        (HEAD + rows(1) + "2,Ann\n" + rows(1, 3), "sales.csv:3: the line has 2 fields, the header 4"),
        (HEAD + rows(1) + f"2,Ann,1,{NOON},more\n", "sales.csv:3: the line has 5 fields, the header 4"),
        ("id,nam,paid,when\n" + rows(1), "sales.csv:1: the header has no column 'name'; did you mean 'nam'?"),
        ("id,paid\n1,2\n", "sales.csv:1: the header has no column 'name', 'when'"),
        ("id,name,paid,when,id\n", "sales.csv:1: the header names a column twice: id"),
        ("id,name,paid,when,x,x\n", "sales.csv:1: the header names a column twice: x"),
        ("\n" + HEAD + rows(1), "sales.csv:1: none of the declared columns is named; first of them: 'id'"),
    ],
)
def test_broken_structure_is_named(file: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        land(file, text)
    assert str(caught.value).startswith(message), caught.value


def test_a_line_in_the_middle_is_not_said_to_be_cut_off(file: Path) -> None:
    with pytest.raises(DataError) as caught:
        land(file, HEAD + "2,Ann\n" + rows(1, 3))
    assert "cut off" not in str(caught.value)


@pytest.mark.parametrize(
    ("start", "hint"),
    [(b"\x1f\x8b\x08\x00", "gzip"), (b"\xff\xfei\x00", "UTF-16"), (b"\xe9", "Ask for the file in UTF-8")],
)
def test_what_is_no_text_is_guessed_at(file: Path, start: bytes, hint: str) -> None:
    with pytest.raises(DataError, match=rf"^sales\.csv:1: not UTF-8 text\. .*{hint}"):
        land(file, start + b"x" * 100)


def test_the_line_of_a_wrong_byte_is_exact_in_a_large_file(file: Path) -> None:
    # Given a letter of two bytes cut apart by the border of a block that is read, and a wrong byte far behind
    size = text_blocks.BLOCK
    head = b"id,name\n" + b"1," + b"x" * (size - 11) + "é\n".encode()
    text = head + b"2,Ann\n" * 1_000_000 + b"3,K\xf6ln\n"
    with pytest.raises(DataError, match=r"^sales\.csv:1000003: not UTF-8 text"):
        land(file, text, columns=("id", "name"))
