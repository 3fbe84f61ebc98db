"""The suites let every month and day of the reference data through, and stop what should be stopped."""

from __future__ import annotations

import pytest

from demo import data

# One of each month, with the first and last day of the data and the days on which clocks change.
DAYS = [
    "2010-01-01",
    "2010-01-02",
    "2010-03-14",
    "2010-11-07",
    "2010-12-31",
    *(f"2010-{m:02d}-15" for m in range(2, 13)),
]


@pytest.mark.parametrize("month", data.MONTHS)
def test_the_months_pass(flights, year, month):
    earlier = data.MONTHS[max(0, data.MONTHS.index(month) - 3) : data.MONTHS.index(month)]
    for source in ("flights", "weather"):
        before = {key: flights.read(source, key) for key in earlier}
        assert flights.gate(f"suites/{source}.yaml", flights.read(source, month), month, before) == []
    before = {key: year[key] for key in earlier}
    assert flights.gate("suites/features.yaml", year[month], month, before) == []


def test_the_planes_pass(flights):
    assert flights.gate("suites/planes.yaml", flights.read("planes")) == []


@pytest.mark.parametrize("day", DAYS)
def test_the_days_pass(temperatures, day):
    assert temperatures.gate("suites/temperatures.yaml", temperatures.read("temperatures", day)) == []
    assert temperatures.gate("suites/features.yaml", temperatures.transform(day)) == []


def test_a_flight_sent_twice_is_stopped(flights):
    import pyarrow as pa

    # Given a file whose last flight stands twice, when the gate runs, then it says so
    month = flights.read("flights", "2013-01")
    (message,) = flights.gate("suites/flights.yaml", pa.concat_tables([month, month.slice(month.num_rows - 1)]))
    assert "flight" in message
    # and the transform does not hide it: the features fail as well
    inputs = flights.inputs("2013-01")
    twice = pa.concat_tables([inputs["flights"], inputs["flights"].slice(100, 1)])
    assert flights.gate("suites/features.yaml", flights.transform("2013-01", inputs | {"flights": twice}))


def test_half_a_month_is_stopped(flights):
    month = flights.read("flights", "2013-01")
    messages = flights.gate("suites/flights.yaml", month.slice(0, month.num_rows // 2))
    assert any("rows" in message for message in messages)


def test_an_airport_nobody_knows_is_stopped(flights):
    import pyarrow as pa

    weather = flights.read("weather", "2013-01")
    origins = pa.array(["SWF" if o == "JFK" else o for o in weather["origin"].to_pylist()])
    changed = weather.set_column(weather.schema.get_field_index("origin"), "origin", origins)
    assert any("origin" in message for message in flights.gate("suites/weather.yaml", changed))


def test_a_plane_registered_twice_is_stopped(flights):
    import pyarrow as pa

    planes = flights.read("planes")
    assert flights.gate("suites/planes.yaml", pa.concat_tables([planes, planes.slice(0, 1)]))


def test_a_column_that_broke_on_the_way_is_stopped(flights, year):
    import pyarrow as pa

    made = year["2013-06"]
    for name in ("temperature", "plane_seats", "origin_dep_delay_24h", "late"):
        index = made.schema.get_field_index(name)
        broken = made.set_column(index, name, pa.nulls(made.num_rows, made.schema.field(index).type))
        assert flights.gate("suites/features.yaml", broken), name


def test_celsius_is_stopped(temperatures):
    import pyarrow.compute as pc

    day = temperatures.read("temperatures", "2010-08-01")
    celsius = pc.divide(pc.subtract(day["temp"], 32.0), 1.8)
    changed = day.set_column(day.schema.get_field_index("temp"), "temp", celsius)
    assert any("temp" in message for message in temperatures.gate("suites/temperatures.yaml", changed))
