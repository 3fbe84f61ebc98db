"""How a csv is written, told from its bytes: encoding, delimiter, escapes, decimal comma and words for null."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from millrace.core.errors import DataError
from millrace.proposal.kinds import Kind, kind_of_csv
from millrace.sources.formats.delimited import csv_header
from millrace.sources.formats.tabular import read
from millrace.sources.formats.text import check_text
from millrace.spec.csv import NONE, Csv

_DELIMITERS = ",;\t|"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_NUMBER = re.compile(r"\s*(?!(19|20)\d\d\s*$)[+-]?\d+([.,:/-]\d+)*\s*")
"""No name of a column; a year may be one."""


def nobody(column: str) -> bool:
    """Whose values may be shown in a message: no column's, since nobody has said yet that it is public."""
    return False


def csv_form(path: Path, name: str) -> tuple[Csv, pa.Table]:
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
            texts = read(path, name, "csv", list(dict.fromkeys(names)), {}, nobody, form)
            if form.quote != NONE or not _quotes(texts):
                return form, texts
        except DataError as err:
            first = first or err
    assert first is not None
    raise first


def _quotes(texts: pa.Table) -> bool:
    """Whether a value begins with a quote: then quotes stand around values, and one of them is wrong."""
    return any(pc.any(pc.starts_with(column, '"')).as_py() for column in texts.columns)


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


def csv_kinds(form: Csv, texts: pa.Table) -> tuple[Csv, dict[str, Kind]]:
    """Types of a csv's columns, and its form with the decimal comma and the words for null that they take."""
    kinds = _kinds(texts, form)
    if form.delimiter != ",":
        other = form.model_copy(update={"decimal": ","})
        instead = _kinds(texts, other)
        if _strings(instead) < _strings(kinds):
            form, kinds = other, instead
    if words := {word for kind in kinds.values() for word in kind.null_words}:
        form = form.model_copy(update={"null_values": ("", *sorted(words))})
    return form, kinds


def _kinds(texts: pa.Table, form: Csv) -> dict[str, Kind]:
    return {column: kind_of_csv(texts[column], form) for column in texts.column_names}


def _strings(kinds: dict[str, Kind]) -> int:
    return sum(kind.type == "string" for kind in kinds.values())
