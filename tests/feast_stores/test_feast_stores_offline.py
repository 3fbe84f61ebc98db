"""The offline store: `millrace://` paths mean the current Snapshots, or pinned ones, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from support import feast_project

from millrace.core.errors import Corrupt, NotFound, SpecError
from millrace.feast_stores.tables import overlaps, table_of
from millrace.store import SnapshotStore, Tables, open_store

FeastProject, at, row = feast_project.FeastProject, feast_project.at, feast_project.row


@pytest.fixture
def project(tmp_path: Path) -> Any:
    return FeastProject.applied(tmp_path / "p")


def history(store: Any, *asked: tuple[str, str], features: list[str] | None = None) -> pd.DataFrame:
    """Historical features of (vehicle, moment), in the order asked."""
    entities = pd.DataFrame(
        {
            "vehicle": [vehicle for vehicle, _ in asked],
            "event_timestamp": [at(moment) for _, moment in asked],
            "number": range(len(asked)),
        }
    )
    job = store.get_historical_features(entity_df=entities, features=features or ["trips:distance"])
    return job.to_df().sort_values("number").reset_index(drop=True)


def distances(store: Any, *asked: tuple[str, str]) -> list[int | None]:
    return [None if pd.isna(value) else int(value) for value in history(store, *asked)["distance"]]


def pins(project: Any, **artifacts: Any) -> dict[str, list[dict[str, str]]]:
    found = [{"partition": p, "snapshot": a.digest, "uri": a.uri} for p, a in artifacts.items()]
    return {"trips/features": found}


def test_nan_of_an_earlier_snapshot_is_null_and_loses_no_row(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a Snapshot of an earlier version, whose statistics of floats leave out the NaN that it holds
    monkeypatch.setattr("millrace.store.snapshots.write_parquet", pq.write_table)
    rows = [row("a", "2024-01-01 05:00", speed=float("nan")), row("b", "2024-01-01 05:00", speed=0.5)]
    project.snapshot("2024-01-01", rows)
    monkeypatch.undo()
    store = project.open()
    # When features are joined, and when entity rows come from SQL over the Table
    speeds = history(store, ("a", "2024-01-01 06:00"), ("b", "2024-01-01 06:00"), features=["trips:speed"])
    sql = "SELECT vehicle, event_timestamp FROM trips_features WHERE speed IS NULL OR speed > 1"
    asked = store.get_historical_features(entity_df=sql, features=["trips:distance"]).to_arrow()
    # Then NaN is null in both
    assert [None if pd.isna(v) else v for v in speeds["speed"]] == [None, 0.5]
    assert asked["vehicle"].to_pylist() == ["a"]


def test_reads_the_current_snapshot_and_never_a_superseded_one(project: Any) -> None:
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1), row("gone", "2024-01-01 05:00", 9)])
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 2)])
    project.snapshot("2024-01-02", [row("a", "2024-01-02 05:00", 3)])
    project.snapshot("2024-01-03", [row("a", "2024-01-02 06:00", 4)], publish=False)
    asked = [
        ("a", "2024-01-01 05:00"),
        ("gone", "2024-01-01 06:00"),
        ("a", "2024-01-02 07:00"),
        ("a", "2024-01-01 04:59"),
    ]
    assert distances(project.open(), *asked) == [2, None, 3, None]


def test_pinned_snapshots_are_read_whatever_the_table_says(project: Any) -> None:
    first = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)])
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 2)])
    pinned = project.open(pinned=pins(project, **{"2024-01-01": first}))
    assert distances(pinned, ("a", "2024-01-01 06:00")) == [1]
    assert distances(project.open(), ("a", "2024-01-01 06:00")) == [2]


def test_pins_leave_no_way_to_another_table(project: Any) -> None:
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)])
    store = project.open(pinned={"other/features": []})
    with pytest.raises(SpecError, match="not among the request's inputs"):
        distances(store, ("a", "2024-01-01 06:00"))


def test_a_changed_snapshot_is_found_out(project: Any) -> None:
    artifact = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)])
    project.objects.put(artifact.uri + "data.parquet", b"something else")
    with pytest.raises(Corrupt):
        distances(project.open(), ("a", "2024-01-01 06:00"))


def test_partitions_outside_the_time_asked_for_are_not_read(project: Any) -> None:
    """Given unreadable Snapshots before the time to live and after the last row, then nobody notices."""
    for day in ("2023-12-20", "2024-01-20"):
        far = project.snapshot(day, [row("a", f"{day} 05:00", 9)])
        project.objects.put(far.uri + "data.parquet", b"unreadable")
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)])
    assert distances(project.open(), ("a", "2024-01-01 06:00"), ("a", "2024-01-02 06:00")) == [1, 1]


@pytest.mark.parametrize(
    ("partition", "begin", "end", "expected"),
    [
        ("2024-01", "2024-02-01 11:00", None, True),  # the month's last hours where local midnight is late
        ("2024-01", "2024-03-05 00:00", None, False),
        ("2024-03", None, "2024-02-29 12:00", True),
        ("2024-03", None, "2024-02-28 00:00", False),
        ("2024-01-01", "2024-01-08 00:00", None, True),  # may be a week
        ("2024-01-01T05", "2024-01-03 07:00", None, False),
        ("north-07", "2030-01-01 00:00", None, True),
        ("2024-01", None, None, True),
    ],
)
def test_overlap_of_a_partition_and_a_window(
    partition: str, begin: str | None, end: str | None, expected: bool
) -> None:
    assert overlaps(partition, (at(begin) if begin else None, at(end) if end else None)) is expected


def test_a_time_to_live_of_mixed_units_ends_to_the_minute(project: Any) -> None:
    """Given 36 hours, which Feast's own DuckDB store refuses."""
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)])
    assert distances(project.open(), ("a", "2024-01-02 17:00"), ("a", "2024-01-02 17:01")) == [1, None]


