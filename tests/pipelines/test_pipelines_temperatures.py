"""city_temperature: a forecast per city and hour, from what was known six hours before."""

from __future__ import annotations

import pytest


def test_a_forecast_knows_what_was_read_six_hours_before(temperatures):
    import pandas as pd

    # Given the readings of the day and the days before
    day = "2010-06-15"
    raw = temperatures.inputs(day)["temperatures"].to_pandas().set_index(["city", "time"]).temp
    made = temperatures.transform(day).to_pandas()
    assert len(made) == 48
    for row in made.itertuples():
        city, known = row.city, row.event_timestamp - pd.Timedelta(hours=6)
        before = raw[city].sort_index().loc[: known]  # fmt: skip
        # Then the features are its readings, and the label is what came
        assert row.temperature_6h_before == before.iloc[-1]
        assert row.change_3h == before.iloc[-1] - before.iloc[-4]
        assert (row.low_24h, row.high_24h) == (before.iloc[-24:].min(), before.iloc[-24:].max())
        assert row.temperature == raw[city, row.event_timestamp]
        assert (row.station, row.hour_of_day) == (city, f"{row.event_timestamp:%H}")


def test_no_feature_knows_a_later_reading(temperatures):
    import pandas as pd
    import pyarrow as pa

    # Given a world in which everything after 12:00 UTC is warmer
    day, inputs = "2010-06-15", temperatures.inputs("2010-06-15")
    raw = inputs["temperatures"].to_pandas()
    now = pd.Timestamp("2010-06-15T12:00Z")
    raw.loc[raw.time > now, "temp"] += 20
    warmer = {"temperatures": pa.Table.from_pandas(raw, inputs["temperatures"].schema, preserve_index=False)}
    features = ["temperature_6h_before", "change_3h", "low_24h", "high_24h"]

    def moved(sql: str) -> int:
        one, other = (temperatures.transform(day, world, sql).to_pandas() for world in (inputs, warmer))
        due = one.event_timestamp <= now + pd.Timedelta(hours=6)
        assert due.any() and len(one) == len(other)
        return int((one[due][features] != other[due][features]).to_numpy().sum())

    # Then forecasts up to six hours later do not move; with a leak planted they do
    assert moved(temperatures.sql) == 0
    frame = "RANGE BETWEEN INTERVAL 23 HOUR PRECEDING AND "
    leak = temperatures.sql.replace(frame + "CURRENT ROW", frame + "INTERVAL 6 HOUR FOLLOWING")
    assert leak != temperatures.sql
    assert moved(leak) > 0


@pytest.mark.parametrize(
    ("day", "rows"),
    [
        ("2010-01-01", 36),  # six hours without a reading before them
        ("2010-01-02", 48),
        ("2010-03-14", 42),  # 23 hours; one reading is missing, so one forecast has nothing to start from
        ("2010-11-07", 50),  # 25 hours
        ("2010-12-31", 48),
    ],
)
def test_every_hour_that_can_be_forecast_is(temperatures, day, rows):
    import pyarrow.compute as pc

    made = temperatures.transform(day)
    assert made.num_rows == rows
    assert not any(column.null_count for column in made.columns)
    start, end = temperatures.spec.partitioning.start(day), temperatures.spec.partitioning.end(day)
    times = pc.min_max(made["event_timestamp"]).as_py()
    assert start <= times["min"] and times["max"] < end
