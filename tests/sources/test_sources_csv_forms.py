"""csv that is not written as RFC 4180 says: read rightly where the source's `csv` says how, else refused by its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from millrace.core.errors import DataError
from millrace.sources.formats import pieces, text
from millrace.sources.formats.tabular import header, read
from millrace.spec.csv import Csv

COLUMNS = ("id", "name", "paid", "ok")
TYPES = {"id": "integer", "paid": "number", "ok": "boolean"}
HEAD = "id,name,paid,ok\n"
ROW = {"id": 1, "name": "Ann", "paid": 1.5, "ok": True}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "delivered"


def land(file: Path, data: str | bytes, public: bool = True, types: Any = None, **form: Any) -> pa.Table:
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read(file, "sales.csv", "csv", COLUMNS, types or TYPES, lambda column: public, Csv(**form))


def rows(file: Path, data: str | bytes, **more: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = land(file, data, **more).to_pylist()
    return made


def problem(file: Path, data: str | bytes, **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        land(file, data, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "form"),
    [
        ("id;name;paid;ok\n1;Ann;1.5;true\n", {"delimiter": ";"}),
        ("id\tname\tpaid\tok\n1\tAnn\t1.5\ttrue\n", {"delimiter": "\t"}),
        ("id|name|paid|ok\n1|Ann|1.5|true\n", {"delimiter": "|"}),
        ("sep=;\r\nid;name;paid;ok\r\n1;Ann;1.5;true\r\n", {"delimiter": ";"}),
        ('"sep=,"\nid,name,paid,ok\n1,Ann,1.5,true\n', {}),
        ("id;name;paid;ok\n1;Ann;1,5;true\n", {"delimiter": ";", "decimal": ","}),
        ('id,name,paid,ok\n1,Ann,"1,5",true\n', {"decimal": ","}),
        ("ID,Name,PAID,Ok\n1,Ann,1.5,TRUE\n", {"header_case": "ignore"}),
        (HEAD + "1,'Ann',1.5,true\n", {"quote": "'"}),
        (HEAD + r"1,\A\n\n,1.5,true".replace(r"\A\n\n", "Ann") + "\n", {"escape": "\\"}),
        ("id,name,paid,ok,\n1,Ann,1.5,true,\n", {}),
        ("id,name,paid,ok,,\n1,Ann,1.5,true,,\n", {}),
        (",id,name,paid,ok\n0,1,Ann,1.5,true\n", {}),
        ("\ufeff" + HEAD + "1,Ann,1.5,True\n", {}),
        (("\ufeff" + HEAD + "1,Ann,1.5,1\n").encode("utf-16-le"), {"encoding": "utf-16"}),
        (("\ufeff" + HEAD + "1,Ann,1.5,1\n").encode("utf-16-be"), {"encoding": "utf-16"}),
        ((HEAD + "1,Ann,1.5,1\n").encode("utf-16-le"), {"encoding": "utf-16-le"}),
        (HEAD + "\n1, Ann,1.5,true\n\n".replace(" Ann", "Ann"), {}),
        (HEAD + " 1,Ann, 1.5 ,true \n", {}),
    ],
)
def test_what_the_source_says_is_read(file: Path, data: str | bytes, form: dict[str, Any]) -> None:
    assert rows(file, data, **form) == [ROW]


@pytest.mark.parametrize(
    ("data", "form", "words"),
    [
        ("id;name;paid;ok\n1;Ann;1.5;true\n", {}, ["sales.csv:1: ", "set csv.delimiter: ';'"]),
        ("id\tname\tpaid\tok\n1\tAnn\t1.5\ttrue\n", {}, ["sales.csv:1: ", r'set csv.delimiter: "\t"']),
        ("ID;Name;Paid;Ok\n1;Ann;1.5;true\n", {}, ["set csv.delimiter: ';', and csv.header_case: ignore"]),
        ("id,name,paid,ok\n1,Ann,1.5,true\n", {"delimiter": ";"}, ["set csv.delimiter: ','"]),
        ("sep=;\nid;name;paid;ok\n1;Ann;1.5;true\n", {}, ["sales.csv:1: ", "set csv.delimiter: ';'"]),
        ("sep=\t\nid\tname\tpaid\tok\n1\tAnn\t1.5\ttrue\n", {}, ["sales.csv:1: ", r'set csv.delimiter: "\t"']),
        ("ID,NAME,PAID,OK\n1,Ann,1.5,true\n", {}, ["sales.csv:1: ", "set csv.header_case: ignore"]),
        ("id,name,PAID,ok\n1,Ann,1.5,true\n", {}, ["no column 'paid'", "set csv.header_case: ignore"]),
        ("id,ID,name,paid,ok\n1,1,Ann,1.5,true\n", {"header_case": "ignore"}, ["names a column twice: id"]),
        (HEAD + '1,"A ""x"" B",1.5,true\n2,"A \\"x\\" B",1.5,true\n', {}, ["sales.csv:3: ", "set csv.escape: '\\'"]),
        (HEAD + '1,"A\\"",1.5,true\n2,B,1.5,true\n', {}, ["sales.csv:2: ", "set csv.escape: '\\'"]),
        (HEAD + '1,A \\"x\\" B,1.5,true\n', {}, ["sales.csv:2: ", "set csv.escape: '\\'"]),
        (HEAD + "1,Ann,1.5,true\n" + '2,5" pipe,1.5,true\n', {}, ["sales.csv:3: ", "set csv.quote: none"]),
        (HEAD + r"1,C:\new,1.5,true" + "\n", {"escape": "\\"}, ["sales.csv:2: the escape stands before", "csv.escape"]),
        (HEAD + "1,Ann,1.5,true,\n", {}, ["sales.csv:2: the line has 5 fields, the header 4", "ends with a delimiter"]),
        (HEAD + "1,Ann,1.5,yes\n", {}, ["sales.csv:2: column 'ok' is not of type boolean", "True, TRUE, 1"]),
        (HEAD + "0x1F,Ann,1.5,1\n", {}, ["sales.csv:2: column 'id' is not of type integer", "'0x1F'"]),
        (HEAD + "0X1f,Ann,1.5,1\n", {}, ["sales.csv:2: column 'id' is not of type integer"]),
        (HEAD + '1,Ann,"1,5",1\n', {}, ["sales.csv:2: column 'paid' is not of type number", "set csv.decimal: ','"]),
        (HEAD + "1,Ann,1.5,1\n", {"decimal": ","}, ["sales.csv:2: column 'paid'", "set csv.decimal: '.'"]),
        (HEAD + "1,Ann,1.234,1\n", {"decimal": ","}, ["sales.csv:2: column 'paid'"]),
        (HEAD + "1,Ann,NA,1\n", {}, ["sales.csv:2: column 'paid'", "set csv.null_values: ['', 'NA']"]),
        (HEAD + "1,Ann,,1\n", {"null_values": ["NA"]}, ["sales.csv:2: column 'paid'", "csv.null_values: ['NA', '']"]),
        (HEAD + "1,Ann,1.5,1\n2,Ann,-Infinity,1\n", {}, ["sales.csv:3: column 'paid' is infinite"]),
        (HEAD + "1,Ann,1e400,1\n", {}, ["sales.csv:2: column 'paid' is infinite, or beyond what a number can hold"]),
        ((HEAD + "1,Ann,1.5,1\n").encode("utf-16"), {}, ["sales.csv:1: not UTF-8", "set csv.encoding: utf-16"]),
        ((HEAD + "1,Ann,1.5,1\n").encode("utf-16-le"), {}, ["set csv.encoding: utf-16-le"]),
        ((HEAD + "1,Ann,1.5,1\n2,Köln,1,1\n").encode("latin-1"), {}, ["sales.csv:3: not UTF-8", "csv.encoding"]),
        (HEAD + "1,Köln,1.5,1\n", {"encoding": "ascii"}, ["sales.csv:2: not ascii text"]),
        ("\ufeff" + HEAD + "1,Ann,1.5,1\n", {"encoding": "latin-1"}, ["sales.csv:1: ", "UTF-8", "csv.encoding"]),
        ((HEAD + "1,Ann,1.5,1").encode("utf-16")[:-1], {"encoding": "utf-16"}, ["sales.csv:2: not utf-16 text"]),
    ],
)  # fmt: skip
def test_another_form_is_refused_by_file_line_and_key(
    file: Path, data: str | bytes, form: dict[str, Any], words: list[str]
) -> None:
    message = problem(file, data, **form)
    assert all(word in message for word in words), message


def test_only_an_empty_field_without_quotes_is_null(file: Path) -> None:
    # Given Namibia, an empty text, and a number that is quoted where it is absent too
    made = rows(file, HEAD + '1,NA,,\n2,"",2.5,\n"3",,"",""\n')
    assert [row["name"] for row in made] == ["NA", "", None]
    assert [row["paid"] for row in made] == [None, 2.5, None]
    assert [row["ok"] for row in made] == [None, None, None]


def test_null_words_are_those_of_the_source_and_stand_in_no_quotes(file: Path) -> None:
    data = HEAD + '1,NA,NA,NA\n2,"NA","NA","NA"\n3,-,-,-\n4,,-,-\n'
    assert {row["paid"] for row in rows(file, HEAD + '1,"Ann",1,1\n', null_values=[])} == {1.0}
    made = rows(file, data, null_values=["NA", "-"])
    assert [row["name"] for row in made] == [None, "NA", None, ""]
    assert {row["paid"] for row in made} == {row["ok"] for row in made} == {None}


@pytest.mark.parametrize("word", ["NaN", "nan", "-NAN"])
def test_nan_is_null(file: Path, word: str) -> None:
    table = land(file, HEAD + f"1,Ann,{word},1\n2,{word},2.5,1\n")
    assert table["paid"].to_pylist() == [None, 2.5]
    assert table["name"].to_pylist() == ["Ann", word]


def test_the_value_of_a_private_column_is_not_shown_in_a_hint(file: Path) -> None:
    assert "NA'" not in problem(file, HEAD + "1,Ann,NA,1\n", public=False)
    assert "csv.null_values" in problem(file, HEAD + "1,Ann,NA,1\n", public=False)


def test_escapes_take_the_meaning_of_what_is_special(file: Path) -> None:
    data = HEAD + '1,"A ""x"" \\"y\\" \\\\",1.5,1\n2,a\\,b\\\nc\\"d,1,1\n' + "3,\\\\,1,1\n"
    assert [row["name"] for row in rows(file, data, escape="\\")] == ['A "x" "y" \\', 'a,b\nc"d', "\\"]


def test_nothing_is_quoted_where_the_source_says_so(file: Path) -> None:
    data = HEAD + '1,5" pipe,1.5,1\n2,"A,1,1\n3,B",1,1\n'
    assert [row["name"] for row in rows(file, data, quote="none")] == ['5" pipe', '"A', 'B"']


def test_an_encoding_of_one_byte_is_read_as_declared(file: Path) -> None:
    data = (HEAD + "1,Köln €,1.5,1\n").encode("windows-1252")
    assert rows(file, data, encoding="windows-1252")[0]["name"] == "Köln €"


def test_ignored_columns_have_names(file: Path) -> None:
    file.write_text("ID,Extra,name,paid,ok,\n1,x,Ann,1,1,\n")
    form = Csv(header_case="ignore")
    assert header(file, "sales.csv", "csv", form, COLUMNS) == ["id", "Extra", "name", "paid", "ok", ""]


@pytest.mark.parametrize("size", range(4, 60))
def test_a_value_with_line_ends_comes_back_byte_for_byte(
    file: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given values whose line ends lie where a block ends, whatever its size
    monkeypatch.setattr(text, "BLOCK", size)
    values = ["a\r\nb", "\r\n", "\r", "\n\r\n\r", 'x"\r\n"y', "é\r\nü", ",\r\n,"]
    quoted = ['"' + value.replace('"', '""') + '"' for value in values]
    data = HEAD.replace("\n", "\r\n") + "".join(f"{n},{value},1.5,1\r\n" for n, value in enumerate(quoted))
    assert [row["name"] for row in rows(file, data)] == values


def test_a_quote_that_is_never_closed_takes_no_more_memory_than_a_record_may(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK", 64)
    monkeypatch.setattr(pieces, "LONGEST", 1024)
    data = HEAD + '1,Ann,1,1\n2,"Ann,1,1\n' + "3,Ann,1,1\n" * 500
    assert "sales.csv:3: a line of more than 0 MiB begins here" in problem(file, data)
    assert land(file, HEAD + f'1,"{"x" * 900}",1,1\n').num_rows == 1


def test_what_stands_before_the_first_mistake_is_looked_at_first(file: Path) -> None:
    data = HEAD + "1,Ann,oops,1\n2,Ann,1\n" + '3,"Ann"x,1,1\n'
    assert problem(file, data).startswith("sales.csv:2: column 'paid'")
    data = data.replace("oops", "1")
    assert problem(file, data).startswith("sales.csv:3: the line has 3 fields")
    data = data.replace("2,Ann,1\n", "2,Ann,1,1\n")
    assert problem(file, data).startswith("sales.csv:4: a quote")


def test_carriage_returns_alone_end_lines_too(file: Path) -> None:
    data = (HEAD + "1,Ann,1.5,1\n").replace("\n", "\r")
    assert rows(file, data) == [ROW]
    assert problem(file, data + "2,Ann,x,1\r").startswith("sales.csv:3: column 'paid'")


@pytest.mark.parametrize("block", [4, 25, 26, 27, 28, 4096])
def test_a_line_end_of_the_other_kind_is_no_line_end(file: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given values with a line end and no quotes, which would be two rows each
    monkeypatch.setattr(text, "BLOCK", block)
    data = HEAD + "1,Ann,1,1\r\n2,Ann,1,1\r3,Ann,1,1\n"
    assert "sales.csv:3: CR stands alone in a file whose lines end with LF" in problem(file, data)
    assert "sales.csv:2: LF stands alone" in problem(file, "id,name,paid,ok\r1,Ann,1,1\n2,Ann,1,1\r")
    assert "CR stands alone" in problem(file, HEAD + "1,Ann,1,1\r")
