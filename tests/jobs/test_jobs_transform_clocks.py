"""transform: the SQL's clocks are those of the pipeline's zone, in both engines, also where clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from support import spark_pair
from support.requests import request

from millrace.checks.columns import check_columns
from millrace.checks.readable import Readable
from millrace.checks.sql import sql_columns
from millrace.contract import JobResult
from millrace.core.errors import SpecError
from millrace.jobs.runner import run
from millrace.spec import Bundle, PipelineSpec, ProjectTree
from millrace.store import SnapshotStore, bundles, open_store

NEW_YORK = ZoneInfo("America/New_York")
SQL = """
SELECT id, time AS event_timestamp, hour(time) AS hour_of_day, isodow(time) AS weekday, time::DATE AS day,
       date_trunc('day', time) AS midnight, time >= TIMESTAMPTZ '{key} 12:00:00' AS afternoon
FROM rides, scope
WHERE time >= start_time AND time < end_time
"""


def spec(engine: str = "duckdb", zone: str = "America/New_York") -> PipelineSpec:
    return PipelineSpec.model_validate({
        "version": 1, "name": "shop", "owner": "me", "description": "test",
        "partition": {"grain": "day", "timezone": zone, "start": "2024-01-01"},
        "sources": {"rides": {"kind": "files", "gate": "g.yaml", "location": "{year}-{month}-{day}.csv",
                              "columns": ["id", "time"], "types": {"time": "timestamp"}}},
        "features": {"entity": ["id"], "service": "shop", "engine": engine},
    })  # fmt: skip


def transform(root: Path, given: PipelineSpec, sql: str, key: str) -> JobResult:
    """Features of a day from a ride every half hour of three days around it."""
    store = open_store(root)
    first = given.partitioning.start(key) - timedelta(days=1)
    times = [first + timedelta(minutes=30 * n) for n in range(150)]
    table = pa.table({"id": [f"r{n}" for n in range(150)], "time": pa.array(times, pa.timestamp("us", "UTC"))})
    made = SnapshotStore(store).write(table, pipeline="shop", dataset="raw.rides", partition=key)
    bundle = Bundle(spec=given.model_dump(mode="json"), sql=sql, suites={})
    bundles.keep(store, bundle)
    asked = request(
        "transform", store=store.root, spec_digest=bundle.digest, scope=[key], inputs=[("rides", made, key)],
        services={"spark": "local[2]"},
    )  # fmt: skip
    return run(asked)


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
@pytest.mark.parametrize(("key", "hours"), [("2024-03-10", 23), ("2024-11-03", 25)])
def test_hours_and_days_are_local_where_clocks_change(tmp_path: Path, engine: str, key: str, hours: int) -> None:
    if engine == "spark" and (reason := spark_pair.missing()):
        pytest.skip(reason)
    # When the day on which New York's clocks change is made
    result = transform(tmp_path, spec(engine), SQL.format(key=key), key)
    assert result.outcome is not None, result.error
    data = result.outcome.outputs["data"]
    rows = SnapshotStore(open_store(tmp_path)).read(data.uri, data.digest).to_pylist()
    # Then it has all its hours, each with the clock, the weekday and the date of New York
    assert len(rows) == 2 * hours
    day = datetime.fromisoformat(key).replace(tzinfo=NEW_YORK)
    for row in rows:
        clock = row["event_timestamp"].astimezone(NEW_YORK)
        assert (row["hour_of_day"], row["weekday"], row["day"]) == (clock.hour, 7, day.date()), clock
        assert row["midnight"] == day.astimezone(UTC)
        assert row["afternoon"] == (clock.hour >= 12)


LOCAL = (
    "SELECT CASE WHEN hour(TIMESTAMPTZ '2024-01-15 00:00:00Z') = 19 THEN id ELSE error('not New York') END AS id, "
    "time AS event_timestamp FROM (SELECT 'a' AS id, TIMESTAMPTZ '2024-01-15' AS time)"
)


def test_the_dry_run_of_check_has_the_same_clocks(tmp_path: Path) -> None:
    path = tmp_path / "transform.sql"
    path.write_text(LOCAL)
    assert list(sql_columns(path, spec())) == ["id", "event_timestamp"]
    with pytest.raises(SpecError, match="not New York"):
        sql_columns(path, spec(zone="UTC"))


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
@pytest.mark.parametrize("column", ["event_timestamp", "seen"])
def test_a_time_without_a_zone_is_refused_by_check_and_by_the_job(tmp_path: Path, engine: str, column: str) -> None:
    if engine == "spark" and (reason := spark_pair.missing()):
        pytest.skip(reason)
    sql = SQL.format(key="2024-01-15").replace("time AS event_timestamp", "time AS event_timestamp, time AS seen")
    sql = sql.replace(f"time AS {column}", f"time::TIMESTAMP AS {column}")
    # When the job meets it
    result = transform(tmp_path / "store", spec(engine), sql, "2024-01-15")
    # Then it names the column and the cast
    assert result.error is not None and result.error.type == "SpecError", result
    for word in (f"column '{column}'", "without a zone", f"{column} AT TIME ZONE 'America/New_York'"):
        assert word in result.error.message, result.error.message
    # And so does check, before any data are there
    folder = tmp_path / "include" / "pipelines" / "shop"
    folder.mkdir(parents=True)
    (folder / "transform.sql").write_text(sql)
    (folder / "pipeline.yaml").write_text("name: shop\n")
    given = spec(engine)
    said = check_columns(ProjectTree(tmp_path), Readable(given), sql_columns(folder / "transform.sql", given), None)
    assert [line for line in said if f"{column} AT TIME ZONE 'America/New_York'" in line], said


def test_an_engine_with_an_older_list_of_zones_is_refused() -> None:
    from millrace.sql.zones import agree

    day = spec().partitioning

    def at(hours: int) -> Any:
        return lambda moments: [moment - hours * 3_600_000_000 for moment in moments]

    agree("Old", "America/New_York", day.start("2024-01-15"), day.end("2024-01-15"), at(5))
    with pytest.raises(
        SpecError, match="Old knows other clocks of this zone.*2024-03-09 06:00 UTC: 02:00 and not 01:00"
    ):
        agree("Old", "America/New_York", day.start("2024-03-10"), day.end("2024-03-10"), at(4))
    with pytest.raises(SpecError, match="2024-03-10 07:00 UTC: 02:00 and not 03:00.*Etc/GMT"):
        agree("Old", "America/New_York", day.start("2024-03-10"), day.end("2024-03-10"), at(5))


def test_a_zone_that_duckdb_lacks_is_named(tmp_path: Path) -> None:
    from millrace.sql.select import connect

    with pytest.raises(SpecError, match="does not know the time zone.*Mars/Olympus"):
        connect(str(tmp_path), "Mars/Olympus")
