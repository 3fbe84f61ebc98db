"""Features of a FeatureService, compiled where Feast is and read without it, are those that Feast's API gives."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureService
from feast.value_type import ValueType
from pydantic import TypeAdapter, ValidationError
from support.feast_project import FeastProject, at
from support.online_kept import START, START_US, Kept, reading

from millrace.core.errors import DataError, SpecError
from millrace.feast_stores.on_demand import on_demand_views
from millrace.feast_stores.online_views import online_views
from millrace.online.features import Row, read
from millrace.online.views import OnlineView

VIEWS = TypeAdapter(tuple[OnlineView, ...])
DEFINITIONS = """\
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import (
    Array, Bool, Bytes, Decimal, Float32, Float64, Int32, Int64, Json, Map, Set, String, UnixTimestamp, Uuid,
)

def source(name, **other):
    return FileSource(name=name, path=f"millrace://{name}/features", timestamp_field="at", **other)

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
day = Entity(name="day", join_keys=["day"], value_type=ValueType.UNIX_TIMESTAMP)
share = Entity(name="share", join_keys=["share"], value_type=ValueType.DOUBLE)

customers = FeatureView(
    name="customers", entities=[customer], ttl=timedelta(hours=36),
    source=source("customers", field_mapping={"cust": "customer_id", "amt": "amount"}),
    schema=[
        Field(name="customer_id", dtype=Int64), Field(name="amount", dtype=Float64),
        Field(name="single", dtype=Float32),
        Field(name="small", dtype=Int32), Field(name="large", dtype=Int64), Field(name="flag", dtype=Bool),
        Field(name="text", dtype=String), Field(name="raw", dtype=Bytes), Field(name="since", dtype=UnixTimestamp),
        Field(name="tags", dtype=Array(String)), Field(name="numbers", dtype=Array(Int64)),
        Field(name="weights", dtype=Array(Float64)), Field(name="unique", dtype=Set(Int64)), 
        Field(name="uid", dtype=Uuid),
        Field(name="price", dtype=Decimal), Field(name="settings", dtype=Json), Field(name="by_name", dtype=Map),
        Field(name="times", dtype=Array(UnixTimestamp)), Field(name="unused", dtype=Int64),
    ],
)
sales = FeatureView(
    name="sales", entities=[shop, day], ttl=timedelta(0), source=source("sales"),
    schema=[Field(name="shop", dtype=String), Field(name="day", dtype=UnixTimestamp), Field(name="sold", dtype=Int64)],
)
country = FeatureView(
    name="country", entities=[], ttl=timedelta(days=7), source=source("country"),
    schema=[Field(name="holiday", dtype=Bool)],
)
all_of_it = FeatureService(name="all_of_it", features=[
    sales[["sold"]].with_join_key_map({"shop": "origin"}).with_name("sold_there"), country,
    customers[["text", "amount", "single", "small", "large", "flag", "raw", "since", "tags", "numbers", "weights",
               "unique", "uid", "price", "settings", "by_name", "times"]],
])

offline = FeatureView(
    name="offline", entities=[shop], online=False, source=source("offline"),
    schema=[Field(name="shop", dtype=String), Field(name="sold", dtype=Int64)],
)
shares = FeatureView(
    name="shares", entities=[share], source=source("shares"),
    schema=[Field(name="share", dtype=Float64), Field(name="sold", dtype=Int64)],
)

@on_demand_feature_view(sources=[sales], schema=[Field(name="double", dtype=Int64)], mode="python")
def doubled(inputs):
    return {"double": [n * 2 for n in inputs["sold"]]}

