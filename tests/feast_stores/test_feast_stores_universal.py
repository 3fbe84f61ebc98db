"""What Feast's own tests ask of an offline store: every kind of entity row, view, source and dataset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.data_format import DeltaFormat
from feast.errors import FeastEntityDFMissingColumnsError, SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.repo_config import RepoConfig
from feast.types import Float64, Int64, String

from millrace.core.errors import NotFound, SpecError

START = datetime(2024, 1, 1, tzinfo=UTC)
MOMENT = pa.timestamp("us", "UTC")


def hours(*numbers: float) -> pa.Array:
    return pa.array([START + timedelta(hours=n) for n in numbers], MOMENT)


driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
place = Entity(name="place", join_keys=["place_id"], value_type=ValueType.INT64)


def views(folder: Path) -> dict[str, Any]:
    """Drivers (created time), orders (two entities, mapped columns), places (used twice), a market without entity."""
    pq.write_table(
        pa.table(
            {
                "driver_id": pa.array([1, 1, 2, None], pa.int64()),
                "at": hours(0, 2, 1, 0),
                "created": hours(5, 2, 1, 0),
                "rate": [0.1, 0.2, 0.3, 0.9],
                "trips": pa.array([10, 20, 30, 90], pa.int64()),
            }
        ),
        folder / "drivers.parquet",
    )
    pq.write_table(
        pa.table({"driver_id": [1, 2], "customer_id": ["x", "y"], "ts_": hours(1, 1), "amount_": [5.0, 6.0]}),
        folder / "orders.parquet",
    )
    pq.write_table(
        pa.table({"place_id": [7, 8], "at": hours(0, 0), "temperature": [70.0, 80.0]}), folder / "places.parquet"
    )
    pq.write_table(pa.table({"at": hours(0, 3), "index": [1.0, 2.0]}), folder / "market.parquet")
    drivers = FeatureView(
        name="drivers",
        entities=[driver],
        ttl=timedelta(hours=36),
        schema=[Field(name="driver_id", dtype=Int64), Field(name="rate", dtype=Float64),
                Field(name="trips", dtype=Int64)],
        source=FileSource(name="drivers_source", path=str(folder / "drivers.parquet"), timestamp_field="at",
                          created_timestamp_column="created"),
    )  # fmt: skip
    orders = FeatureView(
        name="orders",
        entities=[driver, customer],
        schema=[Field(name="driver_id", dtype=Int64), Field(name="customer_id", dtype=String),
                Field(name="amount", dtype=Float64)],
        source=FileSource(name="orders_source", path=str(folder / "orders.parquet"), timestamp_field="ts_",
                          field_mapping={"amount_": "amount"}),
    )  # fmt: skip
    places = FeatureView(
        name="places",
        entities=[place],
        schema=[Field(name="place_id", dtype=Int64), Field(name="temperature", dtype=Float64)],
        source=FileSource(name="places_source", path=str(folder / "places.parquet"), timestamp_field="at"),
    )
    market = FeatureView(
        name="market",
        entities=[],
        schema=[Field(name="index", dtype=Float64)],
        source=FileSource(name="market_source", path=str(folder / "market.parquet"), timestamp_field="at"),
    )

    @on_demand_feature_view(
        sources=[drivers, RequestSource(name="ask", schema=[Field(name="surge", dtype=Float64)])],
        schema=[Field(name="surged", dtype=Float64)],
        mode="pandas",
    )
    def pricing(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"surged": inputs["rate"] * inputs["surge"]})

    return {"drivers": drivers, "orders": orders, "places": places, "market": market, "pricing": pricing}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("universal")


@pytest.fixture(scope="module")
def store(folder: Path) -> FeatureStore:
    opened = FeatureStore(
        config=RepoConfig(
            project="universal",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{folder / 'registry.db'}"},
            offline_store={
                "type": "millrace.feast_stores.offline_stores.duckdb.TableOfflineStore",
                "store": str(folder / "store"),
                "threads": 2,
                "memory_limit": "1GB",
                "temp_directory": str(folder),
            },
            online_store={
                "type": "millrace.feast_stores.online_stores.sqlite.EntityRowOnlineStore",
                "path": str(folder / "online.db"),
            },
            entity_key_serialization_version=3,
        )
    )
    opened.config.repo_path = folder
    made = views(folder)
    services = [
        FeatureService(name="all", features=[made["drivers"], made["orders"]]),
        FeatureService(
            name="route",
            features=[
                made["places"].with_name("origin").with_join_key_map({"place_id": "origin_id"}),
                made["places"].with_name("target").with_join_key_map({"place_id": "target_id"}),
            ],
        ),
    ]
    opened.apply([driver, customer, place, *made.values(), *services])
    return opened


def rows(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


def at(*numbers: float) -> list[datetime]:
    return [START + timedelta(hours=n) for n in numbers]


def answers(store: FeatureStore, entity_df: Any, features: Any, **options: Any) -> pa.Table:
    return store.get_historical_features(entity_df=entity_df, features=features, **options).to_arrow()


def test_every_row_once_in_order_with_all_its_columns(store: FeatureStore) -> None:
    asked = rows(
        label=[5, 4, 3, 2, 1], driver_id=[2, 1, 1, 3, 1], event_timestamp=at(1, 3, 3, 3, -1), note=list("abcde")
    )
    found = answers(store, asked, ["drivers:trips", "drivers:rate"])
    assert found.column_names == ["label", "driver_id", "event_timestamp", "note", "trips", "rate"]
    assert found["label"].to_pylist() == [5, 4, 3, 2, 1]
    assert found["trips"].to_pylist() == [30, 20, 20, None, None]
    assert found["trips"].type == pa.int64()


def test_several_entities_and_mapped_columns(store: FeatureStore) -> None:
    asked = rows(driver_id=[1, 1, 2], customer_id=["x", "y", "y"], event_timestamp=at(2, 2, 2))
    found = answers(store, asked, store.get_feature_service("all"))
    assert found["amount"].to_pylist() == [5.0, None, 6.0]
    assert found["trips"].to_pylist() == [20, 20, 30]


def test_full_feature_names(store: FeatureStore) -> None:
    asked = rows(driver_id=[1], trips=["taken"], event_timestamp=at(2))
    found = answers(store, asked, ["drivers:trips"], full_feature_names=True)
    assert found.to_pylist()[0]["drivers__trips"] == 20 and found.to_pylist()[0]["trips"] == "taken"
    with pytest.raises(SpecError, match="full_feature_names"):
        answers(store, asked, ["drivers:trips"])


def test_one_view_under_two_names_with_mapped_join_keys(store: FeatureStore) -> None:
    asked = rows(origin_id=[7, 8], target_id=[8, 9], event_timestamp=at(1, 1))
    found = answers(store, asked, store.get_feature_service("route"), full_feature_names=True)
    assert found["origin__temperature"].to_pylist() == [70.0, 80.0]
    assert found["target__temperature"].to_pylist() == [80.0, None]


def test_a_view_without_entities(store: FeatureStore) -> None:
    found = answers(store, rows(event_timestamp=at(-1, 1, 4)), ["market:index"])
    assert found["index"].to_pylist() == [None, 1.0, 2.0]


def test_on_demand_features_see_the_rows(store: FeatureStore) -> None:
    asked = rows(driver_id=[1, 2], surge=[2.0, 10.0], event_timestamp=at(3, 3))
    found = answers(store, asked, ["pricing:surged", "drivers:trips"])
    assert found["surged"].to_pylist() == pytest.approx([0.4, 3.0])
    assert found["trips"].to_pylist() == [20, 30]


def test_what_was_not_yet_known_is_not_seen(store: FeatureStore) -> None:
    asked = rows(driver_id=[1, 1], event_timestamp=at(1, 6))
    seen = answers(store, asked, ["drivers:trips"])["trips"].to_pylist()
    known = answers(store, asked, ["drivers:trips"], filter_by_created_timestamp=True)["trips"].to_pylist()
    assert (seen, known) == ([10, 20], [None, 20])


@pytest.mark.parametrize(
    "moments",
    [
        pd.to_datetime(at(2, 3), utc=True).tz_convert("Asia/Tokyo"),
        pd.to_datetime(at(2, 3)).tz_localize(None),
        [moment.isoformat() for moment in at(2, 3)],
        np.array([np.datetime64(m.replace(tzinfo=None), "s") for m in at(2, 3)]),
    ],
)
def test_moments_of_every_kind_are_utc(store: FeatureStore, moments: Any) -> None:
    found = answers(store, rows(driver_id=[1, 1], event_timestamp=moments), ["drivers:trips"])
    assert found["trips"].to_pylist() == [20, 20]
    assert [moment.astimezone(UTC) for moment in found["event_timestamp"].to_pylist()] == at(2, 3)


def test_null_keys_and_moments_come_back_without_features(store: FeatureStore) -> None:
    asked = rows(driver_id=[1, None, 1], event_timestamp=pd.to_datetime([*at(2), *at(2), None], utc=True))
    assert answers(store, asked, ["drivers:trips"])["trips"].to_pylist() == [20, None, None]


def test_no_entity_rows(store: FeatureStore) -> None:
    asked = rows(driver_id=[1], event_timestamp=pd.to_datetime(at(2))).iloc[:0]
    found = answers(store, asked, ["drivers:trips"])
    assert found.num_rows == 0 and "trips" in found.column_names


def test_another_name_for_the_only_time_column(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    found = answers(store, rows(driver_id=[1], seen=pd.to_datetime(at(2))), ["drivers:trips"])
    assert found["trips"].to_pylist() == [20]


def test_entity_rows_as_sql_over_the_sources(store: FeatureStore) -> None:
    sql = "SELECT driver_id, ts_ + INTERVAL 1 HOUR AS event_timestamp FROM orders_source ORDER BY driver_id DESC"
    found = answers(store, sql, ["drivers:trips"])
    assert found["driver_id"].to_pylist() == [2, 1] and found["trips"].to_pylist() == [30, 20]
    with pytest.raises(SpecError, match="does not run") as caught:
        answers(store, "SELECT * FROM order_source", ["drivers:trips"])
    assert "orders_source" in str(caught.value)


def test_between_two_dates_without_entity_rows(store: FeatureStore) -> None:
    job = store.get_historical_features(features=["drivers:trips"], start_date=at(1)[0], end_date=at(2)[0])
    found = job.to_arrow()
    assert found["driver_id"].to_pylist() == [2, 1] and found["trips"].to_pylist() == [30, 20]
    with pytest.raises(SpecError, match="same join keys"):
        store.get_historical_features(features=["drivers:trips", "places:temperature"], end_date=at(2)[0])


def test_a_missing_join_key_is_named(store: FeatureStore) -> None:
    with pytest.raises(FeastEntityDFMissingColumnsError, match="driver_id"):
        answers(store, rows(event_timestamp=at(1)), ["drivers:trips"])


def test_saved_datasets_come_back_as_they_were(store: FeatureStore, folder: Path) -> None:
    asked = rows(driver_id=[2, 1], surge=[1.0, 2.0], event_timestamp=at(3, 2))
    job = store.get_historical_features(entity_df=asked, features=["drivers:trips", "pricing:surged"])
    storage = SavedDatasetFileStorage(path=str(folder / "saved" / "set.parquet"))
    store.create_saved_dataset(from_=job, name="set", storage=storage)
    back = store.get_saved_dataset("set").to_df().sort_values("driver_id")
    assert back["trips"].tolist() == [20, 30] and back["surged"].tolist() == pytest.approx([0.4, 0.3])
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(storage)
    plain = store.get_historical_features(entity_df=asked, features=["drivers:trips"])
    plain.persist(storage, allow_overwrite=True)
    assert pq.read_table(folder / "saved" / "set.parquet")["trips"].to_pylist() == [30, 20]
    assert not list((folder / "saved").glob(".tmp*"))


def test_logged_features_can_be_read_as_a_source(store: FeatureStore, folder: Path) -> None:
    destination = FileLoggingDestination(path=str(folder / "log"), partition_by=["day"])
    service = FeatureService(
        name="logged",
        features=[store.get_feature_view("drivers")],
        logging_config=LoggingConfig(destination=destination),
    )
    store.apply([service])
    from millrace.feast_stores.offline_stores.duckdb import TableOfflineStore

    assert service.logging_config is not None
    for number in (1, 2):
        batch = pa.table({"driver_id": [number], "at": hours(number), "trips": [number], "day": [f"d{number}"]})
        TableOfflineStore.write_logged_features(store.config, batch, None, service.logging_config, store.registry)  # type: ignore[arg-type]
    source = FileSource(path=str(folder / "log"), timestamp_field="at")
    job = TableOfflineStore.pull_all_from_table_or_query(store.config, source, ["driver_id"], ["trips", "day"], "at")
    assert sorted(job.to_arrow()["day"].to_pylist()) == ["d1", "d2"]


def test_partitioned_parquet_and_globs(store: FeatureStore, folder: Path) -> None:
    from millrace.feast_stores.offline_stores.duckdb import TableOfflineStore

    for year in (2023, 2024):
        part = folder / "hive" / f"year={year}"
        part.mkdir(parents=True)
        pq.write_table(pa.table({"driver_id": [1], "at": hours(year - 2024), "trips": [year]}), part / "a.parquet")
    for path in ("hive", "hive/*/*.parquet"):
        source = FileSource(path=str(folder / path), timestamp_field="at")
        job = TableOfflineStore.pull_latest_from_table_or_query(
            store.config, source, ["driver_id"], ["trips"], "at", None, at(-2)[0], at(2)[0]
        )
        assert job.to_arrow()["trips"].to_pylist() == [2024]
        job = TableOfflineStore.pull_latest_from_table_or_query(
            store.config, source, ["driver_id"], ["trips"], "at", None, at(-2)[0], at(-1)[0]
        )
        assert job.to_arrow()["trips"].to_pylist() == [2023]


def test_rows_are_appended_to_a_views_file(store: FeatureStore, folder: Path) -> None:
    frame = pd.DataFrame({"place_id": [9], "at": pd.to_datetime(at(1)), "temperature": [90.0]})
    store.write_to_offline_store("places", frame)
    found = answers(store, rows(place_id=[9, 7], event_timestamp=at(2, 2)), ["places:temperature"])
    assert found["temperature"].to_pylist() == [90.0, 70.0]
    with pytest.raises((SpecError, ValueError)):
        store.write_to_offline_store("places", frame.drop(columns=["temperature"]))


def test_sources_on_s3(store: FeatureStore, bucket: str, s3_endpoint: str) -> None:
    import pyarrow.fs as fs

    from millrace.feast_stores.offline_stores.duckdb import TableOfflineStore

    filesystem = fs.S3FileSystem(endpoint_override=s3_endpoint)
    for number in (1, 2):
        with filesystem.open_output_stream(f"{bucket}/drivers/part{number}.parquet") as out:
            pq.write_table(pa.table({"driver_id": [number], "at": hours(number), "trips": [number * 10]}), out)
    source = FileSource(path=f"s3://{bucket}/drivers", timestamp_field="at", s3_endpoint_override=s3_endpoint)
    job = TableOfflineStore.pull_latest_from_table_or_query(
        store.config, source, ["driver_id"], ["trips"], "at", None, at(0)[0], at(9)[0]
    )
    assert sorted(job.to_arrow()["trips"].to_pylist()) == [10, 20]
    storage = SavedDatasetFileStorage(path=f"s3://{bucket}/saved.parquet", s3_endpoint_override=s3_endpoint)
    job.persist(storage)
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(storage)
    assert pq.read_table(f"{bucket}/saved.parquet", filesystem=filesystem).num_rows == 2
    missing = FileSource(path=f"s3://{bucket}/nothing", timestamp_field="at", s3_endpoint_override=s3_endpoint)
    with pytest.raises(NotFound):
        TableOfflineStore.pull_all_from_table_or_query(store.config, missing, [], [], "at").to_arrow()


def test_what_this_store_cannot_do_is_said(store: FeatureStore, folder: Path) -> None:
    from millrace.feast_stores.offline_stores.duckdb import TableOfflineStore

    def pull(source: Any) -> None:
        TableOfflineStore.pull_all_from_table_or_query(store.config, source, ["driver_id"], [], "at").to_arrow()

    with pytest.raises(SpecError, match="reads Parquet"):
        pull(FileSource(path=str(folder / "x"), timestamp_field="at", file_format=DeltaFormat()))
    with pytest.raises(NotFound, match="not there"):
        pull(FileSource(path=str(folder / "nowhere.parquet"), timestamp_field="at"))
    job = store.get_historical_features(entity_df=rows(driver_id=[1], event_timestamp=at(1)), features=["drivers:rate"])
    assert not job.supports_remote_storage_export()
    with pytest.raises(NotImplementedError):
        job.to_sql()
