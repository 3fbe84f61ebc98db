"""Feast's own Spark store, set as docs/scale.md shows it, joins in local mode."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import spark_pair

ROOT = Path(__file__).resolve().parents[2]
spark_session = spark_pair.spark_session


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_feasts_own_spark_store_joins_by_configuration(spark_session: Any, tmp_path: Path) -> None:
    from feast import Entity, FeatureStore, FeatureView, Field, ValueType
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
    from feast.types import Float64, String

    # Given the example of the manual, placed here
    block = re.search(r"```yaml\n(project:.*?type: spark\n.*?)```", (ROOT / "docs/scale.md").read_text(), re.DOTALL)
    assert block is not None
    text = block[1].replace("${MILLRACE_SPARK}", "local[2]").replace(
        "${MILLRACE_FEAST_REGISTRY}", f"sqlite:///{tmp_path}/registry.db"
    ).replace("${MILLRACE_FEAST_ONLINE}", str(tmp_path / "online.db"))  # fmt: skip
    assert "${" not in text
    (tmp_path / "feature_store.yaml").write_text(text)
    hours = [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (1, 3, 2)]
    known = {"vehicle": ["a", "a", "b"], "event_timestamp": pa.array(hours, pa.timestamp("us", "UTC"))}
    pq.write_table(pa.table({**known, "speed": [1.0, 2.0, 3.0]}), tmp_path / "trips.parquet")
    vehicle = Entity(name="vehicle", join_keys=["vehicle"], value_type=ValueType.STRING)
    source = SparkSource(
        name="trips", path=str(tmp_path / "trips.parquet"), file_format="parquet", timestamp_field="event_timestamp"
    )
    trips = FeatureView(
        name="trips", entities=[vehicle], ttl=timedelta(hours=36), source=source,
        schema=[Field(name="vehicle", dtype=String), Field(name="speed", dtype=Float64)],
    )  # fmt: skip
    store = FeatureStore(repo_path=str(tmp_path))
    store.apply([vehicle, trips])
    # When rows are asked for, then each comes back with what was known
    asked = pd.DataFrame({
        "vehicle": ["a", "b", "a", "c"],
        "event_timestamp": [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (2, 1, 5, 5)],
    })  # fmt: skip
    found = store.get_historical_features(entity_df=asked, features=["trips:speed"]).to_df()
    speeds = {(row.vehicle, row.event_timestamp.hour): row.speed for row in found.itertuples()}
    assert speeds.pop(("a", 2)) == 1.0 and speeds.pop(("a", 5)) == 2.0
    assert len(speeds) == 2 and all(speed != speed for speed in speeds.values())
