"""When a label is known, when it is absent, and what it may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millrace.core.errors import DataError
from millrace.rules.labels import absent, all_known, check, known
from millrace.spec import Duration

MICROSECOND = timedelta(microseconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def events(*moments: datetime, unit: str = "us", zone: str | None = "UTC") -> pa.Table:
    plain = [m.astimezone(UTC).replace(tzinfo=None) for m in moments]
    return pa.table({"time": pa.array(plain, pa.timestamp(unit)).cast(pa.timestamp(unit, zone))})


# Month ends, leap days and midnights lie close together here.
moments = st.builds(
    lambda day, clock: at("2023-12-25") + timedelta(days=day) + clock,
    st.integers(0, 900),
    st.sampled_from([timedelta(), MICROSECOND, timedelta(hours=12), timedelta(days=1) - MICROSECOND]),
)
durations = st.builds(
    lambda y, m, w, d, h, s: Duration(f"P{y}Y{m}M{w}W{d}DT{h}H{s}S"),
    st.integers(0, 3), st.integers(0, 14), st.integers(0, 2), st.integers(0, 33), st.integers(0, 50), st.integers(0, 9),
)  # fmt: skip


@given(st.lists(moments, min_size=1, max_size=30), durations, moments)
@example([at("2023-01-30T12:00"), at("2023-01-31T00:00")], Duration("P1M"), at("2023-02-28T06:00"))
@example([at("2024-02-29T00:00"), at("2024-02-28T00:00")], Duration("P1Y"), at("2025-02-28T00:00"))
@example([at("2024-01-31T00:00")], Duration("P1M1D"), at("2024-03-01T00:00"))
def test_a_label_is_known_when_its_time_and_then_the_duration_have_passed(
    times: list[datetime], known_after: Duration, as_of: datetime
) -> None:
    expected = [known_after.after(time) <= as_of for time in times]
    assert known(events(*times), "time", known_after, as_of).to_pylist() == expected
    # and to the microsecond
    for time in times:
        due = known_after.after(time)
        assert known(events(time), "time", known_after, due).to_pylist() == [True]
        assert known(events(time), "time", known_after, due - MICROSECOND).to_pylist() == [False]


def test_a_month_end_is_neither_searched_nor_subtracted() -> None:
    """Given labels a month later, the event of 30 January noon is not known on the morning of 28 February, though
    that of 31 January midnight is; and 29 to 31 January are known with it, though no month before it."""
    times = [at(f"2023-01-{day}T00:00") for day in ("28", "29", "30", "31")] + [at("2023-01-30T12:00")]
    found = known(events(*times), "time", Duration("P1M"), at("2023-02-28T06:00"))
    assert found.to_pylist() == [True, True, True, True, False]


@pytest.mark.parametrize(("unit", "zone"), [("s", "UTC"), ("ms", None), ("ns", "Africa/Cairo"), ("us", "Asia/Tokyo")])
def test_the_same_moment_in_any_unit_and_zone_is_known_at_the_same_time(unit: str, zone: str | None) -> None:
    times = [at("2024-01-31T22:00"), at("2024-02-01T00:00")]
    naive_or_not = events(*times, unit=unit, zone=zone)
    tokyo = at("2024-02-29T23:00").astimezone(timezone(timedelta(hours=9)))
    for as_of in (tokyo, at("2024-02-29T23:00").replace(tzinfo=None)):
        assert known(naive_or_not, "time", Duration("P1M"), as_of).to_pylist() == [True, False]


def test_no_event_and_events_of_other_ages() -> None:
    assert known(events(), "time", Duration("P1M"), at("2024-01-01")).to_pylist() == []
    old = pa.table({"time": pa.array([-(10**17), 10**17], pa.timestamp("us", "UTC"))})
    assert known(old, "time", Duration("P1000Y"), at("0500-01-01")).to_pylist() == [True, False]
    assert known(old, "time", Duration("P9Y"), at("2024-01-01")).to_pylist() == [True, False]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array(["2024-01-01"]), r"must be a timestamp \(given: 'time: string'"),
        (pa.array([None, 0], pa.timestamp("us", "UTC")), "1 of 2 rows have no event time"),
    ],
)
def test_what_is_no_event_time_is_refused(column: pa.Array, words: str) -> None:
    with pytest.raises(DataError, match=words):
        known(pa.table({"time": column}), "time", Duration("P1D"), at("2024-01-01"))


@given(moments, durations, st.lists(st.integers(1, 4 * 86_400), min_size=1))
@example(at("2023-03-31T00:00"), Duration("P1M"), [60])
@example(at("2023-01-31T10:00"), Duration("P1M"), [60, 10 * 3600 + 1])
@example(at("2024-05-01T00:00"), Duration("P1M"), [1])
def test_all_labels_before_a_moment_are_known_together_and_not_sooner(
    end: datetime, known_after: Duration, before: list[int]
) -> None:
    due = all_known(end, known_after)
    assert all(known_after.after(end - timedelta(seconds=s)) <= due for s in before)
    last = [end - MICROSECOND, end.replace(hour=0, minute=0, second=0, microsecond=0) - MICROSECOND]
    assert any(known_after.after(time) >= due - MICROSECOND for time in last)


def test_null_and_nan_are_the_same_absence() -> None:
    assert absent(pa.array([1.0, None, float("nan")])).to_pylist() == [False, True, True]
    assert absent(pa.array(["a", None])).to_pylist() == [False, True]
    assert absent(pa.array([1, None])).to_pylist() == [False, True]


GOOD: list[tuple[Any, pa.Array]] = [
    ("binary", pa.array([True, False, None])),
    ("binary", pa.array([0, 1, None], pa.uint8())),
    ("binary", pa.array([0.0, 1.0, float("nan"), None])),
    ("binary", pa.array([Decimal("1.0"), Decimal("0.0")])),
    ("binary", pa.nulls(2)),
    ("multiclass", pa.array(["a", "", None])),
    ("multiclass", pa.array(["a", "b"]).dictionary_encode()),
    ("multiclass", pa.array([-1, 7])),
    ("regression", pa.array([-3.4028234663852886e38, 0, float("nan"), None])),
    ("regression", pa.array([2**62, -1])),
    ("regression", pa.array([Decimal("1.5")])),
]


@pytest.mark.parametrize(("task", "values"), GOOD)
def test_labels_of_the_task_pass_and_absent_ones_are_left_alone(task: Any, values: pa.Array) -> None:
    check(values, "late", task)
    check(pa.chunked_array([values, values]), "late", task)


BAD: list[tuple[Any, pa.Array, str]] = [
    ("binary", pa.array([0, 1, 2, 2, -1]), "(int64) is something else in 3 of 5 rows"),
    ("binary", pa.array([0.0, 0.5]), "(double) is something else in 1 of 2 rows"),
    ("binary", pa.array([1.0, float("inf")]), "in 1 of 2 rows"),
    ("binary", pa.array(["0", "1"]), "of a binary task is string"),
    ("binary", pa.array([datetime(2024, 1, 1)]), "is timestamp[us]"),
    ("multiclass", pa.array([1.0, 2.0]), "is double"),
    ("multiclass", pa.array([True]), "is bool"),
    ("multiclass", pa.array([7, 2**63], pa.uint64()), "(uint64) is something else in 1 of 2 rows"),
    ("regression", pa.array([1.0, float("-inf"), 1e308, 3.41e38]), "in 3 of 4 rows"),
    ("regression", pa.array([True]), "is bool"),
    ("regression", pa.array(["1.5"]), "is string"),
    ("regression", pa.array(["1.5"]).dictionary_encode(), "is string"),
]


@pytest.mark.parametrize(("task", "values", "words"), BAD)
def test_other_labels_are_refused_by_column_kind_and_count(task: Any, values: pa.Array, words: str) -> None:
    with pytest.raises(DataError) as caught:
        check(pa.chunked_array([values]), "late", task)
    assert "label 'late'" in str(caught.value) and words in str(caught.value)
    assert {"binary": "0, 1 or booleans", "multiclass": "text or integers", "regression": "finite numbers"}[
        task
    ] in str(caught.value)


def test_values_are_named_where_the_column_is_public_and_only_there() -> None:
    values = pa.array([4711, 0, 815, 815, 1])
    with pytest.raises(DataError, match=r"given: '815 \(2 rows\), 4711 \(1 rows\)'"):
        check(values, "late", "binary", public=True)
    with pytest.raises(DataError) as caught:
        check(values, "late", "binary")
    assert "815" not in str(caught.value) and "4711" not in str(caught.value)
