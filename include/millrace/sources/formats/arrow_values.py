"""Arrow's values as those of a declared type, where they can be it without a change; Arrow's casts change some."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from millrace.sources.formats.columns import TYPES, Refused, first_bad
from millrace.sources.formats.times import WRITTEN, localise, read_text
from millrace.sources.formats.values import finite

Reader = Callable[[pa.Array], pa.Array]
_MOMENT = TYPES["timestamp"]
_EXACT = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
"""Bits of a float's whole numbers: from that power of two on some are not there, and become others."""
_EDGES = [datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
_AS_INTEGERS = "Ask for the column as integers or decimals"


def plain_type(given: pa.DataType) -> pa.DataType:
    """A type without what only says how its values are stored or meant: dictionaries, and names for a storage."""
    if isinstance(given, pa.BaseExtensionType):
        return plain_type(given.storage_type) if given.extension_name == "arrow.json" else given
    return plain_type(given.value_type) if pa.types.is_dictionary(given) else given


def reader(given: pa.DataType, kind: pa.DataType, zone: str | None) -> Reader | None:
    """What makes values of a plain type those of a declared one, None where they are of another kind.

    It raises Refused for a value that would become another. NaN becomes null; digits beyond microseconds are dropped.
    """
    convert = _converter(given, kind, zone)
    return None if convert is None else lambda values: convert(_plain(values))


def _converter(given: pa.DataType, kind: pa.DataType, zone: str | None) -> Reader | None:
    is_, text = pa.types, pa.types.is_string(given) or pa.types.is_large_string(given) or pa.types.is_string_view(given)
    if is_.is_null(given):
        return lambda values: values.cast(kind)
    if kind in WRITTEN and text:
        return lambda values: read_text(_text(values), kind, zone)
    table: dict[pa.DataType, list[tuple[bool, Reader]]] = {
        TYPES["string"]: [(text, _text)],
        TYPES["boolean"]: [(is_.is_boolean(given), lambda values: values)],
        TYPES["integer"]: [
            (is_.is_integer(given) or is_.is_decimal(given), lambda values: _cast(values, kind)),
            (is_.is_floating(given), _whole),
        ],
        TYPES["number"]: [
            (is_.is_floating(given), lambda values: finite(values.cast(kind))),
            (is_.is_integer(given) or (is_.is_decimal(given) and given.scale <= 0), _near),
            # Arrow's own cast of a decimal is not always the nearest float.
            (is_.is_decimal(given), lambda values: values.cast(pa.string()).cast(kind)),
        ],
        _MOMENT: [
            (is_.is_timestamp(given) and given.tz is not None, _moments),
            (is_.is_timestamp(given) and zone is not None, lambda values: localise(_micros(values, None), str(zone))),
        ],
        TYPES["date"]: [(is_.is_date(given), lambda values: _within_years(_cast(values, kind)))],
        TYPES["time"]: [(is_.is_time(given), lambda values: values.cast(kind, safe=False))],
    }
    return next((read for fits, read in table.get(kind, []) if fits), None)


def _plain(values: pa.Array) -> pa.Array:
    if isinstance(values.type, pa.BaseExtensionType):
        return _plain(values.storage)
    if pa.types.is_dictionary(values.type):
        return _plain(values.dictionary_decode())
    return values


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return _converted(values, lambda some: some.cast(kind), lambda place: Refused.of(place, kind))


def _converted(values: pa.Array, convert: Reader, refused: Callable[[int], Refused]) -> pa.Array:
    """What `convert` makes of the values; Refused with the first of which it makes nothing."""

    def takes(some: pa.Array) -> bool:
        try:
            convert(some)
        except pa.ArrowInvalid:
            return False
        return True

    try:
        return convert(values)
    except pa.ArrowInvalid:
        pass
    raise refused(first_bad(values, takes))


def _text(values: pa.Array) -> pa.Array:
    def checked(some: pa.Array) -> pa.Array:
        made = some.cast(pa.string())
        made.validate(full=True)  # a Parquet file may call any bytes UTF-8
        return made

    return _converted(values, checked, lambda place: Refused(place, "is not UTF-8 text"))


def _whole(values: pa.Array) -> pa.Array:
    """Floats as integers, as pandas writes integers with nulls."""
    bits, floats = _EXACT[values.type], finite(values.cast(pa.float64()))
    _none(pc.not_equal(floats, pc.floor(floats)), lambda place: Refused.of(place, TYPES["integer"]))
    _none(
        pc.greater_equal(pc.abs(floats), float(2**bits)),
        lambda place: Refused(place, f"is a float of 2^{bits} or more, which may have been another whole number",
                              next_step=_AS_INTEGERS),
    )  # fmt: skip
    return floats.cast(TYPES["integer"])


def _near(values: pa.Array) -> pa.Array:
    """Whole numbers as floats, each exactly."""
    large = _beyond(values)
    for place in pc.indices_nonzero(large).to_pylist():
        if float(number := int(values[place].as_py())) != number:
            raise Refused(place, "is a whole number that a float does not hold exactly",
                          next_step="Declare it integer, or string where it is no quantity")  # fmt: skip
    return values.cast(pa.string()).cast(TYPES["number"]) if pc.any(large).as_py() else values.cast(TYPES["number"])


def _beyond(values: pa.Array) -> pa.Array:
    """Which whole numbers a float may not hold."""
    rough = values.cast(pa.float64(), safe=False)
    return pc.fill_null(pc.greater_equal(pc.abs(rough), float(2**53)), False)


def _moments(values: pa.Array) -> pa.Array:
    return _within_years(_micros(values.view(pa.timestamp(values.type.unit, "UTC")), "UTC"))


def _micros(values: pa.Array, zone: str | None) -> pa.Array:
    """Times in microseconds; of nanoseconds the ones before, so that none leaves its day."""
    if values.type.unit == "ns":
        values = pc.floor_temporal(values, unit="microsecond")
    return _converted(values, lambda some: some.cast(pa.timestamp("us", zone)), _beyond_years)


def _within_years(times: pa.Array) -> pa.Array:
    first, last = (pa.scalar(edge, _MOMENT).cast(times.type, safe=False) for edge in _EDGES)
    _none(pc.or_(pc.less(times, first), pc.greater(times, last)), _beyond_years)
    return times


def _beyond_years(place: int) -> Refused:
    return Refused(place, "lies outside of the years 1 to 9999")


def _none(wrong: pa.Array, refused: Callable[[int], Refused]) -> None:
    if pc.any(wrong).as_py():
        raise refused(pc.index(wrong, True).as_py())
