"""A delivered file read as `land` would read it, with the columns, types and form that it takes to do so."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.core.errors import DataError
from millrace.proposal.kinds import ZONE, Kind, kind_of_csv, kind_of_texts
from millrace.proposal.naming import Named
from millrace.sources.files import FilesSourceEngine
from millrace.sources.formats.arrow_values import plain_type, reader
from millrace.sources.formats.columns import TYPES, Refused
from millrace.sources.formats.delimited import csv_header
from millrace.sources.formats.json_exact import objects
from millrace.sources.formats.tabular import header, read
from millrace.sources.formats.text import check_text
from millrace.sources.unpack import unpack
from millrace.spec.csv import Csv

_DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"\s*(?!(19|20)\d\d\s*$)[+-]?\d+([.,:/-]\d+)*\s*")
"""No name of a column; a year may be one."""
_PLAIN = ("boolean", "integer", "number", "timestamp", "date", "time")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Delivery:
    """A source: its file, how that is read, its columns, those that are left out and why, and its rows."""

    named: Named
    kinds: dict[str, Kind]
    table: pa.Table
    csv: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The source's name."""
        return self.named.source

    @property
    def local(self) -> list[str]:
        """Columns with times without a zone."""
        return [column for column, kind in self.kinds.items() if kind.local]

    def of(self, *types: str) -> list[str]:
        """Columns of some types, in the file's order."""
        return [column for column, kind in self.kinds.items() if kind.type in types]

    def full(self, column: str) -> bool:
        """Whether no value of a column was absent."""
        return bool(self.table[column].null_count == 0)

    def unique(self, *columns: str) -> bool:
        """Whether no two rows are alike in some columns, and none of them is ever null."""
        if not all(self.full(column) for column in columns):
            return False
        return bool(self.table.group_by(list(columns)).aggregate([]).num_rows == self.table.num_rows)


def deliver(named: Named) -> Delivery:
    """Read a file and tell what its source must say. Raises DataError for one that `land` would not take."""
    with tempfile.TemporaryDirectory(prefix="millrace-new-") as folder:
        copy = FilesSourceEngine().fetch(str(named.path.absolute()), Path(folder))
        plain, name = unpack(copy, named.compression), named.path.name
        form, texts = _form(plain, name) if named.format == "csv" else (Csv(), None)
        kinds, left_out = {}, {}
        if texts is not None:
            kinds = _csv_kinds(texts, form)
            if form.delimiter != ",":
                form, kinds = _with_commas(texts, form, kinds)
            if words := {word for kind in kinds.values() for word in kind.null_words}:
                form = form.model_copy(update={"null_values": ("", *sorted(words))})
        else:
            found = _parquet_kinds(plain, name) if named.format == "parquet" else _json_kinds(plain, name)
            kinds = {column: kind for column, kind in found.items() if isinstance(kind, Kind)}
            left_out = {column: kind for column, kind in found.items() if isinstance(kind, str)}
        kinds.pop("", None)
        _without_twins(kinds, left_out)
        types = {column: kind.type for column, kind in kinds.items()}
        zone = ZONE if any(kind.local for kind in kinds.values()) else None
        table = read(plain, name, named.format, list(kinds), types, _never, form, zone)
    for column in [column for column in kinds if table[column].null_count == table.num_rows]:
        del kinds[column]  # a gate fails on such a column, and nothing can be told of it
        left_out[column] = "no value was seen"
    if not kinds:
        raise DataError("the file has no column that a source can have", where=name)
    return Delivery(named, kinds, table, form.model_dump(exclude_defaults=True), left_out)


def _never(column: str) -> bool:
    """Nobody has said yet that a column's values may be shown."""
    return False


def _form(path: Path, name: str) -> tuple[Csv, pa.Table]:
    """How a csv is written, and its columns as texts. Raises DataError of the plainest form where none reads it."""
    encoding = _encoding(path, name)
    delimiter = max(_DELIMITERS, key=lambda one: len(_names(path, name, Csv(delimiter=one, encoding=encoding))))
    plain, first = Csv(delimiter=delimiter, encoding=encoding), None
    for form in (plain, *(plain.model_copy(update=more) for more in ({"escape": "\\"}, {"quote": "none"}))):
        try:
            names = [column for column in csv_header(path, name, form) if column]
            if any(_NUMBER.fullmatch(column) for column in names):
                raise DataError("the first line holds numbers, so it is no header", where=f"{name}:1",
                                next_step="A source's file begins with the names of its columns")  # fmt: skip
            if not names:
                raise DataError("the file has no header, only empty lines", where=name)
            return form, read(path, name, "csv", list(dict.fromkeys(names)), {}, _never, form)
        except DataError as err:
            first = first or err
    assert first is not None
    raise first


