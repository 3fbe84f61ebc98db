"""flight_delays: one row per scheduled flight, the same bytes every time, and features that mean what they say."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="module")
def january(flights) -> Any:
    """January's features (pandas)."""
    return flights.transform("2013-01").to_pandas()


def only(frame: Any, flight_id: str) -> Any:
    return frame.set_index("flight_id").loc[flight_id]


def test_every_scheduled_flight_of_the_year_has_one_row(flights, year):
    # Given all months, when each is transformed
    ids = [i for table in year.values() for i in table["flight_id"].to_pylist()]
    # Then no flight is lost, doubled, or in two months
    assert len(ids) == len(set(ids)) == 336_776
    assert sum(table["late"].null_count for table in year.values()) == 9_430
    for month, table in year.items():
        start, end = flights.spec.partitioning.start(month), flights.spec.partitioning.end(month)
        times = table["event_timestamp"].to_pylist()
        assert start <= min(times) and max(times) < end


def test_a_flight_is_described_as_at_its_scheduled_departure(january):
    # UA 1545, the first row of the file: due 05:15 local (10:15 UTC) on a Tuesday, 819 - 515 on the clocks,
    # plane of 1999
    first = only(january, "20130101T0515-UA-1545-EWR-IAH")
    assert str(first.event_timestamp) == "2013-01-01 10:15:00+00:00"
    assert (first.minute_of_day, first.weekday, first.distance, first.scheduled_minutes) == (315, 2, 1400, 184)
    assert (first.plane_age, first.plane_seats, first.plane_engines) == (14, 149, 2)
    assert first.late == 0  # 11 minutes
    # Nothing had landed yet on the first morning of the data
    assert january.loc[january.event_timestamp == first.event_timestamp, "origin_arr_delay_24h"].isna().all()


def test_the_label_is_more_than_15_minutes_late_and_null_without_an_arrival(flights, january):
    raw = flights.read("flights", "2013-01").to_pandas()
    key = ["carrier", "flight", "origin", "dest"]
    stamp = raw.time_hour.dt.tz_convert("America/New_York").dt.strftime("%Y%m%dT")
    clock = raw.sched_dep_time.astype(str).str.zfill(4)
    ids = stamp + clock + raw[key].astype(str).agg("-".join, axis=1).radd("-")
    late = january.set_index("flight_id").late.loc[ids].to_numpy()
    assert ((raw.arr_delay.to_numpy() > 15) == (late == 1)).all()
    assert (raw.arr_delay.isna().to_numpy() == (late != late)).all()


def test_rolling_delays_are_the_mean_of_what_landed_in_24_hours(flights, january):
    import numpy as np
    import pandas as pd

    # Given when each flight's delays became known
    raw = flights.read("flights", "2013-01").to_pandas().dropna(subset=["arr_delay"])
    minutes = raw.minute + raw.dep_delay + raw.air_time + 240
    raw["landed"] = raw.time_hour + pd.to_timedelta(minutes, unit="min")
    sample = january.iloc[500::900]
    assert len(sample) > 25
    for row in sample.itertuples():
        window = raw[(raw.landed >= row.event_timestamp - pd.Timedelta(hours=24)) & (raw.landed < row.event_timestamp)]
        for group in ("origin", "carrier"):
            same = window[window[group] == getattr(row, group)]
            for delay in ("dep_delay", "arr_delay"):
                # Then the feature is their mean, null where nothing landed
                expected = same[delay].sum() / len(same) if len(same) else np.nan
                np.testing.assert_equal(getattr(row, f"{group}_{delay}_24h"), expected)


def test_the_first_day_of_a_month_remembers_the_month_before(flights, year):
    # Given February's first departures, then flights of January count; without the lookback there would be nothing
    february = year["2013-02"].slice(0, 50).to_pandas()
    assert february.origin_arr_delay_24h.notna().all()
    assert february.temperature.notna().all()


def test_weather_is_the_last_finished_hours(flights, january):
    raw = flights.read("weather", "2013-01").to_pandas()
    flight = january[january.origin == "JFK"].iloc[4000]
    known = raw[(raw.origin == "JFK") & (raw.time_hour < flight.event_timestamp.floor("h"))]
    last = known.sort_values("time_hour").iloc[-1]
    assert (flight.temperature, flight.humidity) == (last.temp, last.humid)


@pytest.mark.parametrize(("gone", "null"), [(5, False), (6, True)])
def test_weather_speaks_for_six_hours(flights, gone, null):
    import pyarrow as pa
    import pyarrow.compute as pc

    # Given a station that fell silent before noon (17:00 UTC) of 20 January
    inputs = flights.inputs("2013-01")
    weather, hour = inputs["weather"], 17
    silent = [pa.scalar(f"2013-01-20T{h:02d}:00Z").cast(pa.timestamp("us", "UTC")) for h in range(hour - gone, hour)]
    heard = weather.filter(pc.invert(pc.is_in(weather["time_hour"], pa.array(silent, pa.timestamp("us", "UTC")))))
    assert heard.num_rows == weather.num_rows - 3 * gone
    # When flights leave between 17:00 and 18:00 UTC
    made = flights.transform("2013-01", inputs | {"weather": heard}).to_pandas()
    noon = made[made.event_timestamp.between("2013-01-20T17:00Z", "2013-01-20T17:59Z")]
    # Then the last word still counts after five silent hours, and no longer after six
    assert len(noon) > 10 and noon.temperature.isna().all() == null


def test_a_broken_wind_reading_and_an_unknown_plane_are_null(flights, year):
    import pyarrow.compute as pc

    raw = flights.read("weather", "2013-02")
    assert pc.max(raw["wind_speed"]).as_py() > 1000
    assert pc.max(year["2013-02"]["wind_speed"]).as_py() < 100
    made, register = year["2013-02"].to_pandas(), flights.read("planes").to_pandas()
    tails = flights.read("flights", "2013-02").to_pandas().tailnum
    assert made.plane_engines.isna().sum() == (~tails.isin(register.tailnum)).sum() > 0
    ages = register.set_index("tailnum").year.reindex(tails)
    assert made.plane_age.isna().sum() == ages.isna().sum() > made.plane_engines.isna().sum()


def test_the_order_of_input_rows_does_not_reach_the_bytes(flights, year, tmp_path):
    import numpy as np

    from millrace.core.canonical import file_digest
    from millrace.store.snapshots import write_parquet

    # Given the same rows in another order
    shuffle = np.random.default_rng(3)
    inputs = {n: t.take(shuffle.permutation(t.num_rows)) for n, t in flights.inputs("2013-03").items()}
    # When the month is transformed
    write_parquet(flights.transform("2013-03", inputs), tmp_path / "shuffled")
    write_parquet(year["2013-03"], tmp_path / "ordered")
    # Then the bytes are the same
    assert file_digest(tmp_path / "shuffled") == file_digest(tmp_path / "ordered")
