"""Sessions of Spark: in UTC, strict, apart from each other, and a clear word where Spark is missing."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import spark_pair

from millrace.core.errors import DataError, SpecError
from millrace.sql.spark import SESSION, guarded, session

spark_session = spark_pair.spark_session


def test_a_session_has_its_settings_whatever_the_process_has(spark_session: Any) -> None:
    spark_session.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    spark_session.conf.set("spark.sql.ansi.enabled", "false")
    spark_session.sql("SELECT 1 AS mine").createOrReplaceTempView("mine")
    other = session("local[2]")
    assert {key: other.conf.get(key) for key in SESSION} == SESSION
    assert not other.catalog.tableExists("mine")
    with pytest.raises(DataError, match=r"here: the query fails on a row \(CAST_OVERFLOW\)"):
        guarded(lambda: other.sql("SELECT CAST(5000000000 AS INT) AS x").toArrow(), "here")
    with pytest.raises(SpecError, match="cannot plan the query"):
        guarded(lambda: other.sql("SELECT nothing").toArrow(), "here")


def test_select_reads_all_files_of_a_source_in_utc(spark_session: Any, tmp_path: Path) -> None:
    from millrace.sql.select import Scope
    from millrace.sql.select_spark import select

    start, end = datetime(2013, 3, 10, 5, tzinfo=UTC), datetime(2013, 3, 11, 4, tzinfo=UTC)
    schema = pa.schema({"id": pa.string(), "z": pa.timestamp("us", "UTC"), "t": pa.timestamp("us")})
    for n, moment in enumerate((start, end)):
        table = pa.table({"id": [f"r{n}"], "z": [moment], "t": [moment.replace(tzinfo=None)]}, schema=schema)
        pq.write_table(table, tmp_path / f"{n}.parquet")
    found = select(
        "local[2]",
        "SELECT id, z, t, partition_key, extract(hour FROM z AT TIME ZONE 'America/New_York') AS h "
        "FROM rows, scope WHERE z >= start_time AND z <= end_time",
        {"rows": schema}, {"rows": [str(path) for path in sorted(tmp_path.iterdir())]},
        Scope("2013-03-10", start, end, "UTC"),
    )  # fmt: skip
    assert found.schema.field("z").type == pa.timestamp("us", "UTC")
    assert found.schema.field("t").type == pa.timestamp("us")
    rows = sorted(found.to_pylist(), key=lambda row: str(row["id"]))
    assert [(r["id"], r["z"], r["t"], r["h"]) for r in rows] == [
        ("r0", start, start.replace(tzinfo=None), 0),
        ("r1", end, end.replace(tzinfo=None), 0),
    ]


def test_without_pyspark_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyspark"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(SpecError, match=r"pip|millrace\[spark\]"):
        session("local[1]")


def test_a_cluster_reads_s3_by_hadoops_name() -> None:
    from millrace.sql.spark import url

    assert url("s3://bucket/snapshots/a/data.parquet") == "s3a://bucket/snapshots/a/data.parquet"
    assert url("/shared/snapshots/a/data.parquet") == "/shared/snapshots/a/data.parquet"
