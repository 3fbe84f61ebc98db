"""What the texts of a csv say: numbers, booleans, and by `times` moments, dates and times of day."""

from __future__ import annotations

import re
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc

from millrace.sources.columns import TYPES, Refused, first_bad
from millrace.sources.times import WRITTEN, read_text
from millrace.spec.csv import Csv

TRUE, FALSE = ("true", "True", "TRUE", "1"), ("false", "False", "FALSE", "0")
_BOTH = pa.array([*TRUE, *FALSE])
_ABSENT = {"na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?", ".", r"\n"}
"""Words that often stand for an absent value, in lower case."""


def read_values(texts: pa.Array, kind: pa.DataType, form: Csv, zone: str | None) -> pa.Array:
    """Texts as values of a type; NaN is null. Raises Refused."""
    if kind == TYPES["string"]:
        return texts
    if kind in WRITTEN:
        return read_text(pc.ascii_trim(texts, " "), kind, zone)
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
    if text.strip() == "" or text.strip().lower() in _ABSENT:
        return f"If {repr(text) if public else 'the value'} stands for an absent one, add it to csv.null"
    if kind == TYPES["number"]:
        other = "," if form.decimal == "." else "."
        if re.fullmatch(rf"\s*[+-]?\d+{re.escape(other)}\d+\s*", text):
            return f"If '{other}' stands before a number's fraction, set csv.decimal: '{other}'"
    return None


def _booleans(texts: pa.Array) -> pa.Array:
    places = pc.index_in(texts, _BOTH)
    unknown = pc.and_(places.is_null(), texts.is_valid())
    if pc.any(unknown).as_py():
        raise Refused.of(pc.index(unknown, True).as_py(), TYPES["boolean"], ", ".join((*TRUE, *FALSE)))
    return pc.less(places, len(TRUE))


def _numbers(texts: pa.Array, kind: pa.DataType, form: Csv) -> pa.Array:
    plain = pc.ascii_trim(texts, " ")
    if kind == TYPES["integer"]:
        # Arrow reads 0x1F as 31.
        wrong = pc.match_substring(plain, "x", ignore_case=True)
    elif form.decimal == ",":
        wrong = pc.match_substring(plain, ".")
        plain = pc.replace_substring(plain, ",", ".")
    else:
        wrong = None
    if wrong is not None and pc.any(wrong).as_py():
        raise Refused.of(pc.index(wrong, True).as_py(), kind)

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