def test_of_duplicates_the_greatest_counts_wherever_it_stands(project: Any) -> None:
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", n) for n in (1, 5, 2)])
    project.snapshot("2024-01-02", [row("b", "2024-01-02 05:00", n) for n in (7, 3)])
    store = project.open()
    for _ in range(3):
        assert distances(store, ("a", "2024-01-01 06:00"), ("b", "2024-01-02 06:00")) == [5, 7]


def test_a_column_that_came_later_is_null_before(project: Any) -> None:
    old = feast_project.pa.Table.from_pylist([row("a", "2024-01-01 05:00", 1)], feast_project.SCHEMA).drop(["weight"])
    project.snapshot("2024-01-01", old)
    project.snapshot("2024-01-02", [row("a", "2024-01-02 05:00", 2, weight=2**60 + 1)])
    asked = (("a", "2024-01-01 06:00"), ("a", "2024-01-02 06:00"))
    frame = history(project.open(), *asked, features=["trips:distance", "trips:weight"])
    assert frame["distance"].tolist() == [1, 2]
    assert frame["weight"].isna().tolist() == [True, False]


def test_other_paths_are_read_as_feast_reads_them(project: Any) -> None:
    path = project.root / "plain.parquet"
    pq.write_table(feast_project.pa.Table.from_pylist([row("a", "2024-01-01 05:00", 4)], feast_project.SCHEMA), path)
    project.write(
        "plain",
        feast_project.FEATURES.replace("millrace://trips/features", str(path))
        .replace('"trips', '"plain')
        .replace("trips_v1 =", "plain_v1 ="),
    )
    project.apply()
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)])
    store = project.open()
    assert history(store, ("a", "2024-01-01 06:00"), features=["plain:distance"])["distance"].tolist() == [4]
    both = history(store, ("a", "2024-01-01 06:00"), features=["plain:distance", "trips:speed"])
    assert both["speed"].tolist() == [1.5]


def test_an_empty_table_says_what_to_run(project: Any) -> None:
    with pytest.raises(NotFound, match="features DAG"):
        distances(project.open(), ("a", "2024-01-01 06:00"))


