"""A delivered file read as `land` would read it, with the columns, types and form that it takes to do so."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.core.errors import DataError
from millrace.proposal.csv_form import csv_form, csv_kinds, nobody
from millrace.proposal.kinds import ZONE, Kind, kind_of_texts
from millrace.proposal.naming import Named
from millrace.sources.files import FilesSourceEngine
from millrace.sources.formats.arrow_values import plain_type, reader
from millrace.sources.formats.columns import TYPES, Refused, check_header
from millrace.sources.formats.json_exact import objects
from millrace.sources.formats.tabular import header, read
from millrace.sources.formats.text import check_text
from millrace.sources.unpack import unpack
from millrace.spec.csv import Csv

_PLAIN = ("boolean", "integer", "number", "timestamp", "date", "time")


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
        form, kinds, left_out = _told(plain, name, named.format)
        _without_twins(kinds, left_out)
        _some(kinds, name)
        types = {column: kind.type for column, kind in kinds.items()}
        zone = ZONE if any(kind.local for kind in kinds.values()) else None
        table = read(plain, name, named.format, list(kinds), types, nobody, form, zone)
    for column in [column for column in kinds if table[column].null_count == table.num_rows]:
        del kinds[column]  # a gate fails on such a column, and nothing can be told of it
        left_out[column] = "no value was seen"
    _some(kinds, name)
    return Delivery(named, kinds, table, form.model_dump(exclude_defaults=True), left_out)


def _told(path: Path, name: str, format: str) -> tuple[Csv, dict[str, Kind], dict[str, str]]:
    """How a csv is written, the kind of each column, and of those that a source cannot have, why."""
    if format == "csv":
        return *csv_kinds(*csv_form(path, name)), {}
    found = _parquet_kinds(path, name) if format == "parquet" else _json_kinds(path, name)
    found.pop("", None)  # nobody can ask for it
    kinds = {column: kind for column, kind in found.items() if isinstance(kind, Kind)}
    return Csv(), kinds, {column: why for column, why in found.items() if isinstance(why, str)}


def _some(kinds: dict[str, Kind], name: str) -> None:
    if not kinds:
        raise DataError("the file has no column with values that a source can have", where=name)


def _parquet_kinds(path: Path, name: str) -> dict[str, Kind | str]:
    columns = header(path, name, "parquet")
    check_header(columns, name, dict.fromkeys(columns, TYPES["string"]))
    schema = pq.read_schema(path)
    found: dict[str, Kind | str] = {}
    for column in columns:
        given = plain_type(schema.field(column).type)
        fitting = (kind for kind in _PLAIN if kind not in ("integer", "number") or _is(given, kind))
        kind = next((kind for kind in fitting if _takes(given, kind)), None)
        if pa.types.is_null(given):
            found[column] = Kind("string")
        elif _takes(given, "string"):
            found[column] = kind_of_texts(read(path, name, "parquet", [column], {}, nobody)[column])
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
