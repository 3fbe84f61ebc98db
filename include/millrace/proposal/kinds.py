"""Which type the texts of a column have: the narrowest that the readers of deliveries take all of them for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from millrace.sources.formats.columns import TYPES, Refused
from millrace.sources.formats.times import read_text
from millrace.sources.formats.values import ABSENT, read_values
from millrace.spec.csv import Csv

ZONE = "UTC"
"""What times without a zone are tried in, and proposed to be in."""
_PLAIN = ("integer", "number", "boolean")
_WRITTEN = ("date", "time")
_PADDED, _DIGITS = r"^\s*[+-]?0\d", r"^\s*[+-]?\d+\s*$"


@dataclass(frozen=True)
class Kind:
    """A type of the spec, why it was chosen where that is no matter of course, and what it takes to read it so."""

    type: str
    why: str = "what all its values are"
    local: bool = False
    """Whether times without a zone are among the values."""
    null_words: tuple[str, ...] = ()


def kind_of_csv(texts: pa.ChunkedArray, form: Csv) -> Kind:
    """Type of a csv column. Words such as NA count as null where all else is of one type that is not text."""
    words = [word for word in pc.unique(texts).to_pylist() if word]
    if not words:
        return Kind("string")
    kind = _of_words(words, form)
    absent = [word for word in words if not word.strip() or word.strip().lower() in ABSENT]
    if kind.type == "string" and absent and len(absent) < len(words):
        without = _of_words([word for word in words if word not in absent], form)
        if without.type != "string":
            return replace(without, null_words=tuple(sorted(absent)))
    return kind


def kind_of_texts(texts: pa.ChunkedArray) -> Kind:
    """Type of texts in a format whose numbers are no texts: a moment, a date, a time of day, or just text."""
    words = pc.unique(texts).drop_null()
    return (_time(words) if len(words) else None) or Kind("string")


def _of_words(words: list[str], form: Csv) -> Kind:
    array = pa.array(words, pa.string())
    if any(re.match(_PADDED, word) for word in words) and all(re.match(_DIGITS, word) for word in words):
        return Kind("string", "its numbers begin with zeros, which a number would lose")
    for name in _PLAIN:
        if name == "number" and all(re.match(_DIGITS, word) for word in words):
            continue  # digits of more than 64 bits: a double would change them
        try:
            read_values(array, TYPES[name], form, None)
        except Refused:
            continue
        return Kind(name)
    return _time(array) or Kind("string")


def _time(words: pa.Array) -> Kind | None:
    for name, zone in (*((name, None) for name in _WRITTEN), ("timestamp", None), ("timestamp", ZONE)):
        try:
            read_text(words, TYPES[name], zone)
        except Refused:
            continue
        return Kind(name, local=zone is not None)
    return None
