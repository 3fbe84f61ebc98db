"""demo.data writes the source files as they would be delivered: original columns, whole or not at all."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from demo import data


def rows(path):
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_month_of_flights_is_the_airlines_file(tmp_path, flights):
    # When January is written
    path = data.write_flights(tmp_path, "2013-01")
    # Then it holds January's flights with all columns, and a missing value is empty
    assert path == tmp_path / "flights" / "2013-01.csv"
    found = rows(path)
    assert tuple(found[0]) == flights.spec.sources["flights"].columns
    assert len(found) == 27_004 and {(r["year"], r["month"]) for r in found} == {("2013", "1")}
    assert sum(r["arr_delay"] == "" for r in found) == 606
    assert not any("NA" in r.values() for r in found)
    # and text is as it came
    assert found[0]["time_hour"] == "2013-01-01T10:00:00Z"


def test_the_months_are_the_whole_year(flights):
    sizes = [flights.read("flights", month).num_rows for month in data.MONTHS]
    assert sum(sizes) == 336_776
    assert sum(flights.read("weather", month).num_rows for month in data.MONTHS) == 26_115
    assert flights.read("planes").num_rows == 3_322


def test_weather_keeps_its_digits_and_its_local_month(tmp_path, flights):
    found = rows(data.write_weather(tmp_path, "2013-01"))
    assert tuple(found[0]) == flights.spec.sources["weather"].columns
    assert found[0]["wind_speed"] == "10.357019999999999" and found[0]["wind_gust"] == ""
    partitioning = flights.spec.partitioning
    times = {datetime.fromisoformat(r["time_hour"]) for r in found}
    assert partitioning.start("2013-01") <= min(times) and max(times) < partitioning.end("2013-01")


def test_temperatures_are_on_standard_time_and_days_on_the_local_clock(tmp_path):
    # Given 2010-01-01 00:00 on the clock of the file, eight hours behind UTC
    found = rows(data.write_temperatures(tmp_path, "2010-01-01"))
    assert found[0] == {"city": "Seattle", "time": "2010-01-01T08:00:00Z", "temp": "39.4"}
    # Then every day is local, 23 or 25 hours long where clocks change, and no reading is lost or stands twice
    zone, seen = ZoneInfo("America/Los_Angeles"), set()
    sizes = {}
    day = datetime(2010, 1, 1)
    while day.year == 2010:
        name = f"{day:%Y-%m-%d}"
        found = rows(data.write_temperatures(tmp_path, name))
        seen |= {(r["city"], r["time"]) for r in found}
        assert {datetime.fromisoformat(r["time"]).astimezone(zone).strftime("%Y-%m-%d") for r in found} == {name}
        sizes[name] = len(found)
        day += timedelta(days=1)
    assert {n: s for n, s in sizes.items() if s != 48} == {"2010-03-14": 44, "2010-11-07": 50}
    assert len(seen) == sum(sizes.values()) == 2 * 8_759


@pytest.mark.parametrize("write", [data.write_flights, data.write_weather])
@pytest.mark.parametrize("month", ["2012-12", "2013-1", "2013-13", "", "2013-01-01"])
def test_a_month_that_there_is_not_is_refused(tmp_path, write, month):
    with pytest.raises(ValueError, match="2013-01 to 2013-12"):
        write(tmp_path, month)
    assert not list(tmp_path.rglob("*"))


def test_a_day_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2010-01-01 to 2010-12-31"):
        data.write_temperatures(tmp_path, "2011-01-01")


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    # Given a delivered file
    path = data.write_temperatures(tmp_path, "2010-01-01")
    before = path.read_bytes()

    def broken():
        yield ("Seattle", "2010-01-01T08:00:00Z", "1")
        raise OSError("disk full")

    # When a second delivery breaks off, then the first is there, whole
    with pytest.raises(OSError, match="disk full"):
        data._write(path, ("city", "time", "temp"), broken())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_same_file_twice_is_the_same_bytes(tmp_path):
    first = data.write_planes(tmp_path / "a").read_bytes()
    assert data.write_planes(tmp_path / "b").read_bytes() == first


def test_the_command_writes_what_a_pipeline_reads(tmp_path, capsys):
    data.main(["--folder", str(tmp_path), "temperatures", "2010-03-13", "2010-03-15"])
    assert sorted(p.name for p in (tmp_path / "temperatures").iterdir()) == [
        "2010-03-13.csv", "2010-03-14.csv", "2010-03-15.csv",
    ]  # fmt: skip
    assert "3 files" in capsys.readouterr().out