def _names(path: Path, name: str, form: Csv) -> list[str]:
    """The header's names, none where the form does not read it."""
    try:
        return csv_header(path, name, form)
    except DataError:
        return []


def _encoding(path: Path, name: str) -> str:
    with path.open("rb") as handle:
        if handle.read(2) in _UTF16:
            return "utf-16"
    try:
        check_text(path, name)
    except DataError:
        return "windows-1252"
    return "utf-8"


def _csv_kinds(texts: pa.Table, form: Csv) -> dict[str, Kind]:
    return {column: kind_of_csv(texts[column], form) for column in texts.column_names}


def _with_commas(texts: pa.Table, form: Csv, kinds: dict[str, Kind]) -> tuple[Csv, dict[str, Kind]]:
    """The form with a decimal comma where more columns are no texts then; as it was otherwise."""
    other = form.model_copy(update={"decimal": ","})
    instead = _csv_kinds(texts, other)
    fewer = sum(k.type == "string" for k in instead.values()) < sum(k.type == "string" for k in kinds.values())
    return (other, instead) if fewer else (form, kinds)


def _parquet_kinds(path: Path, name: str) -> dict[str, Kind | str]:
    columns = header(path, name, "parquet")
    schema = pq.read_schema(path)
    found: dict[str, Kind | str] = {}
    for column in columns:
        given = plain_type(schema.field(column).type)
        fitting = (kind for kind in _PLAIN if kind not in ("integer", "number") or _is(given, kind))
        kind = next((kind for kind in fitting if _takes(given, kind)), None)
        if pa.types.is_null(given):
            found[column] = Kind("string")
        elif _takes(given, "string"):
            found[column] = kind_of_texts(read(path, name, "parquet", [column], {}, _never)[column])
        elif kind is None:
            found[column] = f"a source's column does not hold {given}"
        else:
            local = kind == "timestamp" and given.tz is None
            found[column] = Kind(kind, f"the file's own type, {given}", local=local)
    return found


def _is(given: pa.DataType, kind: str) -> bool:
    """Floats are numbers, whatever whole values they had once."""
    whole = pa.types.is_integer(given) or (pa.types.is_decimal(given) and given.scale <= 0)
    return bool(whole) == (kind == "integer")


def _takes(given: pa.DataType, kind: str) -> bool:
    return reader(given, TYPES[kind], ZONE) is not None


def _json_kinds(path: Path, name: str) -> dict[str, Kind | str]:
    check_text(path, name)
    values: dict[str, dict[Any, None]] = {}
    types: dict[str, set[type]] = {}
    for _, row in objects(path, name):
        for column, value in row.items():
            types.setdefault(column, set()).add(type(value))
            if isinstance(value, str):
                values.setdefault(column, {})[value] = None
    return {column: _json_kind(seen - {type(None)}, values.get(column, ())) for column, seen in types.items()}


def _json_kind(seen: set[type], texts: Iterable[str]) -> Kind | str:
    if seen <= {str}:
        try:
            return kind_of_texts(pa.chunked_array([pa.array(list(texts), pa.string())]))
        except (UnicodeEncodeError, Refused):  # half of a surrogate pair: reading says where
            return Kind("string")
    for kind, types in (("boolean", {bool}), ("integer", {int}), ("number", {int, float})):
        if seen <= types:
            return Kind(kind)
    return "its values are of several kinds, or nested"


def _without_twins(kinds: dict[str, Kind], left_out: dict[str, str]) -> None:
    """Leave out a column that SQL would not tell from one before it."""
    for column in list(_twins(kinds)):
        del kinds[column]
        left_out[column] = "SQL does not tell upper from lower case, and another column has the name"


def _twins(columns: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for column in columns:
        if column.lower() in seen:
            yield column
        seen.add(column.lower())