not_online = FeatureService(name="not_online", features=[offline])
odd_key = FeatureService(name="odd_key", features=[shares])
at_home = FeatureService(name="at_home", features=[country])
on_demand = FeatureService(name="on_demand", features=[sales, doubled])
same_name = FeatureService(
    name="same_name", features=[sales, sales.with_name("there").with_join_key_map({"shop": "to"})],
)
"""
CUSTOMERS: list[dict[str, Any]] = [
    {"customer_id": 1, "amount": 0.1, "single": 0.1, "small": -7, "large": 2**50 + 1, "flag": False, "text": "ü" * 90,
     "raw": b"\x00\xff", "since": at("2023-12-01 00:00"), "tags": ["a", "b"], "numbers": [1, -2], "weights": [0.5],
     "unique": {3, 4}, "uid": "00000000-0000-0000-0000-000000000005", "price": "1.50", "settings": '{"a": [1, null]}',
     "by_name": {"x": 1, "y": "z"}, "times": [at("2023-12-01 00:00")], "unused": 1},
    {"customer_id": 2, **dict.fromkeys(
        ("single", "small", "large", "flag", "text", "raw", "since", "tags", "numbers", "weights", "unique", "uid",
         "price", "settings", "by_name", "times", "unused")), "amount": math.nan},
    {"customer_id": -3, "amount": math.inf, "single": -math.inf, "small": 0, "large": 0, "flag": True, "text": "",
     "raw": b"x", "since": at("1969-01-01 00:00"), "tags": ["c"], "numbers": [0], "weights": [], "unique": {0},
     "uid": "ffffffff-ffff-ffff-ffff-ffffffffffff", "price": "0", "settings": "[]", "by_name": {"x": None},
     "times": [at("1969-01-01 00:00")], "unused": None},
]  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    project = FeastProject.make(tmp_path_factory.mktemp("features") / "p")
    project.write("trips", DEFINITIONS)
    project.apply()
    opened = project.open()
    when = pd.Timestamp(START)
    frame = pd.DataFrame(CUSTOMERS, dtype=object)
    frame["at"] = [when - pd.Timedelta(hours=n) for n in range(len(frame))]
    opened.write_to_online_store("customers", frame)
    opened.write_to_online_store(
        "sales", pd.DataFrame([{"shop": "s", "day": at("2024-01-01 00:00"), "sold": 5, "at": when}])
    )
    by_table(opened, "country", [{"holiday": True, "at": START}])
    return project


def by_table(store: Any, view: str, rows: list[dict[str, Any]]) -> None:
    """Write rows as a job materialises them: under the names of the source."""
    table = pa.Table.from_pylist(rows)
    store.provider.online_store.write_table(store.config, store.get_feature_view(view), table)


def rows(project: Any, views: Any, entities: list[dict[str, Any]], now: datetime = START) -> list[Row]:
    place = project.open().config.online_store.path
    made: list[Row] = reading(place, lambda reader: read(views, reader, entities, now))
    return made


def entity(customer: Any = 1, shop: Any = "s", day: Any = "2024-01-01T00:00:00Z") -> dict[str, Any]:
    return {"customer_id": customer, "origin": shop, "day": day}


def test_every_type_is_as_feast_gives_it(project: Any) -> None:
    store = project.open()
    views = VIEWS.validate_json(VIEWS.dump_json(online_views(store, "all_of_it")))
    asked = [entity(customer) for customer in (1, 2, -3, 99)] + [entity(shop="x"), entity(day="2024-01-02")]
    found = rows(project, views, asked)
    theirs = store.get_online_features(
        store.get_feature_service("all_of_it"),
        [{**one, "day": datetime.fromisoformat(one["day"]).replace(tzinfo=UTC)} for one in asked],
    ).to_dict()
    assert [list(row.features) for row in found] == [
        ["sold", "holiday", "text", "amount", "single", "small", "large", "flag", "raw", "since", "tags", "numbers",
         "weights", "unique", "uid", "price", "settings", "by_name", "times"]
    ] * 6  # fmt: skip
    for name in found[0].features:
        ours = [row.features[name] for row in found]
        assert [(value, type(value)) for value in ours] == [(value, type(value)) for value in theirs[name]], name
    assert [found[0].features[name] for name in ("amount", "large", "text")] == [0.1, 2**50 + 1, "ü" * 90]
    assert found[1].features["amount"] is None


def test_columns_that_the_source_calls_otherwise_are_served_as_the_view_calls_them(project: Any) -> None:
    store = project.open()
    blank = {field.name: None for field in store.get_feature_view("customers").features if field.name != "amount"}
    typed = {**CUSTOMERS[0], **{name: None for name in ("uid", "price", "settings", "by_name", "unique", "times")}}
    by_table(store, "customers", [{**{n: typed[n] for n in blank}, "cust": 500, "amt": 2.5, "at": START}])
    (found,) = rows(project, online_views(store, "all_of_it"), [entity(500)])
    theirs = store.get_online_features(["customers:amount", "customers:tags"], [{"customer_id": 500}]).to_dict()
    assert (found.features["amount"], found.features["tags"]) == (2.5, ["a", "b"])
    assert [theirs["amount"], theirs["tags"]] == [[2.5], [["a", "b"]]]


def test_state_and_event_times(project: Any) -> None:
    views = online_views(project.open(), "all_of_it")
    found = rows(project, views, [entity(1), entity(99), entity(99, "x"), entity(-3)])
    assert [(row.state, row.views) for row in found] == [
        ("found", ()),
        ("unknown", ("customers",)),
        ("unknown", ("sold_there", "customers")),
        ("found", ()),
    ]
    two_hours = 2 * 3_600_000_000
    assert found[3].event_us == {"sold_there": START_US, "country": START_US, "customers": START_US - two_hours}
    assert found[1].event_us["customers"] is None and found[1].features["amount"] is None
    assert found[1].features["sold"] == 5


def test_older_than_the_ttl_is_stale_and_the_values_are_there(project: Any) -> None:
    views = online_views(project.open(), "all_of_it")
    assert [view.ttl_s for view in views] == [None, 7 * 86_400, 36 * 3_600]
    to_the_point, later = START + timedelta(hours=36), START + timedelta(hours=36, microseconds=1)
    assert [rows(project, views, [entity(1)], now)[0].state for now in (to_the_point, later)] == ["found", "stale"]
    (much_later,) = rows(project, views, [entity(1)], START + timedelta(days=400))
    assert (much_later.state, much_later.views) == ("stale", ("country", "customers"))
    assert much_later.features["amount"] == 0.1
    (unknown,) = rows(project, views, [entity(99)], START + timedelta(days=400))
    assert (unknown.state, unknown.views) == ("unknown", ("customers",))


def test_a_key_that_is_wrong_is_named_with_its_entity(project: Any) -> None:
    views = online_views(project.open(), "all_of_it")
    with pytest.raises(DataError, match="entity 1: join key 'customer_id' cannot be this value") as refused:
        rows(project, views, [entity(1), entity("one")])
    assert refused.value.where == "customer_id"
    with pytest.raises(DataError, match="lacks a join key.*'origin'"):
        rows(project, views, [{"customer_id": 1, "day": "2024-01-01"}])


def test_no_entities_are_no_rows(project: Any) -> None:
    assert rows(project, online_views(project.open(), "all_of_it"), []) == []


def test_a_view_is_compiled_as_plain_values(project: Any) -> None:
    sold, country, customers = json.loads(VIEWS.dump_json(online_views(project.open(), "all_of_it")))
    assert sold == {
        "name": "sold_there", "table": "reference_sales", "join_keys": {"shop": "origin", "day": "day"},
        "types": {"shop": "STRING", "day": "UNIX_TIMESTAMP"}, "ttl_s": None,
        "features": [{"name": "sold", "source": "sold", "type": "INT64"}],
    }  # fmt: skip
    assert (country["join_keys"], country["types"]) == ({}, {})
    assert customers["features"][1] == {"name": "amount", "source": "amount", "type": ValueType.DOUBLE.name}


@pytest.mark.parametrize(
    ("service", "match"),
    [
        ("nobodys", "lacks a part of it.*nobodys.*millrace apply"),
        ("not_online", "not kept online.*'offline'.*online=True"),
        ("odd_key", "'shares': a join key of this type cannot be served.*share: DOUBLE.*allowed: BYTES, STRING"),
        ("same_name", "feature of the same name.*'sold'"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_next_step(project: Any, service: str, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        online_views(project.open(), service)


def test_what_a_model_computes_is_its_own_and_its_inputs_are_read(project: Any) -> None:
    store = project.open()
    assert [view.name for view in online_views(store, "on_demand")] == ["sales"]
    views = on_demand_views(DEFINITIONS, "on_demand", "feature_repo/trips.py")
    assert online_views(store, "on_demand", views) == online_views(store, "on_demand")
    country, sales = online_views(store, "at_home", views)
    assert [country.name, *(f.name for f in sales.features)] == ["country", "sold"]
    text = views[0].model_copy(update={"inputs": (views[0].inputs[0].model_copy(update={"type": "STRING"}),)})
    with pytest.raises(SpecError, match="does not have so.*sales:sold STRING.*sold INT64"):
        online_views(store, "on_demand", (text,))


def test_rows_of_feasts_own_stores_are_refused(project: Any) -> None:
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    stock = FeatureStore(config=RepoConfig(
        project="reference", provider="local", registry=project.open().config.registry,
        online_store={"type": "sqlite", "path": "online.db"}, entity_key_serialization_version=3,
    ))  # fmt: skip
    with pytest.raises(SpecError, match="not read without Feast.*'sqlite'.*EntityRowOnlineStore"):
        online_views(stock, "all_of_it")


@pytest.mark.parametrize(
    "wrong", [{"types": {}}, {"features": []}, {"ttl_s": 0}, {"more": 1}, {"types": {"shop": "DOUBLE"}}]
)
def test_a_document_that_does_not_fit_together_is_refused(wrong: dict[str, Any]) -> None:
    right = {"name": "v", "table": "t", "join_keys": {"shop": "shop"}, "types": {"shop": "STRING"},
             "features": [{"name": "a", "source": "a", "type": "INT64"}]}  # fmt: skip
    assert OnlineView.model_validate(right).ttl_s is None
    with pytest.raises(ValidationError):
        OnlineView.model_validate({**right, **wrong})
    with pytest.raises(ValidationError, match="stands twice"):
        OnlineView.model_validate({**right, "features": [*right["features"]] * 2})


def test_each_store_gives_what_feast_gives(kept: Kept) -> None:
    frame = pd.DataFrame({
        "vehicle": ["a", "b"], "event_timestamp": [START, START - timedelta(hours=1)], "created": [START] * 2,
        "distance": [3, 2**60 + 1], "speed": [0.1, None], "driver": ["ann", None], "electric": [True, False],
        "serviced": [at("2023-12-01 00:00"), at("2023-12-02 00:00")], "weight": [7, 8],
    })  # fmt: skip
    kept.store.push("trips_push", frame)
    views = online_views(kept.store, "trips_v1")
    asked = [{"vehicle": vehicle} for vehicle in ("b", "a", "nobody")]

    async def many(reader: Any) -> Any:
        return await asyncio.gather(*(read(views, reader, asked, START) for _ in range(30)))

    found = kept.read(many)
    assert all(answer == found[0] for answer in found)
    service: FeatureService = kept.store.get_feature_service("trips_v1")
    theirs = kept.store.get_online_features(service, asked).to_dict()
    assert list(found[0][0].features) == ["speed", "distance", "driver", "electric", "weight"]
    assert {name: [row.features[name] for row in found[0]] for name in found[0][0].features} == {
        name: values for name, values in theirs.items() if name != "vehicle"
    }
    assert [row.state for row in found[0]] == ["found", "found", "unknown"]


SERVE = """
import asyncio, json, sys
from datetime import UTC, datetime
from millrace.online.features import read
from millrace.online.reader import open_reader
from millrace.online.views import OnlineView

place, views, heavy = json.loads(sys.argv[1])
reader = open_reader(place, timeout_s=20)
made = asyncio.run(read([OnlineView.model_validate(v) for v in views], reader, [{"vehicle": "a"}], datetime.now(UTC)))
print(json.dumps([made[0].features, [name for name in heavy if name in sys.modules]]))
"""
HEAVY = ["feast", "pyarrow", "pandas", "numpy", "google.protobuf", "duckdb", "sqlalchemy", "millrace.feast_stores",
         "millrace.sql", "millrace.spec"]  # fmt: skip
CLIENTS = {"sqlite": [], "postgres": ["psycopg"], "redis": ["redis"]}


def test_a_server_imports_the_client_of_its_store_and_nothing_of_feasts(kept: Kept) -> None:
    kept.write({"a": 5})
    views = [json.loads(view.model_dump_json()) for view in online_views(kept.store, "trips_v1")]
    given = json.dumps([kept.address, views, [*HEAVY, "psycopg", "redis"]])
    done = subprocess.run([sys.executable, "-c", SERVE, given], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    features, imported = json.loads(done.stdout)
    assert features["distance"] == 5
    assert imported == CLIENTS[kept.project.online[0] if kept.project.online else "sqlite"]
