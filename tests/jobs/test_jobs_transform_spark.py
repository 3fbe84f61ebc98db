"""transform on Spark: the reference pipeline's features are DuckDB's, and errors are as clear and as discreet."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import spark_pair
from support.pipeline import Pipeline
from support.requests import request

from millrace.contract import Artifact, JobResult
from millrace.jobs.runner import run
from millrace.spec import Bundle, PipelineSpec, ProjectTree
from millrace.store import ObjectStore, SnapshotStore, bundles, open_store

ROOT = Path(__file__).resolve().parents[2]

spark_session = spark_pair.spark_session
MONTH = "2013-02"


class Flights:
    """flight_delays with the raw Snapshots of January (for the lookback) and February, in a store below `root`."""

    def __init__(self, root: Path) -> None:
        from demo import data

        self.store: ObjectStore = open_store(root / "store")
        self.spec: PipelineSpec = ProjectTree(ROOT).spec("flight_delays")
        self.sql = (ROOT / "include" / "pipelines" / "flight_delays" / "transform.sql").read_text()
        reader = Pipeline(ProjectTree(ROOT), self.spec, root / "incoming")
        data.write_planes(root / "incoming")
        self.inputs: list[tuple[str, Artifact, str]] = []
        for month in ("2013-01", MONTH):
            data.write_flights(root / "incoming", month)
            data.write_weather(root / "incoming", month)
            self.add("flights", month, reader.read("flights", month))
            self.add("weather", month, reader.read("weather", month))
        self.add("planes", "static", reader.read("planes"))

    def add(self, source: str, key: str, table: pa.Table) -> None:
        made = SnapshotStore(self.store).write(table, pipeline="flight_delays", dataset=f"raw.{source}", partition=key)
        self.inputs.append((source, made, key))

    def run(self, engine: str, sql: str | None = None, **limits: str) -> JobResult:
        features = self.spec.features.model_copy(update={"engine": engine})
        spec = self.spec.model_copy(update={"features": features}).model_dump(mode="json")
        bundle = Bundle(spec=spec, sql=sql or self.sql, suites={})
        bundles.keep(self.store, bundle)
        asked = request(
            "transform", store=self.store.root, spec_digest=bundle.digest, scope=[MONTH], inputs=self.inputs,
            services={"spark": "local[2]"}, limits=limits,
        )  # fmt: skip
        return run(asked)

    def table(self, result: JobResult) -> pa.Table:
        assert result.outcome is not None, result.error
        data = result.outcome.outputs["data"]
        return SnapshotStore(self.store).read(data.uri, data.digest)


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Flights:
    return Flights(tmp_path_factory.mktemp("flights"))


def test_flight_delays_has_the_same_features_on_both_engines(spark_session: Any, flights: Flights) -> None:
    # Given one SQL and one month, when both engines run it
    ours, theirs = flights.run("duckdb"), flights.run("spark")
    mine, other = flights.table(ours), flights.table(theirs)
    # Then rows, their order, and types are the same, and so is every value but for the last digits of floats
    assert mine.num_rows == 24_951
    assert other.schema == mine.schema
    spark_pair.assert_same(mine.to_pylist(), other.to_pylist())
    keys = ["event_timestamp", "flight_id"]
    assert other.select(keys).equals(mine.select(keys))
    # And the request says which of the two it was
    assert ours.request_digest != theirs.request_digest


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("SELECT tailnum AS flight_id, time_hour AS event_timestamp,\n upper(tailnum) AS t FROM flights", "SpecError",
         "transform.sql:2: upper() does not mean the same on Spark"),
        ("SELECT tailnum AS flight_id, now() AS event_timestamp FROM flights", "SpecError", "'now' gives something"),
        ("SELECT tailnum AS flight_id, time_hour AS event_timestamp FROM planez", "SpecError", "planez does not exist"),
        ("SELECT tailnum AS flight_id, time_hour AS event_timestamp, make_date(distance, 2, 1) AS t FROM flights",
         "DataError", "fails on a row"),
        ("SELECT tailnum AS flight_id, time_hour AS event_timestamp,\n CAST(flight * 100000000 AS INTEGER) AS t "
         "FROM flights", "DataError", "transform.sql: the query fails on a row (CAST_OVERFLOW)"),
    ],
)  # fmt: skip
def test_what_fails_is_told_without_values(
    spark_session: Any, flights: Flights, sql: str, kind: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if "make_date" in sql:
        sql = sql.replace("make_date(distance, 2, 1)", "make_date(2013, 1 + CAST(distance AS INTEGER) * 0 + 12, 1)")
    result = flights.run("spark", sql)
    assert result.error is not None and result.outcome is None
    assert (result.error.type, result.error.retry) == (kind, "never"), result.error
    assert words in result.error.message, result.error.message
    shown = capfd.readouterr()
    assert "00000000" not in result.error.message + shown.out + shown.err


def test_no_traceback_quotes_spark(spark_session: Any) -> None:
    from millrace.core.errors import DataError
    from millrace.sql.spark import guarded

    sql = "SELECT CAST('hunter2' AS INT)"
    with pytest.raises(DataError, match="CAST_INVALID_INPUT") as caught:
        guarded(lambda: spark_session.sql(sql).toArrow(), "here")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_duckdbs_limits_come_with_the_request(flights: Flights, tmp_path: Path) -> None:
    # Given a memory limit that the features do not fit, and a folder to spill to
    small = flights.run("duckdb", duckdb_memory="1MB", duckdb_temp=str(tmp_path))
    assert small.error is not None and (small.error.type, small.error.retry) == ("MemoryError", "larger")
    wrong = flights.run("duckdb", duckdb_memory="much")
    assert wrong.error is not None and "not a memory limit" in wrong.error.message
    # Then what fits gives the same bytes under a limit as without
    plain, limited = flights.run("duckdb"), flights.run("duckdb", duckdb_memory="200MB", duckdb_temp=str(tmp_path))
    assert plain.outcome_digest == limited.outcome_digest is not None
    assert not list(tmp_path.iterdir())
