"""json, Parquet and compressed files: the declared columns, or a word about what is wrong and where."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.core.errors import DataError
from millrace.sources.formats.tabular import header, read
from millrace.sources.unpack import unpack

COLUMNS = ("id", "name", "paid", "ok", "when")
TYPES = {"id": "integer", "paid": "number", "ok": "boolean", "when": "timestamp"}
ROW = {"id": 1, "name": "Ann", "paid": 1.5, "ok": True, "when": "2024-01-01T13:00:00+01:00"}
READ = {"id": 1, "name": "Ann", "paid": 1.5, "ok": True, "when": datetime(2024, 1, 1, 12, tzinfo=UTC)}


def read_json(path: Path, *rows: dict[str, Any] | str, end: str = "\n", public: bool = False) -> pa.Table:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + end)
    return read(path, "sales.json", "json", COLUMNS, TYPES, lambda column: public)


def read_parquet(path: Path, table: pa.Table) -> pa.Table:
    pq.write_table(table, path)
    return read(path, "sales.parquet", "parquet", COLUMNS, TYPES, lambda column: True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "delivered"


def test_json_lines(file: Path) -> None:
    table = read_json(file, {"more": [1], **ROW}, "", {"id": 2, "when": None})
    assert table.to_pylist() == [READ, {"id": 2, "name": None, "paid": None, "ok": None, "when": None}]
    assert table.column_names == list(COLUMNS)
    assert header(file, "sales.json", "json") == ["more", *COLUMNS]


def test_a_misspelt_json_key_is_no_column_of_nulls(file: Path) -> None:
    wrong = {("nome" if key == "name" else key): value for key, value in ROW.items()}
    with pytest.raises(DataError, match=r"^sales\.json: the header has no column 'name'; did you mean 'nome'"):
        read_json(file, wrong, wrong)


def test_a_json_column_of_nulls_is_one(file: Path) -> None:
    assert read_json(file, {**ROW, "name": None})["name"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 1', "sales.json:2: the line is no JSON object"),
        ("[]", "sales.json:2: the line is no JSON object (it is an array). One object in each line"),
        ("null", "sales.json:2: the line is no JSON object (it is null). One object in each line"),
        ("1", "sales.json:2: the line is no JSON object (it is a number)"),
        ('"a"', "sales.json:2: the line is no JSON object (it is a text)"),
        ("\ufeff{}", "sales.json:2: the line is no JSON object (Expecting value, at character 1)"),
        ('{"id": 1} {"id": 2}', "sales.json:2: the line is no JSON object (it ends at character 10, and more stands"),
        ('{"id": 1}\0{"id": 2}', "sales.json:2: the line is no JSON object (it ends at character 9, and more stands"),
        (
            '{"id":\n1}',
            "sales.json:2: the line is no JSON object (it goes on in the next line). One object in each line",
        ),
        ('{"more": ' + "[" * 100_000 + "}", "sales.json:2: the line is no JSON object (its values nest too deep)"),
        ('{"id": 1, "id": 2}', "sales.json:2: column 'id' stands twice in the object"),
        ('{"id": null, "\\u0069d": 2}', "sales.json:2: column 'id' stands twice in the object"),
        ('{"paid": 1e400}', "sales.json:2: column 'paid' is infinite"),
        ('{"paid": -Infinity}', "sales.json:2: column 'paid' is infinite"),
        ('{"paid": ' + "9" * 5000 + "}", "sales.json:2: column 'paid' is infinite"),
        (
            '{"paid": 9007199254740993}',
            "sales.json:2: column 'paid' is a whole number that a float does not hold exactly",
        ),
        ('{"paid": "NaN"}', "sales.json:2: column 'paid' is not of type number"),
        ('{"id": Infinity}', "sales.json:2: column 'id' is not of type integer"),
        ('{"id": 1e2}', "sales.json:2: column 'id' is not of type integer"),
        ('{"name": "\\ud800"}', "sales.json:2: column 'name' holds half of a surrogate pair"),
        ('{"name": "\\udc00 and more"}', "sales.json:2: column 'name' holds half of a surrogate pair"),
        ('{"name": {"first": "Ann"}}', "sales.json:2: column 'name' is not of type string"),
        ('{"id": "1"}', "sales.json:2: column 'id' is not of type integer"),
        ('{"id": 1.5}', "sales.json:2: column 'id' is not of type integer"),
        ('{"id": 99999999999999999999}', "sales.json:2: column 'id' is not of type integer"),
        ('{"id": true}', "sales.json:2: column 'id' is not of type integer"),
        ('{"name": 5}', "sales.json:2: column 'name' is not of type string"),
        ('{"paid": "1"}', "sales.json:2: column 'paid' is not of type number"),
        ('{"ok": 1}', "sales.json:2: column 'ok' is not of type boolean"),
        ('{"when": "2024-01-01T12:00:00"}', "sales.json:2: column 'when' has no time zone"),
        ('{"when": 1704110400}', "sales.json:2: column 'when' is not of type timestamp"),
    ],
)
def test_a_broken_json_line_is_named(file: Path, line: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_json(file, ROW, line, ROW)
    assert str(caught.value).startswith(message), caught.value
    assert "cut off" not in str(caught.value)


@pytest.mark.parametrize("begins", ["null", "\n\nnull", "  null  ", "null null", "true", "[null]"])
def test_a_json_file_that_begins_with_no_object(file: Path, begins: str) -> None:
    # pyarrow's reader ends the process on a file that begins with null
    line = 1 + begins.count("\n")
    with pytest.raises(DataError, match=rf"^sales\.json:{line}: the line is no JSON object"):
        read_json(file, begins, ROW)


def test_nan_in_json_is_null_as_python_writes_it(file: Path) -> None:
    rows = [dict.fromkeys(ROW, float("nan")), {**ROW, "paid": float("nan")}, ROW]
    assert read_json(file, *rows[1:]).to_pylist() == [{**READ, "paid": None}, READ]
    assert read_json(file, *rows).to_pylist() == [dict.fromkeys(ROW), {**READ, "paid": None}, READ]


@pytest.mark.parametrize(
    "number", ["1e22", "1E+22", "9007199254740992", "12345678901234567000", "-0.0", "1e-400", "0.1"]
)
def test_a_json_number_that_a_float_gives_back_is_taken(file: Path, number: str) -> None:
    assert read_json(file, ROW, f'{{"paid": {number}}}')["paid"].to_pylist() == [1.5, float(number)]


def test_json_lines_of_any_length_ends_and_further_keys(file: Path) -> None:
    long = {**ROW, "name": "x" * 5_000_000}
    assert read_json(file, "\ufeff" + json.dumps(ROW) + "\r", long, " \t").num_rows == 2
    deep = '{"id": 7, "more": ' + '{"a": [' * 5000 + "]}" * 5000 + "}"
    assert read_json(file, ROW, deep)["id"].to_pylist() == [1, 7]
    assert read_json(file, ROW, '{"id": 7, "more": 1, "more": 2, "\\ud800": 1e400}')["id"].to_pylist() == [1, 7]


def test_the_first_wrong_json_line_is_the_one_that_is_named(file: Path) -> None:
    with pytest.raises(DataError, match=r"^sales\.json:2: column 'id'"):
        read_json(file, ROW, {**ROW, "id": "x"}, {**ROW, "paid": "x"}, "{")
    with pytest.raises(DataError, match=r"^sales\.json:3: column 'ok'"):
        read_json(file, ROW, "", {**ROW, "ok": 0}, {**ROW, "id": "x"})


def test_a_json_file_that_was_cut_off(file: Path) -> None:
    with pytest.raises(DataError, match=r"^sales\.json:2: .*probably cut off"):
        read_json(file, ROW, json.dumps(ROW)[:20], end="")


def test_a_json_array_is_not_taken_for_lines(file: Path) -> None:
    file.write_text(json.dumps([ROW, ROW], indent=1))
    with pytest.raises(DataError, match=r"^sales\.json:1: .*One object in each line"):
        read(file, "sales.json", "json", COLUMNS, TYPES, lambda column: True)


def test_json_without_rows(file: Path) -> None:
    with pytest.raises(DataError, match=r"^sales\.json: the file has no rows"):
        read_json(file, "", "")


def test_only_public_json_values_are_quoted(file: Path) -> None:
    for public in (True, False):
        with pytest.raises(DataError) as caught:
            read_json(file, {**ROW, "paid": "hunter2"}, public=public)
        assert ("hunter2" in str(caught.value)) is public
        assert "hunter2" not in str(caught.value.__context__)


def parquet(**columns: pa.Array) -> pa.Table:
    return pa.table({**{k: pa.array([v]) for k, v in READ.items()}, **columns})


def test_parquet_of_other_widths_is_taken(file: Path) -> None:
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    table = parquet(
        id=pa.array([1], pa.int32()),
        name=pa.array(["Ann"]).dictionary_encode(),
        paid=pa.array([Decimal("1.5")]),
        when=pa.array([noon], pa.timestamp("ns", "Europe/Rome")),
        more=pa.array([1]),
    )
    made = read_parquet(file, table)
    assert made.to_pylist() == [READ]
    assert [str(kind) for kind in made.schema.types] == ["int64", "string", "double", "bool", "timestamp[us, tz=UTC]"]


def test_parquet_that_pandas_wrote(file: Path) -> None:
    # Given integers that became floats for a null's sake, an object column of nulls, and times with nanoseconds
    nanoseconds = pa.array([1704110400_000_000_001, None], pa.timestamp("ns", "UTC"))
    table = pa.table({"id": [1.0, None], "name": pa.nulls(2), "paid": [1, 2], "ok": [True, None], "when": nanoseconds})
    assert read_parquet(file, table).to_pylist() == [
        {**READ, "name": None, "paid": 1.0},
        {"id": None, "name": None, "paid": 2.0, "ok": None, "when": None},
    ]


@pytest.mark.parametrize(
    ("column", "values", "given"),
    [
        ("when", pa.array([datetime(2024, 1, 1)], pa.timestamp("us")), "timestamp[us]"),
        ("when", pa.array([1704110400]), "int64"),
        ("when", pa.array([date(2024, 1, 1)]), "date32[day]"),
        ("when", pa.array(["yesterday"]), "string"),
        ("when", pa.array([2**50], pa.timestamp("s", "UTC")), "timestamp[ms, tz=UTC]"),
        ("when", pa.array([2**62], pa.timestamp("ms", "UTC")), "timestamp[ms, tz=UTC]"),
        ("when", pa.array([2**62], pa.timestamp("us", "UTC")), "timestamp[us, tz=UTC]"),
        ("id", pa.array([1.5]), "double"),
        ("id", pa.array([2.0**53]), "double"),
        ("id", pa.array([2.0**24], pa.float32()), "float"),
        ("id", pa.array([float("inf")]), "double"),
        ("id", pa.array([Decimal(2**63)], pa.decimal128(38, 0)), "decimal128(38, 0)"),
        ("id", pa.array([Decimal("1.50")]), "decimal128(3, 2)"),
        ("id", pa.array([[1]]), "list<element: int64>"),
        ("paid", pa.array([float("-inf")]), "double"),
        ("paid", pa.array([float("inf")], pa.float16()), "halffloat"),
        ("paid", pa.array([2**53 + 1]), "int64"),
        ("paid", pa.array([2**63 - 1]), "int64"),
        ("paid", pa.array([2**64 - 1], pa.uint64()), "uint64"),
        ("paid", pa.array([Decimal(2**53 + 1)], pa.decimal128(38, 0)), "decimal128(38, 0)"),
        ("name", pa.array([{"first": "Ann"}]), "struct<first: string>"),
        ("name", pa.array([b"Ann"]), "binary"),
        ("name", pa.array([b"\xff"]).view(pa.string()), "string"),
        ("id", pa.array([2**63], pa.uint64()), "uint64"),
        ("id", pa.array(["1"]), "string"),
        ("name", pa.array([5]), "int64"),
        ("ok", pa.array([1]), "int64"),
    ],
)
def test_parquet_of_another_type_is_refused(file: Path, column: str, values: pa.Array, given: str) -> None:
    with pytest.raises(DataError, match=rf"^sales\.parquet: column '{column}'") as caught:
        read_parquet(file, parquet(**{column: values}))
    assert f"(given: '{given}')" in str(caught.value)
    assert "yesterday" not in str(caught.value)


def test_parquet_of_numbers_that_another_type_holds_exactly(file: Path) -> None:
    large, nan = 2**60, float("nan")
    table = parquet(id=pa.array([Decimal(large + 1)], pa.decimal128(38, 0)), paid=pa.array([large]))
    assert read_parquet(file, table).to_pylist() == [{**READ, "id": large + 1, "paid": 2.0**60}]
    table = parquet(id=pa.array([nan]), paid=pa.array([Decimal("0.1")], pa.decimal128(38, 18)))
    assert read_parquet(file, table).to_pylist() == [{**READ, "id": None, "paid": 0.1}]
    table = parquet(id=pa.array([2.0**53 - 1]).dictionary_encode(), paid=pa.array([nan], pa.float32()))
    assert read_parquet(file, table).to_pylist() == [{**READ, "id": 2**53 - 1, "paid": None}]


def test_the_row_of_a_parquet_value_that_is_refused_is_named(file: Path) -> None:
    pq.write_table(pa.table({"id": [1.0, 2.0, 1e300]}), file, row_group_size=2)
    with pytest.raises(DataError, match=r"column 'id' is a float of 2\^53 or more, .* in row 3 .*integers or decimals"):
        read(file, "sales.parquet", "parquet", ["id"], TYPES, lambda column: True)


def test_a_parquet_time_of_nanoseconds_stays_in_its_day(file: Path) -> None:
    pq.write_table(pa.table({"when": pa.array([-1], pa.timestamp("ns", "UTC"))}), file)
    made = read(file, "sales.parquet", "parquet", ["when"], TYPES, lambda column: True)
    assert made["when"].to_pylist() == [datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]


def test_int96_needs_a_declared_zone_and_does_not_wrap(file: Path) -> None:
    late = datetime(9999, 12, 31, 12)
    pq.write_table(pa.table({"when": pa.array([late], pa.timestamp("us"))}), file, use_deprecated_int96_timestamps=True)
    with pytest.raises(DataError, match=r"no time zone \(given: 'INT96'\).*timezone.*Spark, Hive and Impala"):
        read(file, "sales.parquet", "parquet", ["when"], TYPES, lambda column: True)
    made = read(file, "sales.parquet", "parquet", ["when"], TYPES, lambda column: True, timezone="UTC")
    assert made["when"].to_pylist() == [late.replace(tzinfo=UTC)]


def test_parquet_columns_are_taken_by_their_whole_names(file: Path) -> None:
    pq.write_table(pa.table({"a": [{"b": "nested"}], "a.b": ["flat"]}), file)
    assert read(file, "f.parquet", "parquet", ["a.b"], {}, lambda column: True).to_pylist() == [{"a.b": "flat"}]
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), file)
    with pytest.raises(DataError, match="names a column twice: a"):
        read(file, "f.parquet", "parquet", ["a"], {}, lambda column: True)


def test_parquet_with_damaged_rows(file: Path) -> None:
    pq.write_table(pa.table({k: [v] * 5000 for k, v in READ.items()}), file, compression="zstd")
    whole = bytearray(file.read_bytes())
    whole[20:200] = bytes(180)
    file.write_bytes(whole)
    with pytest.raises(DataError, match=r"^sales\.parquet: the file is damaged"):
        read(file, "sales.parquet", "parquet", COLUMNS, TYPES, lambda column: True)


def test_parquet_without_rows_or_columns(file: Path) -> None:
    with pytest.raises(DataError, match=r"^sales\.parquet: the file has no rows"):
        read_parquet(file, parquet().slice(0, 0))
    with pytest.raises(DataError, match=r"no column 'paid'; did you mean 'paied'"):
        read_parquet(file, parquet().rename_columns(["id", "name", "paied", "ok", "when"]))


def test_a_zip_of_any_method_is_unpacked(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / f"sales{method}.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.mkdir("folder")
            archive.writestr("folder/sales.csv", "id\n1\n")
        assert unpack(path, "zip").read_text() == "id\n1\n"


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_with_damaged_content_is_named(tmp_path: Path, method: int) -> None:
    path = tmp_path / "sales.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("sales.csv", "".join(f"{n},{n * n % 97}\n" for n in range(5000)))
    whole = bytearray(path.read_bytes())
    whole[60:400] = bytes(340)
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"^sales\.zip: the file is not whole, or not zip"):
        unpack(path, "zip")


@pytest.mark.parametrize("missing", [1, 5, 9, 30])
def test_a_gzip_cut_anywhere_is_named(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "sales.csv.gz"
    path.write_bytes(gzip.compress(b"".join(b"%d,%d\n" % (n, n * n % 97) for n in range(999)))[:-missing])
    with pytest.raises(DataError, match=r"^sales\.csv\.gz: the file is not whole, or not gzip"):
        unpack(path, "gzip")


@pytest.mark.parametrize(
    ("data", "compression", "message"),
    [
        (b"", "none", "the file is empty"),
        (b"", "gzip", "the file is empty"),
        (gzip.compress(b"", mtime=0), "gzip", "the file inside is empty"),
        (b"id\n1\n", "gzip", "not whole, or not gzip"),
        (bz2.compress(b"id\n1\n"), "gzip", "not whole, or not gzip"),
        (lzma.compress(b"id\n1\n"), "zip", "not whole, or not zip"),
    ],
)
def test_a_file_that_is_not_what_the_spec_says(tmp_path: Path, data: bytes, compression: str, message: str) -> None:
    path = tmp_path / "sales.bin"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        unpack(path, compression)


DEBRIS = ["__MACOSX/._sales.csv", "__MACOSX/folder/x", ".DS_Store", "folder/.DS_Store", "._sales.csv", "Thumbs.db"]


def test_what_macos_and_windows_lay_beside_files_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "sales.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in ["folder/sales.csv", *DEBRIS]:
            archive.writestr(member, "id\n1\n" if member == "folder/sales.csv" else b"\0")
    assert unpack(path, "zip").read_text() == "id\n1\n"


@pytest.mark.parametrize(
    ("places", "byte", "message"),
    [
        ((6, 8), 1, r"the zip is encrypted\. Ask for it without a password"),
        ((8, 10), 9, r"the zip is packed with Deflate64, .*Windows packs files above 2 GB so; ask for it packed with"),
        ((8, 10), 93, r"the zip is packed with Zstandard, .*Ask for it packed with Deflate, or as gzip"),
        ((8, 10), 77, r"the zip is packed with method 77, "),
    ],
)
def test_a_zip_that_needs_a_password_or_another_program_is_called_so(
    tmp_path: Path, places: tuple[int, int], byte: int, message: str
) -> None:
    # Given a zip whose headers, of the file and in the directory at its end, say how it is packed
    path = tmp_path / "sales.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sales.csv", "id\n1\n")
    data = bytearray(path.read_bytes())
    for begin, place in zip((b"PK\x03\x04", b"PK\x01\x02"), places, strict=True):
        data[data.index(begin) + place] = byte
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"^sales\.zip: " + message):
        unpack(path, "zip")


@pytest.mark.parametrize("members", [[], ["a.csv", "b.csv"], ["a.csv", "b.csv", "__MACOSX/._a.csv"], [".DS_Store"]])
def test_a_zip_holds_one_file(tmp_path: Path, members: list[str]) -> None:
    path = tmp_path / "sales.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "id\n1\n")
    files = sum(member.endswith(".csv") and "__MACOSX" not in member for member in members)
    with pytest.raises(DataError, match=rf"exactly one file \(given: {files}\)"):
        unpack(path, "zip")
