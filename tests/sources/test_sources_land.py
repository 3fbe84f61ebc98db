"""land takes what came, or says in which file and line it is broken and writes nothing."""

from __future__ import annotations

import gzip
import sys
import zipfile
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.requests import request

from millrace.jobs.runner import run
from millrace.spec import Bundle
from millrace.store import bundles, open_store

HEADER = "id,when,amount,city,secret\n"
ROWS = "1,2024-01-01T10:00:00Z,1.5,Rome,a\n2,2024-01-01T11:00:00Z,,Oslo,b\n"


def spec(**source):
    return {
        "version": 1,
        "name": "shop",
        "owner": "me",
        "description": "test",
        "partition": {"grain": "day", "timezone": "UTC", "start": "2024-01-01"},
        "sources": {
            "sales": {
                "kind": "files",
                "location": "{year}-{month}-{day}.csv",
                "gate": "suites/sales.yaml",
                "columns": ["id", "when", "amount", "city", "secret"],
                "types": {"id": "integer", "when": "timestamp", "amount": "number"},
                **source,
            }
        },
        "features": {"entity": ["id"], "service": "shop"},
        "columns": {"id": "public", "city": "public", "amount": "public", "secret": "personal"},
    }


@pytest.fixture
def land(tmp_path):
    """Deliver bytes as the partition's file and land it; returns result and store."""

    def _land(data=None, name="2024-01-01.csv", **source):
        if data is not None:
            (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        store = open_store(tmp_path / "store")
        bundle = Bundle(spec=spec(**source), sql="", suites={})
        bundles.keep(store, bundle)
        pattern = str(tmp_path / name.replace("2024-01-01", "{year}-{month}-{day}"))
        asked = request(
            "land", store=store.root, spec_digest=bundle.digest, scope=["2024-01-01"], params={"source": "sales"},
            locations={"sales": pattern},
        )  # fmt: skip
        return run(asked), store

    return _land


def rows_of(result, store):
    from millrace.store import SnapshotStore

    data = result.outcome.outputs["data"]
    return SnapshotStore(store).read(data.uri, data.digest)


def test_a_whole_file_becomes_a_typed_snapshot(land):
    result, store = land(HEADER + ROWS)
    table = rows_of(result, store)
    assert result.error is None
    assert table.schema.field("when").type == pa.timestamp("us", "UTC")
    assert table.to_pylist()[1] | {"when": None} == {
        "id": 2,
        "when": None,
        "amount": None,
        "city": "Oslo",
        "secret": "b",
    }
    assert result.outcome.outputs["data"].classification == "personal"


def test_the_same_bytes_twice_are_one_snapshot_and_a_correction_is_another(land):
    first, second = land(HEADER + ROWS)[0], land(HEADER + ROWS)[0]
    assert first.outcome_digest == second.outcome_digest
    corrected, _ = land(HEADER + ROWS.replace("1.5", "2.5"))
    assert corrected.outcome.outputs["data"].digest != first.outcome.outputs["data"].digest


def test_columns_in_another_order_and_further_ones_are_taken_by_name(land):
    result, store = land("extra,secret,city,amount,when,id\nx,a,Rome,1.5,2024-01-01T10:00:00Z,1\n")
    assert rows_of(result, store).column_names == ["id", "when", "amount", "city", "secret"]
    assert result.outcome.facts["ignored_columns"] == ["extra"]


BROKEN = {
    "empty": ("", "the file is empty"),
    "header only": (HEADER, "header but no rows"),
    "cut off": (HEADER + ROWS + "3,2024-01-01T12", "2024-01-01.csv:4.*2 fields.*cut off"),
    "too many fields": (HEADER + "1,2024-01-01T10:00:00Z,1,Rome,a,b,c\n" + ROWS, "csv:2.*7 fields"),
    "wrong header": (HEADER.replace("amount", "amuont") + ROWS, "no column 'amount'.*did you mean 'amuont'"),
    "duplicate header": (HEADER.replace("city", "id") + ROWS, "names a column twice: id"),
    "wrong encoding": (
        (HEADER + ROWS).encode() + "3,2024-01-01T12:00:00Z,1,Köln,c\n".encode("latin-1"),
        "csv:4.*UTF-8",
    ),
    "wrong type": (HEADER + ROWS + "x,2024-01-01T12:00:00Z,1,Rome,c\n", "csv:4.*'id' is not of type integer.*'x'"),
    "time without zone": (HEADER + ROWS + "3,2024-01-01T12:00:00,1,Rome,c\n", "csv:4.*'when'.*offset"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_and_nothing_is_written(land, case):
    import re

    data, pattern = BROKEN[case]
    result, store = land(data)
    assert result.outcome is None
    assert result.error.retry == "never"
    assert re.search(pattern, result.error.message), result.error.message
    assert [o.key for o in store.list() if not o.key.startswith("bundles/")] == []


def test_a_value_of_a_private_column_is_never_shown(land):
    result, _ = land("id,when,amount,city,secret\n1,2024-01-01T10:00:00Z,1,Rome,hunter2\n", types={"secret": "integer"})
    assert "secret" in result.error.message and "csv:2" in result.error.message
    assert "hunter2" not in result.error.message


def test_a_missing_file_may_come_later(land):
    result, _ = land(None)
    assert result.error.type == "SourceMissing" and result.error.retry == "wait"
    assert "2024-01-01.csv" in result.error.message


def test_gzip_and_zip_and_their_broken_halves(land, tmp_path):
    data = (HEADER + ROWS).encode()
    packed = gzip.compress(data * 50)
    assert land(gzip.compress(data), compression="gzip")[0].error is None
    assert "not whole" in land(packed[: len(packed) // 2], compression="gzip")[0].error.message
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("a.csv", data)
    whole = archive.read_bytes()
    assert land(whole, compression="zip")[0].error is None
    assert "not whole" in land(whole[: len(whole) // 2], compression="zip")[0].error.message
    with zipfile.ZipFile(archive, "a") as out:
        out.writestr("b.csv", data)
    assert "exactly one file" in land(archive.read_bytes(), compression="zip")[0].error.message


def test_what_the_source_says_of_its_csv_and_its_zone_is_kept_to(land):
    # Given a file as a German Excel writes it, of a carrier whose name is NA
    text = "sep=;\r\nID;When;Amount;City;Secret;\r\n1;2024-07-01 12:00;1,5;NA;-;\r\n"
    form = {"delimiter": ";", "decimal": ",", "header_case": "ignore", "null_values": ["-"], "encoding": "utf-16"}
    result, store = land(text.encode("utf-16"), csv=form, timezone="Europe/Berlin")
    (row,) = rows_of(result, store).to_pylist()
    assert (row["when"].isoformat(), row["amount"]) == ("2024-07-01T10:00:00+00:00", 1.5)
    assert (row["city"], row["secret"]) == ("NA", None)
    assert result.outcome.facts["ignored_columns"] == []


def test_dates_and_times_of_day_are_that_in_sql(land, tmp_path):
    from millrace.sql.select import Scope, connect, select, show

    result, store = land(
        "id,when,amount,city,secret\n1,2024-01-01T10:00:00Z,1,2024-02-29,23:59\n",
        types={"city": "date", "secret": "time"},
    )
    rows_of(result, store)
    (path,) = tmp_path.rglob("*.parquet")
    now = datetime(2024, 1, 1, tzinfo=UTC)
    with connect(str(tmp_path), "UTC", [str(path)]) as connection:
        show(connection, {"sales": [str(path)]}, Scope("2024-01-01", now, now, "UTC"))
        made = select(
            connection, "SELECT city + 1 AS next, typeof(secret) AS kind, secret > TIME '12:00' AS late FROM sales"
        )
    assert made.to_pylist() == [{"next": date(2024, 3, 1), "kind": "TIME", "late": True}]


def test_parquet_and_json_deliveries(land, tmp_path):
    row = {"id": 1, "when": datetime(2024, 1, 1, 10, tzinfo=UTC), "amount": 1.5, "city": "Rome", "secret": "a"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    result, store = land(whole, format="parquet")
    assert rows_of(result, store).to_pylist() == [row]
    assert "cut off" in land(whole[:-20], format="parquet")[0].error.message
    line = '{"id": 1, "when": "2024-01-01T10:00:00Z", "amount": 1.5, "city": "Rome", "secret": "a", "more": 1}\n'
    result, store = land(line, format="json")
    assert rows_of(result, store).to_pylist() == [row]
    assert "JSON" in land('{"id": "x"', format="json")[0].error.message


def test_another_kind_of_source_comes_through_an_entry_point(tmp_path, monkeypatch, land):
    # Given an installed distribution that names a source kind
    package = tmp_path / "site"
    info = package / "canned-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: canned\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[millrace.sources]\ncanned = canned:CannedSource\n")
    (package / "canned.py").write_text(
        "from typing import ClassVar, Literal\n"
        "from millrace.spec.source import FilesSource\n"
        "class CannedSource(FilesSource):\n"
        "    kind: Literal['canned'] = 'canned'\n"
        "    engine: ClassVar[str] = 'canned:Engine'\n"
        "class Engine:\n"
        "    def fetch(self, location, folder):\n"
        f"        path = folder / 'canned.csv'; path.write_text({HEADER + ROWS!r}); return path\n"
    )
    monkeypatch.syspath_prepend(str(package))
    # Then the spec takes the kind and land uses its engine
    result, store = land(None, kind="canned")
    assert result.error is None, result.error
    assert rows_of(result, store).num_rows == 2
    sys.modules.pop("canned")
