"""Moments, dates and times of day as deliveries write them: what a text says, and which moment a local time was.

A time without an offset is local to the zone that the source declares. When clocks go forward it may name a moment
that never was, and when they go back two of them: both are refused, since a guess would be wrong for half of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.sources.formats.columns import TYPES, Refused, first_bad
from millrace.spec import Partitioning

MOMENT, DATE, TIME = TYPES["timestamp"], TYPES["date"], TYPES["time"]
WRITTEN: dict[pa.DataType, str] = {
    MOMENT: "ISO 8601 with Z or an offset", DATE: "YYYY-MM-DD", TIME: "HH:MM, HH:MM:SS or with a fraction of seconds",
}  # fmt: skip
"""Type -> how a text must write it."""
NO_ZONE = "Say in pipeline.yaml, under the source's timezone, in which zone such times are"
_LOCAL = pa.timestamp("us")
_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1)
_YEARS = (-719_162 * _DAY, 2_932_897 * _DAY)  # 0001-01-01, and the day after 9999-12-31
_SECONDS = r":[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
_MOMENT = (
    rf"^(?P<local>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:[T ][0-9]{{2}}(?:{_SECONDS})?)?)"
    r"(?P<offset>Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?$"
)
_TIME = rf"^[0-9]{{2}}{_SECONDS}$"


def read_text(text: pa.Array, kind: pa.DataType, zone: str | None) -> pa.Array:
    """What texts say: moments (`zone` is that of those without an offset), dates or times of day.

    Digits beyond microseconds are dropped. A date alone is the first moment of that day in the zone. Raises Refused.
    """
    if kind == MOMENT:
        # Fast, and right where all texts name their zone, or none does. A cast that fails is slow, so a few go before.
        with suppress(pa.ArrowInvalid):
            text[:9].cast(MOMENT)
            return text.cast(MOMENT)
        if zone is not None:
            with suppress(pa.ArrowInvalid):
                text[:9].cast(_LOCAL)
                return localise(text.cast(_LOCAL), zone, _day_starts(text))
    convert: Callable[[pa.Array], pa.Array] = {
        MOMENT: lambda words: _moments(words, zone),
        DATE: lambda words: _cast(words, DATE, words, DATE),
        TIME: _times,
    }[kind]
    coded = text.dictionary_encode()
    try:
        made = convert(coded.dictionary)
    except Refused as err:
        err.place = pc.index(coded.indices, err.place).as_py()
        raise
    return made.take(coded.indices)


def _moments(words: pa.Array, zone: str | None) -> pa.Array:
    parts = pc.extract_regex(_to_micros(words), _MOMENT)
    if parts.null_count:
        raise Refused.of(pc.index(parts.is_null(), True).as_py(), MOMENT, WRITTEN[MOMENT])
    written, offset = parts.field("local"), parts.field("offset")
    named, days = pc.not_equal(offset, ""), _day_starts(written)
    if pc.any(both := pc.and_(named, days)).as_py():
        raise Refused.of(pc.index(both, True).as_py(), MOMENT, WRITTEN[MOMENT])
    local = _cast(written, _LOCAL, words, MOMENT)
    ahead = offset.dictionary_encode()
    micros = pa.array([_ahead(text) for text in ahead.dictionary.to_pylist()], pa.duration("us")).take(ahead.indices)
    made = pc.subtract(local, micros).cast(MOMENT)
    if pc.all(named).as_py():
        return made
    if zone is None:
        raise Refused(
            pc.index(named, False).as_py(), "has no time zone", WRITTEN[MOMENT],
            NO_ZONE,
        )  # fmt: skip
    local = pc.if_else(named, pa.scalar(None, _LOCAL), local)
    return pc.if_else(named, made, localise(local, zone, days))


def _day_starts(texts: pa.Array) -> pa.Array:
    """Which texts are a date alone, YYYY-MM-DD."""
    return pc.equal(pc.binary_length(texts), 10)


def _times(words: pa.Array) -> pa.Array:
    short = _to_micros(words)
    written = pc.match_substring_regex(short, _TIME)
    if not pc.all(written).as_py():
        raise Refused.of(pc.index(written, False).as_py(), TIME, WRITTEN[TIME])
    return _cast(pc.binary_join_element_wise("1970-01-01T", short, ""), _LOCAL, words, TIME).cast(TIME)


def _cast(texts: pa.Array, arrow: pa.DataType, words: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast, where the form is right already: what fails now is no day or hour that there is."""

    def takes(some: pa.Array) -> bool:
        try:
            some.cast(arrow)
        except pa.ArrowInvalid:
            return False
        return True

    if takes(texts):
        return texts.cast(arrow)
    raise Refused.of(first_bad(texts, takes), kind, WRITTEN[kind])


