"""Times, dates and times of day in a delivery: what names its zone is that moment, what does not is local to the
source's zone, and what no clock showed, or showed twice, is refused."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.core.errors import DataError
from millrace.sources.formats.columns import Refused
from millrace.sources.formats.tabular import read
from millrace.sources.formats.times import DATE, MOMENT, TIME, localise, read_text

ROME = "Europe/Rome"


def moment(text: str, zone: str | None = None) -> datetime:
    made: datetime = read_text(pa.array([text]), MOMENT, zone)[0].as_py()
    return made


def refused(kind: pa.DataType, *texts: str | None, zone: str | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        read_text(pa.array(texts, pa.string()), kind, zone)
    return caught.value


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2024-01-01T12:00:00Z", 0),
        ("2024-01-01 12:00:00+00", 0),
        ("2024-01-01 13:00:00+01", 0),
        ("2024-01-01T07:30:00-0430", 0),
        ("2024-01-01T12:00Z", 0),
        ("2024-01-01T12:00:00.1Z", 100_000),
        ("2024-01-01T12:00:00.123456Z", 123_456),
        ("2024-01-01T12:00:00.123456789Z", 123_456),
        ("2024-01-01T12:00:00.9999999+00:00", 999_999),
    ],
)
def test_a_time_with_an_offset_is_that_moment_to_the_microsecond(text: str, micros: int) -> None:
    noon = datetime(2024, 1, 1, 12, 0, 0, micros, UTC)
    assert moment(text) == moment(text, ROME) == noon
    # and beside one of nine digits, which is read another way
    assert read_text(pa.array([text, "2024-01-01T12:00:00.000000001Z", None]), MOMENT, None)[0].as_py() == noon


def test_a_time_without_an_offset_needs_the_sources_zone() -> None:
    err = refused(MOMENT, "2024-01-01T12:00:00Z", None, "2024-01-01T12:00:00")
    assert (err.place, err.why, err.allowed) == (2, "has no time zone", "ISO 8601 with Z or an offset")
    assert "under the source's timezone" in str(err.next_step)


def test_a_time_without_an_offset_is_local_summer_and_winter() -> None:
    texts = ["2024-07-01T12:00:00", "2024-01-01 12:00", None, "2024-01-01T12:00:00.5+05:30", "2024-01-01T12"]
    assert read_text(pa.array(texts), MOMENT, ROME).to_pylist() == [
        datetime(2024, 7, 1, 10, tzinfo=UTC), datetime(2024, 1, 1, 11, tzinfo=UTC), None,
        datetime(2024, 1, 1, 6, 30, 0, 500_000, UTC), datetime(2024, 1, 1, 11, tzinfo=UTC),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "zone", "why"),
    [
        ("2024-03-31T02:00:00", ROME, "never was: the clocks of Europe/Rome went forward"),
        ("2024-03-31T02:59:59.999999", ROME, "never was"),
        ("2024-10-27T02:00:00", ROME, "was twice: the clocks of Europe/Rome went back"),
        ("2024-10-27T02:59:59.999999", ROME, "was twice"),
        ("2024-04-26 00:30:00", "Africa/Cairo", "never was"),
        ("2011-12-30T12:00:00", "Pacific/Apia", "never was"),
        ("2024-04-07T01:45:00", "Australia/Lord_Howe", "was twice"),
    ],
)
def test_what_no_clock_showed_or_showed_twice_is_refused(text: str, zone: str, why: str) -> None:
    err = refused(MOMENT, "2024-06-01T00:00:00", None, text, text, zone=zone)
    assert err.place == 2
    assert why in err.why and zone in str(err.next_step)
    # An offset settles it.
    assert moment(text + "+00:00", zone).replace(tzinfo=None) == datetime.fromisoformat(text)


def test_times_beside_a_change_of_clocks_are_right() -> None:
    assert moment("2024-03-31T01:59:59.999999", ROME) == datetime(2024, 3, 31, 0, 59, 59, 999_999, UTC)
    assert moment("2024-03-31T03:00:00", ROME) == datetime(2024, 3, 31, 1, tzinfo=UTC)
    assert moment("2024-10-27T01:59:59.999999", ROME) == datetime(2024, 10, 26, 23, 59, 59, 999_999, UTC)
    assert moment("2024-10-27T03:00:00", ROME) == datetime(2024, 10, 27, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "first"),
    [
        ("2024-01-01", ROME, datetime(2023, 12, 31, 23)),
        ("2024-04-26", "Africa/Cairo", datetime(2024, 4, 25, 22)),  # begins at one o'clock
        ("2024-11-03", "America/Havana", datetime(2024, 11, 3, 4)),  # has two midnights
    ],
)
def test_a_date_alone_is_the_first_moment_of_that_day(text: str, zone: str, first: datetime) -> None:
    assert moment(text, zone) == first.replace(tzinfo=UTC)


def test_a_date_that_the_clocks_left_out_is_refused() -> None:
    assert "never was" in refused(MOMENT, "2011-12-29", "2011-12-30", zone="Pacific/Apia").why
    assert refused(MOMENT, "2024-01-01").why == "has no time zone"


@given(
    st.sampled_from([ROME, "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Tokyo",
                     "Pacific/Apia", "Africa/Casablanca", "America/St_Johns", "Antarctica/Troll"]),
    st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2037, 12, 31)), min_size=1, max_size=9),
    st.integers(0, 3),
)  # fmt: skip
def test_local_times_are_those_of_zoneinfo(zone: str, drawn: list[datetime], hours: int) -> None:
    # Given local times, some of them close to a change of clocks
    clocks = ZoneInfo(zone)
    change = datetime(2024, 3, 31, 1, 30) + timedelta(hours=hours)
    for local in [*drawn, change]:
        both = [local.replace(tzinfo=clocks, fold=fold).astimezone(UTC) for fold in (0, 1)]
        array = pa.array([datetime(2000, 1, 1, 12), local], pa.timestamp("us"))
        if both[0] == both[1]:
            assert localise(array, zone)[1].as_py() == both[0]
        else:
            with pytest.raises(Refused) as caught:
                localise(array, zone)
            assert ("never was" in str(caught.value)) == (both[0].astimezone(clocks).replace(tzinfo=None) != local)


def test_dates_and_times_of_day() -> None:
    assert read_text(pa.array(["2024-02-29", None, "0001-01-01"]), DATE, None).to_pylist() == [
        date(2024, 2, 29), None, date(1, 1, 1),
    ]  # fmt: skip
    assert read_text(pa.array(["23:59", None, "00:00:00", "12:00:00.1234567"]), TIME, None).to_pylist() == [
        time(23, 59), None, time(0), time(12, 0, 0, 123_456),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["2023-02-29", "2024-1-1", "20240101", "01/02/2024", "2024-01-01T00:00:00", ""])
def test_what_is_no_date_is_refused(text: str) -> None:
    err = refused(DATE, "2024-01-01", text)
    assert (err.place, err.why, err.allowed) == (1, "is not of type date", "YYYY-MM-DD")


@pytest.mark.parametrize("text", ["24:00", "12", "1:00", "12:60", "12:00:60", "12:00:00Z", "12:00 PM", "12:00:00."])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    err = refused(TIME, "12:00", text)
    assert (err.place, err.why) == (1, "is not of type time")


COLUMNS = ("at", "day", "clock")
TYPES = {"at": "timestamp", "day": "date", "clock": "time"}
ROW = {"at": datetime(2024, 7, 1, 10, tzinfo=UTC), "day": date(2024, 7, 1), "clock": time(12, 30)}


def land(path: Path, format: str, **more: Any) -> pa.Table:
    return read(path, f"x.{format}", format, COLUMNS, TYPES, lambda column: True, **more)


@pytest.fixture
def delivered(tmp_path: Path) -> dict[str, Path]:
    """The same row in each format, its time without a zone."""
    texts = {"at": "2024-07-01T12:00:00", "day": "2024-07-01", "clock": "12:30:00"}
    paths = {name: tmp_path / name for name in ("csv", "json", "parquet", "text.parquet")}
    paths["csv"].write_text(",".join(texts) + "\n" + ",".join(texts.values()) + "\n")
    paths["json"].write_text(json.dumps(texts) + "\n")
    pq.write_table(
        pa.table({"at": pa.array([datetime(2024, 7, 1, 12)], pa.timestamp("ms")), "day": pa.array([ROW["day"]]),
                  "clock": pa.array([ROW["clock"]], pa.time32("s"))}), paths["parquet"],
    )  # fmt: skip
    pq.write_table(pa.table({name: [text] for name, text in texts.items()}), paths["text.parquet"])
    return paths


@pytest.mark.parametrize("name", ["csv", "json", "parquet", "text.parquet"])
def test_every_format_lands_them_alike(delivered: dict[str, Path], name: str) -> None:
    format = name.rpartition(".")[2]
    table = land(delivered[name], format, timezone=ROME)
    assert table.to_pylist() == [ROW]
    assert [str(kind) for kind in table.schema.types] == ["timestamp[us, tz=UTC]", "date32[day]", "time64[us]"]
    with pytest.raises(DataError, match=r"^x\.\w+(:\d)?: column 'at' has no time zone.*under the source's timezone"):
        land(delivered[name], format)


@pytest.mark.parametrize("name", ["csv", "json", "parquet", "text.parquet"])
def test_every_format_refuses_a_time_that_never_was(delivered: dict[str, Path], name: str) -> None:
    format = name.rpartition(".")[2]
    path = delivered[name]
    if format == "parquet":
        table = pq.read_table(path)
        kind = table.schema.field("at").type
        gap = pa.array(["2011-12-30T12:00:00"]).cast(kind)
        pq.write_table(table.set_column(0, "at", gap), path)
    else:
        path.write_text(path.read_text().replace("2024-07-01T12:00:00", "2011-12-30T12:00:00"))
    with pytest.raises(DataError, match=r"column 'at' names a time that never was: the clocks of Pacific/Apia"):
        land(path, format, timezone="Pacific/Apia")
