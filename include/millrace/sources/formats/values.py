"""What the texts of a csv say: numbers, booleans, and by `times` moments, dates and times of day."""

from __future__ import annotations

import re
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc

from millrace.sources.formats.columns import TYPES, Refused, first_bad
from millrace.sources.formats.times import WRITTEN, read_text
from millrace.spec.csv import Csv

TRUE, FALSE = ("true", "True", "TRUE", "1"), ("false", "False", "FALSE", "0")
_BOTH = pa.array([*TRUE, *FALSE])
ABSENT = {"na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?", ".", r"\n"}
"""Words that often stand for an absent value, in lower case."""


def read_values(texts: pa.Array, kind: pa.DataType, form: Csv, zone: str | None) -> pa.Array:
    """Texts as values of a type; NaN is null. Raises Refused."""
    if kind == TYPES["string"]:
        return texts
    if kind in WRITTEN:
        return read_text(_trimmed(texts), kind, zone)
    if kind == TYPES["boolean"]:
        return _booleans(texts)
    return _numbers(texts, kind, form)


def finite(values: pa.Array) -> pa.Array:
    """Numbers with null where they are NaN. Raises Refused for an infinite one."""
    if not pc.any(pc.invert(pc.is_finite(values))).as_py():
        return values
    infinite = pc.is_inf(values)
    if pc.any(infinite).as_py():
        raise Refused(
            pc.index(infinite, True).as_py(), "is infinite, or beyond what a number can hold", "finite numbers"
        )
    return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)


def hint(text: str, kind: pa.DataType, form: Csv, public: bool) -> str | None:
    """The key of pipeline.yaml that a refused text speaks for; None where none does. Only a public text is shown."""
    if text.strip() == "" or text.strip().lower() in ABSENT:
        if not public:
            return "If the value stands for an absent one, add it to csv.null_values"
        return f"If {text!r} stands for an absent value, set csv.null_values: {[*form.null_values, text]}"
    if kind == TYPES["number"]:
        other = "," if form.decimal == "." else "."
        if re.fullmatch(rf"\s*[+-]?\d+{re.escape(other)}\d+\s*", text):
            return f"If '{other}' stands before a number's fraction, set csv.decimal: '{other}'"
    return None


def _booleans(texts: pa.Array) -> pa.Array:
    places = pc.index_in(_trimmed(texts), _BOTH)
    unknown = pc.and_(places.is_null(), texts.is_valid())
    if pc.any(unknown).as_py():
        raise Refused.of(pc.index(unknown, True).as_py(), TYPES["boolean"], ", ".join((*TRUE, *FALSE)))
    return pc.less(places, len(TRUE))


def _numbers(texts: pa.Array, kind: pa.DataType, form: Csv) -> pa.Array:
    plain = _trimmed(texts)
    # Arrow reads 0x1F as the integer 31.
    for character in "xX" if kind == TYPES["integer"] else "." if form.decimal == "," else "":
        if _may_hold(plain, character) and pc.any(holds := pc.match_substring(plain, character)).as_py():
            raise Refused.of(pc.index(holds, True).as_py(), kind)
    if form.decimal == ",":
        plain = pc.replace_substring(plain, ",", ".")

    def takes(some: pa.Array) -> bool:
        with suppress(pa.ArrowInvalid):
            some.cast(kind)
            return True
        return False

    try:
        values = plain.cast(kind)
    except pa.ArrowInvalid:
        raise Refused.of(first_bad(plain, takes), kind) from None
    return finite(values) if pa.types.is_floating(kind) else values


def _trimmed(texts: pa.Array) -> pa.Array:
    """Without spaces around them, which belong to no number, boolean or time."""
    return pc.ascii_trim(texts, " \t") if _may_hold(texts, " ") or _may_hold(texts, "\t") else texts


def _may_hold(texts: pa.Array, character: str) -> bool:
    """False where no text holds it: one look at the bytes of them all costs far less than one at each text."""
    data = texts.buffers()[2]
    return data is not None and character.encode() in data.to_pybytes()
