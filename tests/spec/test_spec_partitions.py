"""Partition arithmetic: keys and bounds of hours, days, weeks and months, also where clocks change."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.core.errors import SpecError
from millrace.spec import Duration, Partitioning, PipelineSpec
from millrace.spec.partitions import keeps_its_clocks
from millrace.spec.pipeline import PartitionSpec

NEW_YORK = "America/New_York"
AT_MIDNIGHT = (
    "Africa/Cairo", "America/Asuncion", "America/Havana", "America/Sao_Paulo", "America/St_Johns", "Antarctica/Troll",
    "Asia/Amman", "Asia/Beirut", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kwajalein",
)  # fmt: skip


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("grain", "zone", "key", "start", "end"),
    [
        ("hour", "UTC", "2024-02-28T23", "2024-02-28 23:00", "2024-02-29 00:00"),
        ("hour", "Asia/Kolkata", "2024-02-28T23", "2024-02-28 17:30", "2024-02-28 18:30"),
        ("day", "UTC", "2024-02-29", "2024-02-29 00:00", "2024-03-01 00:00"),
        ("day", NEW_YORK, "2013-03-10", "2013-03-10 05:00", "2013-03-11 04:00"),  # 23 hours: clocks go forward
        ("day", NEW_YORK, "2013-11-03", "2013-11-03 04:00", "2013-11-04 05:00"),  # 25 hours: clocks go back
        ("day", "America/Sao_Paulo", "2018-11-04", "2018-11-04 03:00", "2018-11-05 02:00"),  # has no midnight
        ("day", "America/Havana", "2024-11-03", "2024-11-03 04:00", "2024-11-04 05:00"),  # has midnight twice
        ("day", "America/Havana", "2024-11-02", "2024-11-02 04:00", "2024-11-03 04:00"),  # ends where the first begins
        ("day", "Africa/Cairo", "2024-04-26", "2024-04-25 22:00", "2024-04-26 21:00"),  # no midnight
        ("day", "Africa/Cairo", "2024-04-25", "2024-04-24 22:00", "2024-04-25 22:00"),
        ("day", "Africa/Cairo", "2024-10-31", "2024-10-30 21:00", "2024-10-31 22:00"),  # its last hour twice
        ("day", "America/St_Johns", "2006-10-29", "2006-10-29 02:30", "2006-10-30 03:30"),  # back at a minute past
        (
            "day",
            "America/Toronto",
            "1919-03-31",
            "1919-03-31 04:30",
            "1919-04-01 04:00",
        ),  # begins half an hour late
        ("day", "Pacific/Apia", "2011-12-29", "2011-12-29 10:00", "2011-12-30 10:00"),  # before the day that never was
        ("day", "Pacific/Apia", "2011-12-31", "2011-12-30 10:00", "2011-12-31 10:00"),
        ("day", "Pacific/Kwajalein", "1969-09-30", "1969-09-29 13:00", "1969-10-01 12:00"),  # most of it twice
        ("week", "Pacific/Apia", "2011-12-26", "2011-12-26 10:00", "2012-01-01 10:00"),  # six days
        ("month", "America/Asuncion", "2023-10", "2023-10-01 04:00", "2023-11-01 03:00"),  # its first midnight is none
        ("week", "Europe/Berlin", "2024-03-25", "2024-03-24 23:00", "2024-03-31 22:00"),  # 167 hours
        ("month", NEW_YORK, "2013-03", "2013-03-01 05:00", "2013-04-01 04:00"),
        ("month", NEW_YORK, "2013-12", "2013-12-01 05:00", "2014-01-01 05:00"),
    ],
)
def test_bounds_are_local(grain, zone, key, start, end):
    partitioning = Partitioning(grain, zone)
    assert (partitioning.start(key), partitioning.end(key)) == (utc(start), utc(end))
    # and both edges fall where they should
    assert partitioning.key_of(partitioning.start(key)) == key
    assert partitioning.key_of(partitioning.end(key)) == partitioning.next(key)
    assert partitioning.key_of(partitioning.end(key) - timedelta(microseconds=1)) == key


def test_what_is_shown_a_second_time_after_midnight_stays_in_the_day_that_began():
    # Given clocks that go back at a minute past midnight, into the day before
    partitioning = Partitioning("day", "America/St_Johns")
    for moment in ("2006-10-29 02:30", "2006-10-29 02:31", "2006-10-29 03:29", "2006-10-29 03:30"):
        assert partitioning.key_of(utc(moment)) == "2006-10-29"
    assert partitioning.key_of(utc("2006-10-29 02:29")) == "2006-10-28"


@given(
    moment=st.datetimes(datetime(1990, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
    partitioning=st.sampled_from(
        [Partitioning(g, z) for g in ("day", "week", "month") for z in ("UTC", NEW_YORK, *AT_MIDNIGHT)]
        + [Partitioning("hour", z) for z in ("UTC", "Etc/GMT+5")]
    ),
)
def test_every_moment_lies_in_its_one_partition(moment, partitioning):
    key = partitioning.key_of(moment)
    assert partitioning.start(key) <= moment < partitioning.end(key)
    # and partitions leave no gap and do not overlap
    assert partitioning.end(key) == partitioning.start(partitioning.next(key))
    assert partitioning.previous(partitioning.next(key)) == key
    assert partitioning.check(key) == key


@pytest.mark.parametrize(
    ("grain", "key"),
    [
        ("month", "2013-1"), ("month", "2013-13"), ("month", "2013-01-01"), ("month", ""), ("month", "2013-01 "),
        ("day", "2013-02-29"), ("day", "2013-2-3"), ("day", "20130203"), ("week", "2013-01-08"),
        ("hour", "2013-01-01"), ("hour", "2013-01-01T24"), ("day", None), ("month", "9999-12"), ("day", "0001-01-01"),
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused(grain, key):
    with pytest.raises(SpecError, match=f"is not a {grain} partition; allowed: keys such as 2013-01"):
        Partitioning(grain).check(key)


@pytest.mark.parametrize(
    ("zone", "never", "before", "after"),
    [
        ("Pacific/Apia", "2011-12-30", "2011-12-29", "2011-12-31"),
        ("Pacific/Kwajalein", "1993-08-21", "1993-08-20", "1993-08-22"),
    ],
)
def test_a_day_that_never_was_is_no_partition(zone, never, before, after):
    partitioning = Partitioning("day", zone)
    # Then it is refused by name, with its neighbours
    for ask in (partitioning.check, partitioning.start, partitioning.end):
        with pytest.raises(SpecError, match=f"left out that day; allowed: {before} before it, {after} after it"):
            ask(never)
    # and skipped wherever days are counted
    assert (partitioning.next(before), partitioning.previous(after)) == (after, before)
    assert list(partitioning.range(before, after)) == [before, after]
    assert partitioning.key_of(partitioning.end(before)) == after
    assert partitioning.lookback(after, Duration("P2D")) == [before]
    # while its week and month go on
    assert Partitioning("month", zone).check(never[:7])


def test_a_spec_that_begins_on_a_day_that_never_was_is_refused():
    with pytest.raises(ValueError, match="left out that day"):
        PartitionSpec(grain="day", timezone="Pacific/Apia", start="2011-12-30")


def test_a_week_is_named_by_its_monday():
    with pytest.raises(SpecError, match="named by its Monday"):
        Partitioning("week").check("2024-03-26")
    assert Partitioning("week", NEW_YORK).key_of(utc("2024-03-25 03:59")) == "2024-03-18"


def test_ranges_have_both_ends():
    assert list(Partitioning("month").range("2013-11", "2014-02")) == ["2013-11", "2013-12", "2014-01", "2014-02"]
    assert list(Partitioning("week").range("2024-02-26", "2024-03-11")) == ["2024-02-26", "2024-03-04", "2024-03-11"]
    assert list(Partitioning("day").range("2024-01-02", "2024-01-01")) == []


@pytest.mark.parametrize(
    ("partitioning", "last", "duration", "first", "count"),
    [
        (Partitioning("month", NEW_YORK), "2013-04", "P2M", "2013-03", 2),  # across the change of clocks
        (Partitioning("month", NEW_YORK), "2013-12", "P12M", "2013-01", 12),
        (Partitioning("month", NEW_YORK), "2013-02", "P28D", "2013-02", 1),
        (Partitioning("month", NEW_YORK), "2013-03", "P28D", "2013-03", 1),
        (Partitioning("month"), "2013-03", "P32D", "2013-02", 2),
        (Partitioning("day", NEW_YORK), "2013-03-11", "P3D", "2013-03-09", 3),
        (Partitioning("day", NEW_YORK), "2013-11-04", "P3D", "2013-11-02", 3),
        (Partitioning("day"), "2024-03-01", "P1M", "2024-02-02", 29),
        (Partitioning("week", NEW_YORK), "2013-03-11", "P2W", "2013-03-04", 2),
        (Partitioning("hour"), "2024-01-01T01", "PT3H", "2023-12-31T23", 3),
    ],
)
def test_a_window_ends_with_its_last_partition(partitioning, last, duration, first, count):
    keys = partitioning.window(last, Duration(duration))
    assert (keys[0], keys[-1], len(keys)) == (first, last, count)


@pytest.mark.parametrize(
    ("partitioning", "key", "duration", "keys"),
    [
        (Partitioning("month", NEW_YORK), "2013-04", "PT7H", ["2013-03"]),
        (Partitioning("month", NEW_YORK), "2013-04", "P1M", ["2013-03"]),
        (Partitioning("month", NEW_YORK), "2013-04", "P1M1D", ["2013-02", "2013-03"]),
        (Partitioning("day", NEW_YORK), "2013-03-11", "P1D", ["2013-03-10"]),
        # The day before had 23 hours: 24 true hours reach into the day before that.
        (Partitioning("day", NEW_YORK), "2013-03-11", "PT24H", ["2013-03-09", "2013-03-10"]),
        (Partitioning("day", NEW_YORK), "2013-11-04", "PT25H", ["2013-11-03"]),
        (Partitioning("day", NEW_YORK), "2013-03-11", "PT0S", []),
        (Partitioning("hour", "Etc/GMT+5"), "2013-03-10T01", "PT2H", ["2013-03-09T23", "2013-03-10T00"]),
    ],
)
def test_a_lookback_reaches_what_a_reader_needs(partitioning, key, duration, keys):
    assert partitioning.lookback(key, Duration(duration)) == keys


def test_a_lookback_stops_at_the_first_partition():
    partitioning = Partitioning("month")
    assert partitioning.lookback("2013-02", Duration("P6M"), not_before="2013-01") == ["2013-01"]
    assert partitioning.lookback("2013-01", Duration("P6M"), not_before="2013-01") == []


@pytest.mark.parametrize(
    ("zone", "keeps"),
    [("UTC", True), ("Etc/GMT+5", True), ("Asia/Kolkata", True), (NEW_YORK, False), ("Europe/Berlin", False)],
)
def test_hours_need_clocks_that_never_change(zone, keeps):
    # Given a zone: where its clocks go back, one hour has the name of another
    assert keeps_its_clocks(zone) is keeps
    # Then a spec that cuts by the hour may name it or not
    spec = {"version": 1, "name": "a", "owner": "a", "description": "a",
            "partition": {"grain": "hour", "timezone": zone, "start": "2024-01-01T00"},
            "sources": {"s": {"kind": "files", "location": "{year}{month}{day}{hour}", "gate": "g", "columns": ["c"]}},
            "features": {"entity": ["c"], "service": "a"}}  # fmt: skip
    if keeps:
        assert PipelineSpec.model_validate(spec).partition.timezone == zone
    else:
        with pytest.raises(ValueError, match="hours need a time zone whose clocks never change"):
            PipelineSpec.model_validate(spec)


def test_hours_that_the_clocks_once_left_out_are_no_partitions():
    # Given a zone whose clocks have not changed since 2000, but did before
    partitioning = Partitioning("hour", "Pacific/Kwajalein")
    assert partitioning.next("1993-08-20T23") == "1993-08-22T00"
    assert list(partitioning.range("1993-08-20T23", "1993-08-22T01")) == [
        "1993-08-20T23",
        "1993-08-22T00",
        "1993-08-22T01",
    ]


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("MILLRACE_TEST_FUZZ"), reason="every time zone takes minutes: make fuzz")
@pytest.mark.parametrize("share", range(4))
@pytest.mark.parametrize("grain", ["day", "week", "month"])
def test_every_zone_over_twenty_years(grain, share, zones):
    plain = Partitioning(grain)
    keys = list(plain.range({"day": "2005-01-01", "week": "2005-01-03", "month": "2005-01"}[grain],
                            plain.key_of(datetime(2025, 12, 31, tzinfo=UTC))))  # fmt: skip
    named = [plain.start(key) for key in keys]
    for zone in list(zones)[share::4]:
        # Given what the zone's clocks showed: the partitions are those that begin before the next one does
        starts = list(first_shown(named, zones[zone]))
        expected = {k: (a, b) for k, a, b in zip(keys, starts, starts[1:], strict=False) if a < b}
        partitioning = Partitioning(grain, zone)
        assert list(partitioning.range(keys[0], list(expected)[-1])) == list(expected), zone
        around = list(pairwise(expected.items()))
        for number, ((key, (start, end)), (after, (begin, over))) in enumerate(around):
            assert partitioning.start(key) == start, (zone, key)
            # Then also all else is as it should be, where the length changes and here and there
            if end - start != over - begin or number % 100 == 0:
                for each, one, other in ((key, start, end), (after, begin, over)):
                    assert (partitioning.start(each), partitioning.end(each)) == (one, other), (zone, each)
                    assert partitioning.key_of(one) == partitioning.key_of(other - timedelta(microseconds=1)) == each, (
                        zone,
                        each,
                    )
                assert (partitioning.next(key), partitioning.previous(after)) == (after, key), (zone, key)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("MILLRACE_TEST_FUZZ"), reason="every time zone takes minutes: make fuzz")
def test_every_zone_that_hours_may_be_cut_in_kept_its_clocks(zones):
    for zone, stretches in zones.items():
        assert keeps_its_clocks(zone) <= (len(stretches) == 1), zone


@pytest.fixture(scope="module")
def zones():
    """One zone of all with the same clocks from 2004 to 2026 -> [(from, to, offset)]."""
    found = {}
    for zone in sorted(available_timezones() - {"localtime"}):
        found.setdefault(tuple(offsets(zone)), zone)
    return {zone: stretches for stretches, zone in found.items()}


def offsets(zone: str) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Stretches of time with one offset, found by looking twice a day and halving to the second."""
    begun, stop, step = datetime(2004, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC), timedelta(hours=12)
    clock = ZoneInfo(zone)

    def offset_at(moment: datetime) -> timedelta:
        return moment.astimezone(clock).utcoffset()

    now, offset = begun, offset_at(begun)
    while now < stop:
        before, now = now, now + step
        if offset_at(now) != offset:
            change = now
            while change - before > timedelta(seconds=1):
                middle = before + (change - before) // timedelta(seconds=1) // 2 * timedelta(seconds=1)
                before, change = (middle, change) if offset_at(middle) == offset else (before, middle)
            yield begun, change, offset
            begun, offset = change, offset_at(now)
    yield begun, now, offset


def first_shown(
    named: Iterable[datetime], stretches: tuple[tuple[datetime, datetime, timedelta], ...]
) -> Iterator[datetime]:
    """First moments at which clocks with these offsets show local times, given as if in UTC, or later ones."""
    number = 0
    for local in named:
        while max(stretches[number][0], local - stretches[number][2]) >= stretches[number][1]:
            number += 1
        yield max(stretches[number][0], local - stretches[number][2])
