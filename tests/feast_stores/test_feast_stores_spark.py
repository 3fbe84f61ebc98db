"""The point-in-time join on Spark: no difference from brute force, and the same training set as on DuckDB."""

from __future__ import annotations

import random
import runpy
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import feast_project, spark_pair

from millrace.core.errors import SpecError
from millrace.feast_stores.offline_stores.spark_join import MOMENT, ROW, View, join

HERE = Path(__file__).parent

spark_session = spark_pair.spark_session
ASOF = runpy.run_path(str(HERE / "test_feast_stores_asof.py"))

FeastProject, row, at = feast_project.FeastProject, feast_project.row, feast_project.at


def random_rows(seed: int, count: int, asked: bool) -> list[dict[str, Any]]:
    """Rows of few keys and few minutes, so that ties, duplicates and nulls are many."""
    choose, start = random.Random(seed), ASOF["START"]

    def minute() -> Any:
        return start + timedelta(minutes=choose.randrange(40))

    rows = []
    for _ in range(count):
        keys = {"key": choose.choice(["a", "b", "c", None]), "sub": choose.randrange(2)}
        if asked:
            rows.append({**keys, "at": minute() if choose.random() > 0.05 else None})
            continue
        rows.append({
            **keys, "event": minute(), "created": minute() if choose.random() > 0.2 else None,
            "value": choose.choice([None, -1, 0, 1]), "other": choose.choice(["x", "y", None]),
        })  # fmt: skip
    return rows


def asked_table(rows: list[dict[str, Any]]) -> pa.Table:
    table = pa.Table.from_pylist(rows, ASOF["QUESTION"])
    return table.append_column(MOMENT, table["at"]).append_column(ROW, pa.array(range(len(rows)), pa.int64()))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[dict[str, Any]], list[str]]]:
    """Feature rows, and the two files that hold them."""
    folder, rows = tmp_path_factory.mktemp("known"), random_rows(1, 300, False)
    for n, part in enumerate((rows[:200], rows[200:])):
        pq.write_table(pa.Table.from_pylist(part, ASOF["SCHEMA"]), folder / f"{n}.parquet")
    yield rows, [str(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("keys", [["key"], ["key", "sub"], []], ids=["one key", "two keys", "no keys"])
@pytest.mark.parametrize(
    ("ttl", "known_only"),
    [(None, False), (None, True), (timedelta(minutes=3), False), (timedelta(minutes=2, microseconds=1), True)],
)
def test_no_difference_from_brute_force(
    spark_session: Any, known: Any, keys: list[str], ttl: timedelta | None, known_only: bool
) -> None:
    rows, files = known
    asked = random_rows(2, 150, True)
    view = View("v", files, {k: k for k in keys}, "event", "created", {"value": "value", "other": "other"}, ttl)
    found = join(spark_session, [view], asked_table(asked), ASOF["QUESTION"].names, known_only=known_only)
    assert found.to_pylist() == ASOF["oracle"](rows, asked, keys, ttl, known_only)


def test_keys_of_other_number_types_are_compared_and_texts_are_not(spark_session: Any, known: Any) -> None:
    rows, files = known
    asked = random_rows(3, 20, True)
    table = asked_table(asked)
    view = View("v", files, {"sub": "sub"}, "event", "created", {"value": "value"}, None)
    whole = join(spark_session, [view], table, ["at"], known_only=False)
    floats = table.set_column(1, "sub", table["sub"].cast(pa.float64()))
    assert join(spark_session, [view], floats, ["at"], known_only=False).equals(whole)
    texts = table.set_column(1, "sub", table["sub"].cast(pa.string()))
    with pytest.raises(SpecError, match="join key 'sub' is of another type"):
        join(spark_session, [view], texts, ["at"], known_only=False)


SPARK_STORE = feast_project.FEATURE_STORE.replace("offline_stores.duckdb.", "offline_stores.spark.").replace(
    'store: "${MILLRACE_STORE_ROOT}"}', 'store: "${MILLRACE_STORE_ROOT}", master: "local[2]"}'
)  # fmt: skip


def days() -> dict[str, list[dict[str, Any]]]:
    return {
        f"2024-01-0{day}": [
            row(f"v{n % 7}", f"2024-01-0{day} {n % 24:02d}:{n % 60:02d}", distance=n, speed=n / 7,
                driver=None if n % 5 == 0 else f"d{n}", late=n % 2)
            for n in range(200)
        ]
        for day in (1, 2, 3)
    }  # fmt: skip


def test_a_training_set_is_the_same_on_both_stores(spark_session: Any, tmp_path: Path) -> None:
    # Given a project, and its training set joined on DuckDB
    project = FeastProject.applied(tmp_path / "p")
    inputs = {key: project.snapshot(key, rows) for key, rows in days().items()}
    request = project.request("build_training_set", "features", inputs, {"as_of": "2024-01-04T00:00:00+00:00"})
    from millrace.jobs.runner import run
    from millrace.spec import Bundle
    from millrace.store import bundles

    ours = run(request).outcome
    assert ours is not None
    # When feature_store.yaml names Spark
    bundle = Bundle(spec=project.spec, sql="", suites={}, features=project.features, feature_store=SPARK_STORE)
    bundles.keep(project.objects, bundle)
    identity = request.identity.model_copy(update={"spec_digest": bundle.digest})
    result = run(request.model_copy(update={"identity": identity}))
    # Then it is the same Snapshot, and the request was another one
    assert result.outcome is not None, result.error
    assert result.outcome.outputs["data"].digest == ours.outputs["data"].digest
    assert result.request_digest != request.request_digest


def test_what_the_store_does_not_do_is_said(tmp_path: Path) -> None:
    from millrace.feast_stores.repo import open_feature_store

    project = FeastProject.applied(tmp_path / "p")
    project.snapshot("2024-01-01", days()["2024-01-01"])
    s = project.settings
    places = {"registry": s.feast_registry, "online": s.feast_online}
    store = open_feature_store(SPARK_STORE, store=s.store, **places)
    service = store.get_feature_service("trips_v1")
    with pytest.raises(SpecError, match="entity rows are a DataFrame"):
        store.get_historical_features(entity_df="SELECT 1", features=service)
    with pytest.raises(SpecError, match="lack a join key"):
        store.get_historical_features(entity_df=pd.DataFrame({"event_timestamp": [at("2024-01-02")]}), features=service)
    cluster = SPARK_STORE.replace("local[2]", "k8s://https://host:6443")
    remote = open_feature_store(cluster, store="s3://bucket/prefix", **places)
    asked = pd.DataFrame({"vehicle": ["v1"], "event_timestamp": [at("2024-01-02")]})
    with pytest.raises(SpecError, match="a folder that all its machines share"):
        remote.get_historical_features(entity_df=asked, features=service)
