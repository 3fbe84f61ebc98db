"""What Feast's own offline stores do wrong on data that ours gets right: the reason for having one of our own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Int64

START = datetime(2024, 1, 1, tzinfo=UTC)
OURS = "millrace.feast_stores.offline_stores.duckdb.TableOfflineStore"


def opened(folder: Path, offline: str) -> FeatureStore:
    """A store over one file of features, with a TTL of 36 hours for ours and two days for Feast's."""
    moments = pa.array([START, START], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"key": [1, 1], "at": moments, "n": [1, 2]}), folder / "data.parquet")
    config = {"type": offline, **({"store": str(folder)} if offline == OURS else {})}
    store = FeatureStore(config=RepoConfig(
        project="p", provider="local", registry=str(folder / f"{offline.rpartition('.')[2]}.db"),
        offline_store=config, online_store=None, entity_key_serialization_version=3,
    ))  # fmt: skip
    store.config.repo_path = folder
    entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    view = FeatureView(
        name="view", entities=[entity], ttl=timedelta(hours=36 if offline in (OURS, "duckdb") else 48), online=False,
        schema=[Field(name="key", dtype=Int64), Field(name="n", dtype=Int64)],
        source=FileSource(name="data", path=str(folder / "data.parquet"), timestamp_field="at"),
    )  # fmt: skip
    store.apply([entity, view])
    return store


def ask(store: FeatureStore, *hours: float) -> Any:
    """Values at moments after the start, one asked twice where it stands twice."""
    rows = pd.DataFrame({"key": [1] * len(hours), "event_timestamp": [START + timedelta(hours=h) for h in hours]})
    return store.get_historical_features(entity_df=rows, features=["view:n"]).to_df()


def all_rows_come_back(store: FeatureStore) -> None:
    assert len(ask(store, -1, 1, 1, 2)) == 4


def mixed_units_end_to_the_minute(store: FeatureStore) -> None:
    assert ask(store, 36, 36.02)["n"].isna().tolist() == [False, True]


@pytest.mark.parametrize("demand", [all_rows_come_back, mixed_units_end_to_the_minute])
def test_ours_meets_the_demand(tmp_path: Path, demand: Any) -> None:
    demand(opened(tmp_path, OURS))


def test_feasts_file_store_loses_rows(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        all_rows_come_back(opened(tmp_path, "dask"))


def test_feasts_duckdb_store_refuses_thirty_six_hours(tmp_path: Path) -> None:
    import ibis

    try:
        with pytest.raises(Exception, match="interval type"):
            mixed_units_end_to_the_minute(opened(tmp_path, "duckdb"))
    finally:  # left open, it fills the end of the run with reports of leaked objects
        ibis.get_backend().con.close()
        ibis.options.default_backend = None
