"""`millrace gate`: a suite on a file and on a table in PostgreSQL, the same answer; mistakes are a line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import ledger_cluster

ROOT = Path(__file__).resolve().parents[2]

ASKED = ("gate", "city_temperature", "suites/temperatures.yaml")
HOURS = [datetime(2010, 1, 1, tzinfo=UTC) + timedelta(hours=h) for h in range(24)]
GOOD = {"city": ["Seattle"] * 24 + ["San Francisco"] * 24, "time": HOURS * 2, "temp": [50.5] * 48}


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_a_file_passes_and_one_in_celsius_fails(millrace, tmp_path):
    pq.write_table(pa.table(GOOD), tmp_path / "good.parquet")
    said = millrace(*ASKED, tmp_path / "good.parquet")
    assert said.code == 0 and said.out.endswith("0 failed\n"), said
    pq.write_table(pa.table({**GOOD, "temp": [10.0] * 47 + [500.0]}), tmp_path / "celsius.parquet")
    said = millrace(*ASKED, tmp_path / "celsius.parquet")
    assert said.code == 1
    assert said.out.count("FAILED") == 2 and said.out.endswith("2 failed\n"), said.out
    assert "such as 500" in said.out


def test_a_table_in_postgresql_is_checked_where_it_lies(millrace, monkeypatch):
    if ledger_cluster.INITDB is None:
        pytest.skip("PostgreSQL is not installed")
    from sqlalchemy import create_engine

    with ledger_cluster.cluster() as address:
        engine = create_engine(address.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE readings (city text, time timestamptz, temp double precision)")
            rows = zip(*GOOD.values(), strict=True)
            connection.exec_driver_sql("INSERT INTO readings VALUES (%s, %s, %s)", list(rows))
        engine.dispose()
        monkeypatch.setenv("MILLRACE_DATABASE", address)
        said = millrace(*ASKED, "--table", "readings")
        assert said.code == 0 and said.out.endswith("0 failed\n"), said
        missing = millrace(*ASKED, "--table", "nothing")
        assert missing.code != 0 and "nothing" in missing.err and "Traceback" not in missing.err


@pytest.mark.parametrize(("words", "problem"), [
    (("gate", "city_temperature", "suites/temperature.yaml", "x.parquet"), "suites/temperatures.yaml"),
    ((*ASKED, "no.parquet"), "cannot be read"),
    (ASKED, "--table"),
    ((*ASKED, "--table", "t"), "MILLRACE_DATABASE"),
])  # fmt: skip
def test_a_mistake_is_a_line(millrace, words, problem):
    said = millrace(*words)
    assert said.code != 0 and problem in said.err and "Traceback" not in said.err