def _to_micros(words: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(words, r"(\.[0-9]{6})[0-9]+", r"\1")


def _ahead(offset: str) -> timedelta:
    """Of `+01:00`, `+0100`, `+01`, `Z`, or nothing."""
    digits = offset[1:].replace(":", "")
    if not digits:
        return timedelta(0)
    ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return -ahead if offset[0] == "-" else ahead


def localise(local: pa.Array, zone: str, day_starts: pa.Array | None = None) -> pa.Array:
    """The moments of timestamps without a zone (microseconds), in the declared zone.

    Where `day_starts` is true a midnight stands for a whole day, and means the day's first moment. Raises Refused.
    """
    known = local.is_valid().to_numpy(zero_copy_only=False)
    micros = local.cast(pa.int64()).fill_null(0).to_numpy()
    outside = (micros < _YEARS[0]) | (micros >= _YEARS[1])
    if outside.any():
        raise Refused(int(np.flatnonzero(outside)[0]), "lies outside of the years 1 to 9999")
    clocks = ZoneInfo(zone)
    days, back = np.unique(micros // _DAY, return_inverse=True)
    # No zone's clocks change twice within three days and are as before.
    around = [[_offset(day * _DAY + near, clocks) for near in (-_DAY, 2 * _DAY)] for day in days.tolist()]
    before, after = np.array(around, np.int64).reshape(-1, 2).T
    offsets, odd = before[back], np.flatnonzero((before != after)[back] & known)
    whole = np.zeros(len(micros), np.int64) if day_starts is None else day_starts.fill_null(False).cast(pa.int64())
    asked, back = np.unique(2 * micros[odd] + np.asarray(whole)[odd], return_inverse=True)
    answers = [_in_doubt(one >> 1, bool(one & 1), clocks) for one in asked.tolist()]
    if bad := {place for place, answer in enumerate(answers) if isinstance(answer, str)}:
        first = int(np.flatnonzero(np.isin(back, list(bad)))[0])
        raise Refused(
            int(odd[first]), f"names a time that {answers[back[first]]}",
            next_step=f"Ask for times with an offset, or in UTC; or is {zone} not the zone that they are in?",
        )  # fmt: skip
    offsets[odd] = np.array(answers, np.int64)[back]
    return pa.array(micros - offsets, pa.int64(), mask=~known).cast(MOMENT)


def _in_doubt(micros: int, whole_day: bool, clocks: ZoneInfo) -> int | str:
    """`_offset` of a local time near a change of the clocks; why there is none in words, where there is none."""
    first, second = _offset(micros, clocks), _offset(micros, clocks, fold=1)
    if first == second:
        return first
    if whole_day:
        local, partitioning = _EPOCH + timedelta(microseconds=micros), Partitioning("day", clocks.key)
        start = partitioning.first_moment(local)
        if start < partitioning.first_moment(local + timedelta(days=1)):
            return (local - start.replace(tzinfo=None)) // timedelta(microseconds=1)
    what, change = ("never was", "forward") if first < second else ("was twice", "back")
    return f"{what}: the clocks of {clocks.key} went {change} over it"


def _offset(micros: int, clocks: ZoneInfo, fold: int = 0) -> int:
    """What a zone's clocks are ahead of UTC at a local time; all in microseconds."""
    local = _EPOCH + timedelta(microseconds=min(max(micros, _YEARS[0]), _YEARS[1] - 1))
    ahead = local.replace(tzinfo=clocks, fold=fold).utcoffset() or timedelta(0)
    return ahead // timedelta(microseconds=1)
