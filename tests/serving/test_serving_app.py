"""The server answers by entities and rows as the batch scores them, and says what is wrong with what it is asked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from serving.conftest import asking
from support.served import NAMES, Served, rows

from millrace.contract.answered import Answered
from millrace.serving.access import EVERYBODY
from millrace.serving.log import read

GIVEN = {"speed": 50.0, "distance": 3, "driver": "ann", "electric": True, "weight": 7}


def logged(served: Served, worker: str = "0") -> list[Answered]:
    folder = served.root / "log" / worker
    paths = sorted(folder.glob("*.segment")) + sorted(folder.glob("*.open"))
    return [Answered.model_validate_json(record) for path in paths for record in read(path)]


def test_rows_get_what_the_batch_predicts_to_the_last_bit(served: Served):
    served.plan()
    table = rows(64, 5)
    expected = served.model(served.train(1)).predict(table).tolist()

    async def ask() -> list[Any]:
        async with asking(served) as it:
            alone = [(await it.predict({"rows": [row]})).json()["predictions"] for row in table.to_pylist()]
            together = await asyncio.gather(*(it.predict({"rows": [row]}) for row in table.to_pylist()))
            whole = (await it.predict({"rows": table.to_pylist()})).json()["predictions"]
            return [[p["prediction"] for [p] in alone], [r.json()["predictions"][0]["prediction"] for r in together],
                    [p["prediction"] for p in whole]]  # fmt: skip

    assert asyncio.run(ask()) == [expected] * 3


def test_entities_are_answered_by_what_the_online_store_holds(served: Served):
    served.plan()
    table = rows(40)
    expected = served.model(served.train(1)).predict(table).tolist()

    async def ask() -> list[Any]:
        async with asking(served) as it:
            return (await it.vehicles(*range(40))).json()["predictions"]

    found = asyncio.run(ask())
    assert [row["prediction"] for row in found] == expected
    assert {(row["found"], row["role"], row["version"]) for row in found} == {("found", "champion", 1)}
    assert all(row["times"]["trips"] > 0 for row in found)


def test_an_answer_is_in_the_log_when_it_is_given(served: Served):
    served.plan()

    async def ask() -> list[Answered]:
        async with asking(served) as it:
            reply = await it.predict({"entities": [{"vehicle": "v3"}], "id": "mine"})
            assert reply.json()["id"] == "mine"
            return logged(served)

    (record,) = asyncio.run(ask())
    assert (record.id, record.pipeline, record.version, record.role, record.generation) == (
        "mine", "trips", 1, "champion", 1)  # fmt: skip
    assert record.entities == [{"vehicle": "v3"}] and record.columns == NAMES and record.found == ["found"]
    assert record.model == served.arm(1).model and record.caller == EVERYBODY.name and record.times is not None
    assert dict(zip(record.columns, record.rows[0], strict=True)) == rows(40).to_pylist()[3]


def test_what_the_spec_leaves_out_is_not_kept(served: Served):
    served.plan(serving={"log": {"leave_out": ["driver"]}})

    async def ask() -> None:
        async with asking(served) as it:
            await it.vehicles(3)
        async with asking(served, log=served.root / "log" / "none") as it:
            served.plan(2, serving={"log": {"inputs": 0}})
            await asyncio.to_thread(it.server.follower.look)
            await it.vehicles(3)

    asyncio.run(ask())
    (record,) = logged(served)
    assert record.columns == [name for name in NAMES if name != "driver"]
    (unkept,) = [
        Answered.model_validate_json(r) for p in (served.root / "log/none/0").glob("*.segment") for r in read(p)
    ]
    assert unkept.columns is None and unkept.rows is None


@pytest.mark.parametrize(
    ("entity", "state"), [({"vehicle": "nobody"}, "unknown"), ({"vehicle": "old"}, "stale")], ids=["unknown", "stale"]
)
def test_an_entity_without_features_gets_what_the_spec_says(served: Served, entity: Any, state: str):
    async def ask(generation: int, serving: Any) -> Any:
        served.plan(generation, serving=serving)
        async with asking(served, log=served.root / f"log{generation}") as it:
            return await it.predict({"entities": [entity]})

    refused = asyncio.run(ask(1, {}))
    assert refused.status_code == 404 and f"is {state} in trips" in refused.json()["error"]

    fallen = asyncio.run(ask(2, {"missing": "fallback", "fallback": {"constant": 0.25}})).json()["predictions"][0]
    assert (fallen["prediction"], fallen["found"]) == (0.25, state)

    defaults = {"speed": 1.0, "driver": "bob"}
    given = asyncio.run(ask(3, {"missing": "defaults", "defaults": defaults})).json()["predictions"][0]
    row = {name: [defaults.get(name)] for name in NAMES}
    typed = pa.table({n: pa.array(v, rows(1).schema.field(n).type) for n, v in row.items()})
    assert given["prediction"] == served.model(served.train(1)).predict(typed)[0] and given["found"] == state


BAD: list[tuple[Any, int, str]] = [
    ({"rows": [GIVEN | {"speed": "fast"}]}, 400, "'speed' cannot be this value"),
    ({"rows": [{k: v for k, v in GIVEN.items() if k != "driver"}]}, 400, "lacks 'driver'"),
    ({"rows": [GIVEN | {"sped": 1}]}, 400, "Did you mean 'speed'?"),
    ({"rows": []}, 400, "1 to 256"),
    ({"rows": [GIVEN] * 257}, 413, "1 to 256"),
    ({"rows": [GIVEN], "entities": []}, 400, "either entities or rows"),
    ({"entities": [{"vehicl": "v1"}]}, 400, "join keys"),
    ({"entities": [{"vehicle": 3}]}, 400, "join key 'vehicle'"),
    ({"entities": {"vehicle": "v1"}}, 400, "list of objects"),
    ({"instances": []}, 400, "no such field"),
    ([1], 400, "no JSON object"),
]


@pytest.mark.parametrize(("body", "status", "words"), BAD, ids=[words for _, _, words in BAD])
def test_what_is_wrong_is_named_and_nothing_is_logged(
    planned: Served, tmp_path: Any, body: Any, status: int, words: str
):
    async def ask() -> Any:
        async with asking(planned, log=tmp_path / "log") as it:
            return await it.predict(body)

    reply = asyncio.run(ask())
    assert reply.status_code == status and words in reply.json()["error"]
    assert not [*(tmp_path / "log").rglob("*.segment")]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict/trips", 405), ("POST", "/predict/none", 404), ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/trips/versions/9", 404), ("POST", "/v2/models/trips/versions/x/infer", 404),
        ("POST", "/v2/health/live", 405), ("GET", "/../etc/passwd", 404), ("DELETE", "/v2/models/trips", 405),
    ],
)  # fmt: skip
def test_paths_that_are_none(planned: Served, tmp_path: Any, method: str, path: str, status: int):
    async def ask() -> Any:
        async with asking(planned, log=tmp_path / "log") as it:
            return await it.client.request(method, path, json={} if method == "POST" else None)

    reply = asyncio.run(ask())
    assert reply.status_code == status and reply.json()["error"]


def test_openapi_has_an_example_that_is_answered(planned: Served, tmp_path: Any):
    async def ask() -> None:
        async with asking(planned, log=tmp_path / "log") as it:
            document = (await it.client.get("/openapi.json")).json()
            content = document["paths"]["/predict/trips"]["post"]["requestBody"]["content"]["application/json"]
            reply = await it.predict(content["examples"]["rows"]["value"])
            assert reply.status_code == 200, reply.text
            content = document["paths"]["/v2/models/trips/infer"]["post"]["requestBody"]["content"]["application/json"]
            reply = await it.client.post("/v2/models/trips/infer", json=content["examples"]["rows"]["value"])
            assert reply.status_code == 200, reply.text

    asyncio.run(ask())


def test_the_protocol_answers_json_and_binary_alike(planned: Served, tmp_path: Any):
    table = rows(3, 8)
    expected = planned.model(planned.train(1)).predict(table)
    kinds = {"speed": "FP64", "distance": "INT64", "driver": "BYTES", "electric": "BOOL", "weight": "INT64"}

    async def ask() -> None:
        async with asking(planned, log=tmp_path / "log") as it:
            inputs = [{"name": n, "datatype": k, "shape": [3], "data": table[n].to_pylist()} for n, k in kinds.items()]
            reply = (await it.client.post("/v2/models/trips/infer", json={"id": "a", "inputs": inputs})).json()
            assert reply["outputs"][0]["data"] == expected.tolist()
            assert (reply["model_name"], reply["model_version"], reply["id"]) == ("trips", "1", "a")

            speeds = np.array([np.nan if v is None else v for v in table["speed"].to_pylist()])
            inputs[0] = {"name": "speed", "datatype": "FP64", "shape": [3, 1],
                         "parameters": {"binary_data_size": 24}}  # fmt: skip
            head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
            reply = await it.client.post(
                "/v2/models/trips/infer", content=head + speeds.tobytes(),
                headers={"inference-header-content-length": str(len(head))},
            )  # fmt: skip
            at = int(reply.headers["inference-header-content-length"])
            assert np.frombuffer(reply.content[at:]).tolist() == expected.tolist()

            keys = [{"name": "vehicle", "datatype": "BYTES", "shape": [2], "data": ["v1", "v2"]}]
            online = (await it.client.post("/v2/models/trips/infer", json={"inputs": keys})).json()
            byrows = (await it.vehicles(1, 2)).json()["predictions"]
            assert online["outputs"][0]["data"] == [row["prediction"] for row in byrows]

            told = (await it.client.get("/v2/models/trips")).json()
            assert {i["name"]: i["datatype"] for i in told["inputs"]} == kinds and told["versions"] == ["1"]

    asyncio.run(ask())


def test_an_online_store_that_is_away_is_said_to_the_caller(served: Served):
    served.plan()

    async def ask() -> None:
        async with asking(served) as it:
            assert (await it.vehicles(1)).status_code == 200
            Path(served.online).rename(served.root / "away.db")
            reply = await it.vehicles(1)
            assert reply.status_code == 503 and "online store" in reply.json()["error"]
            (served.root / "away.db").rename(served.online)
            assert (await it.vehicles(1)).status_code == 200

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("host", "rebound.example", 403), ("host", "localhost.example:80", 403), ("host", "[", 403),
        ("origin", "https://page.example", 403), ("origin", "null", 403),
        ("host", "localhost:8800", 200), ("host", "[::1]:8800", 200), ("origin", "http://127.0.0.1:3000", 200),
    ],
)  # fmt: skip
def test_a_page_from_elsewhere_cannot_use_what_this_machine_may(
    planned: Served, tmp_path: Any, header: str, value: str, status: int
):
    async def ask() -> None:
        async with asking(planned, log=tmp_path / "log") as it:
            assert (await it.vehicles(1, **{header: value})).status_code == status

    asyncio.run(ask())


def test_a_pipeline_whose_log_is_buffered_has_a_log_of_its_own(served: Served):
    served.plan(serving={"log": {"durability": "buffered"}})

    async def ask() -> None:
        async with asking(served) as it:
            assert (await it.vehicles(1)).status_code == 200
            assert logged(served) == [] and len(logged(served, "0-buffered")) == 1

    asyncio.run(ask())
