"""transform: NaN of Snapshots that earlier versions wrote is null, whatever their Parquet statistics say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import spark_pair
from support.requests import request

from millrace.jobs.runner import run
from millrace.spec import Bundle, PipelineSpec
from millrace.sql.duck import without_nan
from millrace.store import SnapshotStore, bundles, open_store

NAN = float("nan")
SQL = """
SELECT id, time AS event_timestamp, v, (count(v) OVER ())::BIGINT AS known,
       avg(CASE WHEN v <= 1000 THEN v END) OVER () AS mean, max(v) OVER () AS most
FROM readings
"""


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
def test_nan_of_an_earlier_snapshot_is_null_in_the_sql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    if engine == "spark" and (reason := spark_pair.missing()):
        pytest.skip(reason)
    # Given readings of which one is NaN, under statistics that say 0 to 1
    times = [datetime(2024, 1, 1, n, tzinfo=UTC) for n in range(4)]
    table = pa.table({"id": ["a", "b", "c", "d"], "time": pa.array(times, pa.timestamp("us", "UTC")),
                      "v": [0.0, 1.0, NAN, None]})  # fmt: skip
    store = open_store(tmp_path)
    monkeypatch.setattr("millrace.store.snapshots.write_parquet", pq.write_table)  # as it was, statistics and all
    raw = SnapshotStore(store).write(table, pipeline="shop", dataset="raw.readings", partition="2024-01-01")
    monkeypatch.undo()
    spec = PipelineSpec.model_validate({
        "version": 1, "name": "shop", "owner": "me", "description": "test",
        "partition": {"grain": "day", "start": "2024-01-01"},
        "sources": {"readings": {"kind": "files", "gate": "g.yaml", "location": "{year}-{month}-{day}.csv",
                                 "columns": ["id", "time", "v"], "types": {"time": "timestamp", "v": "number"}}},
        "features": {"entity": ["id"], "service": "shop", "engine": engine},
    })  # fmt: skip
    bundle = Bundle(spec=spec.model_dump(mode="json"), sql=SQL, suites={})
    bundles.keep(store, bundle)
    # When features are made of them
    asked = request(
        "transform", store=store.root, spec_digest=bundle.digest, scope=["2024-01-01"],
        inputs=[("readings", raw, "2024-01-01")], services={"spark": "local[2]"},
    )  # fmt: skip
    result = run(asked)
    # Then the SQL saw two numbers and two nulls
    assert result.outcome is not None, result.error
    data = result.outcome.outputs["data"]
    found = SnapshotStore(store).read(data.uri, data.digest)
    assert found["v"].to_pylist() == [0.0, 1.0, None, None]
    assert set(zip(*(found[c].to_pylist() for c in ("known", "mean", "most")), strict=True)) == {(2, 0.5, 1.0)}


def test_only_files_that_may_be_wrong_are_copied(tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    nan, sane, silent = (tmp_path / f"{name}.parquet" for name in ("nan", "sane", "silent"))
    pq.write_table(pa.table({"v": [1.0, NAN], "n": [1, 2]}), nan)
    pq.write_table(pa.table({"v": [1.0, None], "n": [1, 2]}), sane)
    pq.write_table(pa.table({"v": [1.0, NAN], "n": [1, 2]}), silent, write_statistics=["n"])
    assert without_nan(sane, str(folder)) == sane and without_nan(silent, str(folder)) == silent
    assert not list(folder.iterdir())
    copied = without_nan(nan, str(folder))
    assert copied.parent == folder and pq.read_table(copied).to_pydict() == {"v": [1.0, None], "n": [1, 2]}