def test_a_table_is_not_written_through_feast(project: Any) -> None:
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00")])
    frame = pd.DataFrame([row("a", "2024-01-01 06:00")])
    with pytest.raises(SpecError, match="cannot be written"):
        project.open().write_to_offline_store("trips", frame)


@pytest.mark.parametrize("path", ["millrace://trips", "millrace://a/b/c"])
def test_a_bad_table_path_is_refused(path: str) -> None:
    with pytest.raises(SpecError, match="<pipeline>/<dataset>"):
        table_of(path)


def test_a_view_without_a_schema_gets_the_snapshots_columns(project: Any) -> None:
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)])
    text = feast_project.FEATURES
    bounds = text.index("    schema=["), text.index("trips_v1 =")
    project.write("trips", text[: bounds[0]] + ")\ntrips_v1 = FeatureService(name='trips_v1', features=[trips])\n")
    project.apply()
    kinds = {field.name: str(field.dtype) for field in project.open().get_feature_view("trips").features}
    assert kinds == {
        "distance": "Int64",
        "speed": "Float64",
        "driver": "String",
        "electric": "Bool",
        "serviced": "UnixTimestamp",
        "weight": "Int64",
        "late": "Int64",
    }


def test_snapshots_on_s3_are_fetched(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "MILLRACE_CACHE": str(tmp_path / "cache"),
        }.items():
            monkeypatch.setenv(name, value)
        objects: Any = open_store("s3://bucket/prefix")
        objects.client.create_bucket(Bucket="bucket")
        table = feast_project.pa.Table.from_pylist([row("a", "2024-01-01 05:00", 6)], feast_project.SCHEMA)
        artifact = SnapshotStore(objects).write(table, pipeline="trips", dataset="features", partition="2024-01-01")
        Tables(objects).move("trips/features", "2024-01-01", artifact)
        settings = project.settings
        store = feast_project.open_feature_store(
            feast_project.FEATURE_STORE,
            registry=settings.feast_registry,
            online=settings.feast_online,
            store="s3://bucket/prefix",
        )
        assert distances(store, ("a", "2024-01-01 06:00")) == [6]
    finally:
        server.stop()


def test_agrees_with_a_brute_force_join(project: Any) -> None:
    """Given random rows and moments, then each value is the latest within the time to live and already created."""
    import random

    chance, start = random.Random(3), datetime(2024, 1, 1, tzinfo=UTC)
    rows = []
    for number in range(300):
        event = start + timedelta(minutes=chance.randrange(4 * 24 * 60))
        made = row(f"v{chance.randrange(6)}", "2024-01-01 00:00", number)
        rows.append(
            {**made, "event_timestamp": event, "created": event + timedelta(minutes=chance.choice([0, 0, 600]))}
        )
    for day in range(1, 5):
        part = [r for r in rows if r["event_timestamp"].day == day]
        project.snapshot(f"2024-01-0{day}", part)
    asked = [(f"v{chance.randrange(7)}", start + timedelta(minutes=chance.randrange(5 * 24 * 60))) for _ in range(400)]

    def expected(vehicle: str, moment: datetime) -> int | None:
        known = [
            (r["event_timestamp"], r["created"], n, r["distance"])
            for n, r in enumerate(rows)
            if r["vehicle"] == vehicle
            and r["created"] <= moment
            and r["event_timestamp"] <= moment <= r["event_timestamp"] + timedelta(hours=36)
        ]
        return max(known)[3] if known else None

    entities = pd.DataFrame(
        {"vehicle": [v for v, _ in asked], "event_timestamp": [m for _, m in asked], "number": range(len(asked))}
    )
    job = project.open().get_historical_features(
        entity_df=entities, features=["trips:distance"], filter_by_created_timestamp=True
    )
    frame = job.to_df().sort_values("number")
    found = [None if pd.isna(value) else int(value) for value in frame["distance"]]
    assert found == [expected(v, m) for v, m in asked]
    assert any(value is None for value in found) and any(value is not None for value in found)
