"""transform: which rows and types may become features, from which inputs, and the same bytes in every process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.requests import Given, request

from millrace.contract import JobRequest, JobResult
from millrace.jobs.runner import run
from millrace.spec import Bundle, PipelineSpec
from millrace.store import SnapshotStore, bundles, open_store

SQL = """
SELECT s.id, s.time AS event_timestamp, s.amount, c.name AS city,
       avg(s.amount) OVER (PARTITION BY c.name ORDER BY s.time RANGE INTERVAL 7 DAYS PRECEDING) AS usual
FROM sales AS s LEFT JOIN cities AS c USING (city), scope
QUALIFY s.time >= start_time AND s.time < end_time
"""
OTHER_PROCESS = """
import json, sys
from millrace.contract import JobRequest
from millrace.jobs.runner import run
print(json.dumps([run(JobRequest.parse(line)).outcome_digest for line in sys.stdin]))
"""
NEW_YEAR = datetime(2024, 1, 1, 5, tzinfo=UTC)  # midnight in New York


def spec(**changes: Any) -> dict[str, Any]:
    source = {"kind": "files", "gate": "g.yaml"}
    columns = ["id", "city", "time", "amount"]
    base = {
        "version": 1, "name": "shop", "owner": "me", "description": "test",
        "partition": {"grain": "month", "timezone": "America/New_York", "start": "2023-11"},
        "sources": {
            "sales": {**source, "location": "{year}-{month}.csv", "columns": columns, "lookback": "P1M",
                      "types": {"time": "timestamp", "amount": "number"}},
            "cities": {**source, "location": "cities.csv", "columns": ["city", "name"], "partitioned": False},
        },
        "features": {"entity": ["id"], "service": "shop"},
        "columns": {"id": "public", "amount": "public", "city": "public"},
    }  # fmt: skip
    return PipelineSpec.model_validate({**base, **changes}).model_dump(mode="json")


def sales(start: datetime, count: int = 600, first: int = 0) -> pa.Table:
    """`count` sales an hour apart, with amounts whose sum depends on its order."""
    return pa.table({
        "id": [f"s{first + n}" for n in range(count)],
        "city": [f"c{n % 3}" for n in range(count)],
        "time": pa.array([start + timedelta(hours=n) for n in range(count)], pa.timestamp("us", "UTC")),
        "amount": [0.1 * (n % 17) + 1e-9 * n for n in range(count)],
    })  # fmt: skip


class Shop:
    """A store with raw Snapshots of December (for the lookback), January and the cities."""

    def __init__(self, root: Path, **changes: Any) -> None:
        self.store = open_store(root)
        self.spec = spec(**changes)
        self.raw = {
            ("sales", "2023-12"): sales(NEW_YEAR - timedelta(days=25)),
            ("sales", "2024-01"): sales(NEW_YEAR, first=600),
            ("cities", "static"): pa.table({"city": ["c0", "c1"], "name": ["Rome", "Oslo"]}),
        }

    def request(
        self, sql: str = SQL, backwards: bool = False, scope: str = "2024-01", beside: Iterable[Given] = ()
    ) -> JobRequest:
        bundle = Bundle(spec=self.spec, sql=sql, suites={})
        bundles.keep(self.store, bundle)
        snapshots = SnapshotStore(self.store)
        inputs = [
            (name, snapshots.write(table, pipeline="shop", dataset=f"raw.{name}", partition=key), key)
            for (name, key), table in self.raw.items()
        ]
        return request(
            "transform", store=self.store.root, spec_digest=bundle.digest, scope=[scope],
            inputs=[*(inputs[::-1] if backwards else inputs), *beside],
        )  # fmt: skip

    def run(self, sql: str = SQL) -> JobResult:
        return run(self.request(sql))

    def features(self, sql: str = SQL) -> pa.Table:
        result = self.run(sql)
        assert result.outcome is not None, result.error
        data = result.outcome.outputs["data"]
        return SnapshotStore(self.store).read(data.uri, data.digest)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "store")


def refused(result: JobResult, shop: Shop, kind: str, words: str) -> None:
    assert result.outcome is None and result.error is not None
    assert (result.error.type, result.error.retry) == (kind, "never"), result.error
    assert words in result.error.message, result.error.message
    assert not list(shop.store.list("snapshots/shop/features/"))


def one(columns: str) -> str:
    return f"SELECT 'a' AS id, start_time AS event_timestamp, {columns} FROM scope"


def test_the_partition_in_local_time_with_its_lookback_and_statics(shop: Shop) -> None:
    table = shop.features()
    assert table.num_rows == 600
    assert table["event_timestamp"][0].as_py() == NEW_YEAR
    assert table["city"].to_pylist()[:3] == ["Rome", "Oslo", None]
    # December's sales are seen by January's first rolling mean
    assert table["usual"][0].as_py() != table["amount"][0].as_py()


def test_scope_is_the_partition(shop: Shop) -> None:
    row = shop.features(one("partition_key, end_time")).to_pylist()[0]
    assert row == {
        "id": "a", "event_timestamp": NEW_YEAR, "partition_key": "2024-01",
        "end_time": datetime(2024, 2, 1, 5, tzinfo=UTC),
    }  # fmt: skip


def test_the_same_bytes_in_every_process_whatever_the_order_of_inputs(shop: Shop) -> None:
    # Given one request with its inputs in both orders, run in two processes besides this one
    requests = [shop.request(), shop.request(backwards=True)]
    lines = "\n".join(request.model_dump_json() for request in requests)
    digests = {run(request).outcome_digest for request in requests}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", OTHER_PROCESS], input=lines, capture_output=True, text=True, check=True
        )
        digests |= set(json.loads(done.stdout))
    # Then there is one outcome: floating sums, joins and windows included
    assert len(digests) == 1 and None not in digests


def test_rows_have_one_order(shop: Shop) -> None:
    table = shop.features(
        "SELECT id, start_time + INTERVAL (CASE WHEN id > 's5' THEN 1 ELSE 2 END) HOUR AS event_timestamp "
        "FROM sales, scope ORDER BY hash(id)"
    )
    keys = list(zip(table["event_timestamp"].to_pylist(), table["id"].to_pylist(), strict=True))
    assert keys == sorted(keys)


def test_types_that_the_stack_knows(shop: Shop) -> None:
    table = shop.features(
        one(
            "sum(1) OVER () AS huge, 1.50::DECIMAL(9, 2) AS dec, 1::UTINYINT AS tiny, 1.5::FLOAT AS single, "
            "TRUE AS flag, 'a'::ENUM ('a', 'b') AS kind, DATE '2024-01-01' AS day, NULL::VARCHAR AS nothing, "
            "TIMESTAMPTZ '2024-01-01' AS moment"
        )
    )
    types = {name: str(kind) for name, kind in zip(table.column_names, table.schema.types, strict=True)}
    assert types == {
        "id": "string", "event_timestamp": "timestamp[us, tz=UTC]", "huge": "int64", "dec": "double",
        "tiny": "uint8", "single": "float", "flag": "bool", "kind": "string", "day": "date32[day]",
        "nothing": "string", "moment": "timestamp[us, tz=UTC]",
    }  # fmt: skip
    row = table.to_pylist()[0]
    assert (row["huge"], row["dec"]) == (1, 1.5)
    assert row["moment"] == NEW_YEAR


@pytest.mark.parametrize("type_", ["FLOAT", "DOUBLE"])
def test_nan_is_null_and_infinities_are_refused(shop: Shop, type_: str) -> None:
    found = shop.features(one(f"'nan'::{type_} AS a, NULL::{type_} AS b, -1.5::{type_} AS c")).to_pylist()[0]
    assert (found["a"], found["b"], found["c"]) == (None, None, -1.5)
    for infinite in ("inf", "-inf"):
        words = "1 of 1 rows have an infinite 'far'. Say what it means"
        result = shop.run(one(f"'{infinite}'::{type_} AS far"))
        assert result.error is not None and (result.error.type, words in result.error.message) == ("DataError", True)


def test_a_feature_is_within_float32_and_a_label_need_not_be(tmp_path: Path) -> None:
    label = {"column": "price", "task": "regression", "known_after": "P1D"}
    shop = Shop(tmp_path / "a", label=label)
    most = 3.4028235e38  # as float32's largest number is written
    assert shop.features(one(f"{most} AS far, -{most} AS near, 1e300 AS price"))["far"].to_pylist() == [most]
    other = Shop(tmp_path / "b", label=label)
    refused(other.run(one("3.5e38 AS far, 1 AS price")), other, "DataError", "have a 'far' beyond 3.4e38")
    refused(other.run(one("1 AS far, 'inf'::DOUBLE AS price")), other, "DataError", "have an infinite 'price'")


def test_nan_is_no_key(tmp_path: Path) -> None:
    shop = Shop(tmp_path, features={"entity": ["id", "place"], "service": "shop"})
    refused(shop.run(one("'nan'::DOUBLE AS place")), shop, "DataError", "1 of 1 rows have no 'place'")


@pytest.mark.parametrize(
    ("column", "type_"),
    [
        ("INTERVAL 1 DAY", "interval"),
        ("[1]", "list"),
        ("{'a': 1}", "struct"),
        ("TIME '10:00'", "time"),
        ("NULL", "null"),
        ("'a'::BLOB", "binary"),
    ],
)
def test_a_type_that_features_cannot_have(shop: Shop, column: str, type_: str) -> None:
    result = shop.run(one(f"{column} AS odd"))
    refused(result, shop, "SpecError", "column 'odd' is of a type that features cannot have")
    assert type_ in str(result.error)


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        (one("10::HUGEINT ** 30 AS a, 10::HUGEINT * 9223372036854775807 AS huge"), "DataError", "'huge' is too large"),
        (one("1 AS a, 2 AS A"), "SpecError", "makes a column twice: A, a"),
        (
            "SELECT 'a' AS id, NULL::TIMESTAMPTZ AS event_timestamp",
            "DataError",
            "1 of 1 rows have no 'event_timestamp'",
        ),
        ("SELECT 'a' AS id, end_time AS event_timestamp FROM scope", "DataError", "1 of 1 rows lie outside partition"),
        ("SELECT id, time AS event_timestamp FROM sales", "DataError", "600 of 1,200 rows lie outside"),
        (one("1 AS a") + " UNION ALL " + one("2 AS a"), "DataError", "1 of 2 rows repeat another row's"),
        ("SELECT 'a' AS id, start_time AS event_timestmp FROM scope", "SpecError", "did you mean 'event_timestmp'?"),
        (one("now() AS a"), "SpecError", "'now' gives something else at each run"),
    ],
)
def test_what_cannot_be_features(shop: Shop, sql: str, kind: str, words: str) -> None:
    refused(shop.run(sql), shop, kind, words)


def test_created_time_and_label_must_be_made(tmp_path: Path) -> None:
    features = {"entity": ["id"], "service": "shop", "created_time": "known"}
    label = {"column": "late", "task": "binary", "known_after": "P1D"}
    shop = Shop(tmp_path, features=features, label=label)
    refused(shop.run(one("1 AS late")), shop, "SpecError", "(given: 'known')")
    refused(shop.run(one("1 AS late, 'x' AS known")), shop, "SpecError", "time 'known' is no timestamp")
    refused(shop.run(one("start_time AS known")), shop, "SpecError", "(given: 'late')")
    assert shop.features(one("1 AS late, start_time AS known")).num_rows == 1


def test_a_source_without_a_snapshot_is_named(shop: Shop) -> None:
    del shop.raw["cities", "static"]
    refused(shop.run(), shop, "ContractError", "transform needs a Snapshot of source 'cities'")


def test_a_partition_is_read_once(shop: Shop) -> None:
    again = SnapshotStore(shop.store).write(
        sales(NEW_YEAR, 5), pipeline="shop", dataset="raw.sales", partition="2024-01"
    )
    twice = shop.request(beside=[("sales", again, "2024-01")])
    refused(run(twice), shop, "ContractError", "a partition of source 'sales' comes twice")


def test_snapshots_landed_under_different_specs_are_named(shop: Shop) -> None:
    december = shop.raw["sales", "2023-12"]
    shop.raw["sales", "2023-12"] = december.set_column(3, "amount", december["amount"].cast(pa.string()))
    refused(shop.run(), shop, "DataError", "source 'sales' has other columns or types than 2023-12")


def test_the_classification_is_that_of_the_strictest_column(tmp_path: Path) -> None:
    for name, class_ in (("public", "public"), ("personal", "personal")):
        columns = {"id": "public", "event_timestamp": "public", "secret": class_}
        shop = Shop(tmp_path / name, columns=columns)
        result = shop.run(one("1 AS secret"))
        assert result.outcome is not None, result.error
        assert result.outcome.outputs["data"].classification == class_
        assert result.outcome.facts["rows"] == 1
        assert result.outcome.facts["columns"] == ["id", "event_timestamp", "secret"]


def test_a_changed_raw_snapshot_is_found(shop: Shop) -> None:
    request = shop.request()
    uri = next(iter(request.place.inputs.values()))
    shop.store.put(uri + "data.parquet", b"other bytes")
    refused(run(request), shop, "Corrupt", "do not have its digest")
