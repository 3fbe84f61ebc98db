"""Durations: ISO 8601, the calendar's part and the clock's part apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from millrace.spec import Duration


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("P1M", "2024-02-29 00:00"), ("P28D", "2024-02-28 00:00"), ("PT3H", "2024-01-31 03:00"),
        ("P1W", "2024-02-07 00:00"), ("P1DT12H30M15S", "2024-02-01 12:30:15"), ("P1Y", "2025-01-31 00:00"),
        ("PT36H", "2024-02-01 12:00"), ("PT0S", "2024-01-31 00:00"),
    ],
)  # fmt: skip
def test_durations_add_to_moments(text, after):
    moment = datetime(2024, 1, 31, tzinfo=UTC)
    assert Duration(text).after(moment) == datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert str(Duration(text)) == text


@pytest.mark.parametrize(
    ("text", "length"),
    [("PT90S", timedelta(seconds=90)), ("P1DT1H", timedelta(hours=25)), ("P1M", timedelta(days=31)),
     ("P2M", timedelta(days=59)), ("P1Y", timedelta(days=365)), ("P1Y1M", timedelta(days=396))],
)  # fmt: skip
def test_a_limit_of_time_has_one_length(text, length):
    assert Duration(text).length == length
    assert Duration(text).seconds == length.total_seconds()


def test_a_month_before_is_a_month_before():
    assert Duration("P1M").before(datetime(2024, 3, 31, tzinfo=UTC)) == datetime(2024, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "P1DT", "1D", "p1d", "P1H", "PT1D", "P-1D", "-P1D", "P1.5D", "PT0.5H", "P1D ", "P1D\n", "P 1D",
     "P1D2W", "P999999D", "3 days", "P1M\u0661D", "PT\u0663H"],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration; write ISO 8601 such as P1M, P28D or PT3H"):
        Duration(text)


@pytest.mark.parametrize("text", ["P1001Y", "P99999M", "P99999Y", "P60000W"])
def test_what_no_date_can_be_reckoned_by_is_refused(text):
    with pytest.raises(ValueError, match=f"'{text}' is longer than 1000 years"):
        Duration(text)
    for longest in ("P1000Y", "P12000M", "P99999D"):
        assert Duration(longest).before(datetime(2024, 1, 1)).year < Duration(longest).after(datetime(2024, 1, 1)).year


def test_alike_when_they_mean_the_same():
    assert Duration("P1W") == Duration("P7D") and hash(Duration("P1W")) == hash(Duration("P7D"))
    assert Duration("PT60M") == Duration("PT1H")
    # a day of 23 hours is a day
    assert Duration("P1D") != Duration("PT24H")
    assert Duration("P1D") != "P1D"


def test_nothing_is_false():
    assert not Duration("PT0S") and not Duration("P0D")
    assert Duration("PT1S") and Duration("P1D")


def test_the_calendar_keeps_the_time_of_day_over_a_change_of_clocks():
    evening = datetime(2013, 3, 9, 20, tzinfo=ZoneInfo("America/New_York"))
    assert Duration("P1D").after(evening).hour == 20
