"""transform: the same bytes for the same inputs, and a clear word about SQL or rows that cannot be features."""

from __future__ import annotations

import pyarrow as pa
import pytest
from support.requests import request

from millrace.jobs.runner import run
from millrace.spec import Bundle
from millrace.store import SnapshotStore, bundles, open_store

SQL = "SELECT id, time AS event_timestamp, amount FROM sales, scope WHERE time >= start_time AND time < end_time"


def spec():
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
                "gate": "s.yaml",
                "columns": ["id", "time", "amount"],
                "types": {"time": "timestamp", "amount": "number"},
                "lookback": "P1D",
            }
        },
        "features": {"entity": ["id"], "service": "shop"},
    }


def sales(day, hours, start=0):
    times = [f"2024-01-{day:02d}T{h:02d}:00:00" for h in hours]
    return pa.table(
        {
            "id": [f"{day}-{start + n}" for n in range(len(hours))],
            "time": pa.array(times).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
            "amount": [0.1 * (n + 1) for n in range(len(hours))],
        }
    )


@pytest.fixture
def transform(tmp_path):
    def _transform(sql=SQL, tables=None, order=1):
        store = open_store(tmp_path / "store")
        bundle = Bundle(spec=spec(), sql=sql, suites={})
        bundles.keep(store, bundle)
        tables = tables or {"2024-01-01": sales(1, range(24)), "2024-01-02": sales(2, range(24))}
        snapshots = SnapshotStore(store)
        inputs = [
            ("sales", snapshots.write(table, pipeline="shop", dataset="raw.sales", partition=key), key)
            for key, table in list(tables.items())[::order]
        ]
        asked = request("transform", store=store.root, spec_digest=bundle.digest, scope=["2024-01-02"], inputs=inputs)
        return run(asked), store

    return _transform


def test_only_rows_of_the_partition_in_one_order(transform):
    result, store = transform()
    data = result.outcome.outputs["data"]
    table = SnapshotStore(store).read(data.uri, data.digest)
    assert table["id"].to_pylist() == [f"2-{n}" for n in range(24)]


def test_the_order_of_inputs_and_of_sql_rows_does_not_change_the_bytes(transform):
    digests = {
        transform(order=order, sql=sql)[0].outcome.outputs["data"].digest
        for order in (1, -1)
        for sql in (SQL, SQL + " ORDER BY amount DESC")
    }
    assert len(digests) == 1


def test_a_sum_of_doubles_is_the_same_every_time(transform):
    sql = SQL.replace("amount", "sum(amount) OVER (ORDER BY time) AS amount")
    assert len({transform(sql)[0].outcome_digest for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("SELECT idd FROM sales", "SpecError", "idd"),
        ("SELECT id\nFROM sales\nWHERE nonsense(", "SpecError", "transform.sql:3"),
        ("SELECT id AS idd, time AS event_timestamp FROM sales", "SpecError", "does not make this column"),
        ("SELECT id, 5 AS event_timestamp FROM sales", "SpecError", "no timestamp"),
        (SQL + " AND false", "DataError", "no rows"),
        ("SELECT id, time AS event_timestamp FROM sales", "DataError", "24 of 48 rows lie outside"),
        (SQL.replace("id,", "'x' AS id,").replace("time AS", "start_time AS"), "DataError", "repeat"),
        (SQL.replace("id,", "NULL::VARCHAR AS id,"), "DataError", "have no 'id'"),
        (SQL.replace("amount", "CAST(id AS INTEGER) AS amount"), "DataError", "cannot be converted"),
        ("SELECT * FROM read_csv('/etc/passwd')", "SpecError", "disabled"),
    ],
)
def test_what_cannot_be_features_is_refused(transform, sql, kind, words):
    result, store = transform(sql)
    assert result.outcome is None
    assert result.error.type == kind, result.error
    assert words in result.error.message, result.error.message
    assert not [o for o in store.list("snapshots/shop/features/")]


def test_a_missing_source_is_a_contract_error(transform, tmp_path):
    store = open_store(tmp_path / "store")
    bundle = Bundle(spec=spec(), sql=SQL, suites={})
    bundles.keep(store, bundle)
    result = run(request("transform", store=store.root, spec_digest=bundle.digest, scope=["2024-01-02"]))
    assert result.error.type == "ContractError" and "sales" in result.error.message
