"""On-demand features in a server: the values of a training set and of Feast, to the last bit."""

from __future__ import annotations

import asyncio
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from serving.conftest import asking
from serving.test_serving_app import logged
from support.computing import FEATURES, FIELDS, NAMES, Computed
from support.feast_project import FeastProject

from millrace.contract import Means
from millrace.core.canonical import canonical_json
from millrace.core.errors import ContractError, Corrupt
from millrace.models.deployment import load_deployment
from millrace.models.files import load, read_card
from millrace.online.on_demand import computed
from millrace.serving.following import Follower
from millrace.serving.log import Log
from millrace.serving.shadow import ShadowHandler
from millrace.serving.versions import Versions
from millrace.store.plans import Arm


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Computed, Any, Arm]:
    it = Computed.make(tmp_path_factory.mktemp("computing") / "p")
    data = it.training_set()
    return it, data, it.deploy(it.model(data), 1)


@pytest.fixture
def it(whole: Any, tmp_path: Path) -> Computed:
    made = whole[0]
    shutil.copytree(made.root, tmp_path / "p")
    project = FeastProject(tmp_path / "p", made.project.spec, features=made.project.features)
    return replace(made, project=project)


@pytest.fixture
def arm(whole: Any) -> Arm:
    return whole[2]


def bits(value: Any) -> Any:
    return struct.pack("d", value) if isinstance(value, float) else value


def entity(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("vehicle", *FIELDS)}


def ask(it: Computed, *bodies: Any, path: str = "/predict/trips", headers: Any = None, **options: Any) -> list[Any]:
    async def all_of_them() -> list[Any]:
        async with asking(it, code=True, only=("trips",), **options) as at:
            return [await at.client.post(path, json=body, headers=headers) for body in bodies]

    return asyncio.run(all_of_them())


def test_a_request_gets_the_values_of_training_and_of_feast_to_the_last_bit(it: Computed, arm: Arm) -> None:
    it.plan((arm,))
    rows = it.tables[it.today].to_pylist()[:40]
    entities = [entity(row) for row in rows]
    (together, *alone) = ask(it, {"entities": entities}, *({"entities": [each]} for each in entities[:9]))

    answer = together.json()["predictions"]
    card = read_card(it.project.objects, arm_model(it, arm).uri, arm.model)
    record, *records = logged(it)
    assert record.columns == [*NAMES, *FIELDS] and [f.name for f in card.encoder.features] == NAMES
    served = [dict(zip(record.columns, values, strict=True)) for values in record.rows or []]
    assert [[dict(zip(NAMES, each.rows[0], strict=False)) for each in records]] == [  # type: ignore[index]
        [{name: row[name] for name in NAMES} for row in served[:9]]]  # fmt: skip
    assert [each.json()["predictions"][0]["prediction"] for each in alone] == [r["prediction"] for r in answer[:9]]
    assert record.entities == [{"vehicle": row["vehicle"]} for row in rows]

    trained = {row["vehicle"]: row for row in it.read(it.training_set([it.today])).to_pylist()}
    store = it.project.open()
    service = store.get_feature_service("trips_v1")  # of several rows Feast computes singleton=True for the first alone
    feasts = [store.get_online_features(service, [each]).to_dict() for each in entities]
    batch = it.outcome("score", [("features", it.features[it.today]), ("model", arm_model(it, arm))], [it.today],
                       {"version": 1})  # fmt: skip
    scored = {r["vehicle"]: r["prediction"] for r in it.read(batch.outputs["data"]).to_pylist()}
    for n, row in enumerate(rows):
        mine = {name: bits(served[n][name]) for name in NAMES}
        assert mine == {name: bits(trained[row["vehicle"]][name]) for name in NAMES}
        assert mine == {name: bits(feasts[n][name][0]) for name in NAMES}
        assert bits(answer[n]["prediction"]) == bits(scored[row["vehicle"]])
    assert {row["pace"] for row in served} > {None} and len({row["pace"] for row in served}) > 20


def arm_model(it: Computed, arm: Arm) -> Any:
    return load_deployment(it.project.objects, arm.deployment).model


def test_a_server_that_executes_no_code_refuses_the_version_whatever_its_deployment_says(
    it: Computed, arm: Arm
) -> None:
    objects, deployment = it.project.objects, load_deployment(it.project.objects, arm.deployment)
    assert deployment.code and deployment.on_demand
    with pytest.raises(ContractError, match="executes no code of .*functions of its on-demand.*where-it-answers"):
        Versions(objects).get(arm)
    for change, refused in (({"code": False}, ContractError), ({"code": False, "on_demand": ()}, ContractError)):
        with pytest.raises(refused):
            Versions(objects).get(changed(it, arm, **change))
    with pytest.raises(Corrupt, match="other on-demand features than its model"):
        Versions(objects, code=True).get(changed(it, arm, on_demand=()))
    with pytest.raises(ContractError, match="on-demand features may not be executed"):
        load(objects, deployment.model.uri, deployment.model.digest)
    assert load(objects, deployment.model.uri, deployment.model.digest, Means(profile="pods")).card.on_demand


def changed(it: Computed, arm: Arm, **fields: Any) -> Arm:
    made = load_deployment(it.project.objects, arm.deployment).model_copy(update=fields)
    key = f"deployments/trips/changed/{made.digest[7:]}.json"
    it.project.objects.put(key, made.to_bytes())
    return arm.model_copy(update={"deployment": arm.deployment.model_copy(update={"uri": key, "digest": made.digest})})


def test_a_field_that_is_missing_wrong_or_unknown_is_the_callers(it: Computed, arm: Arm) -> None:
    it.plan((arm,))
    right = {"vehicle": "v1", "tip": None, "seats": 2, "promo": "free"}
    wrong = [{**right, "seats": 2.5}, {**right, "tip": "1"}, {**right, "tops": 1},
             {name: value for name, value in right.items() if name != "tip"}]  # fmt: skip
    good, seats, tip, tops, lacks = ask(it, {"entities": [right]}, *({"entities": [right, each]} for each in wrong))

    assert good.status_code == 200
    assert [each.status_code for each in (seats, tip, tops, lacks)] == [400] * 4
    assert seats.json()["where"] == "entities.1.seats" and seats.json()["given"] == "2.5"
    assert "32 bits, or null" in seats.json()["allowed"] and tip.json()["where"] == "entities.1.tip"
    assert tops.json()["allowed"] == ["vehicle", *FIELDS]
    told = lacks.json()
    assert "takes 'tip' from the request" in told["error"] and told["where"] == "entities.1"
    assert (told["given"], told["allowed"]) == ("promo, seats, vehicle", FIELDS)


def test_rows_are_given_whole_and_tensors_name_keys_and_fields(it: Computed, arm: Arm) -> None:
    it.plan((arm,))
    given = {"vehicle": "v1", "tip": 2.0, "seats": 2, "promo": "free"}
    kinds = {"vehicle": "BYTES", "tip": "FP64", "seats": "INT32", "promo": "BYTES"}
    tensors = [{"name": n, "datatype": kinds[n], "shape": [1], "data": [value]} for n, value in given.items()]
    (entities,) = ask(it, {"entities": [given]})
    (record,) = logged(it)
    row = dict(zip(record.columns or [], (record.rows or [[]])[0], strict=True))
    (infer,) = ask(it, {"inputs": tensors}, path="/v2/models/trips/infer")
    (rows,) = ask(it, {"rows": [{name: row[name] for name in NAMES}]})

    expected = entities.json()["predictions"][0]["prediction"]
    assert infer.json()["outputs"][0]["data"] == [expected]
    assert rows.json()["predictions"][0]["prediction"] == expected


def test_what_a_function_does_is_its_versions_fault_and_the_chain_answers(it: Computed, arm: Arm) -> None:
    it.plan((arm,), serving={"fallback": {"constant": 0.25}})
    asked = [{"vehicle": "v1", "tip": 1.0, "seats": 1, "promo": promo} for promo in ("raise", "nan")]
    for reply in ask(it, *({"entities": [each]} for each in asked)):
        (row,) = reply.json()["predictions"]
        assert (row["prediction"], row["role"]) == (0.25, "constant")
    it.plan((arm,), 2)
    (reply,) = ask(it, {"entities": asked[:1]})
    assert reply.status_code == 500 and "37" not in reply.text


@pytest.mark.parametrize("defaults", [{}, {"speed": 4.0, "driver": "bob", "distance": 9}])
def test_an_unknown_or_stale_entity_is_computed_from_the_defaults(it: Computed, arm: Arm, defaults: Any) -> None:
    it.plan((arm,), serving={"missing": "defaults", "defaults": defaults})
    fields = {"tip": 2.0, "seats": 3, "promo": "free"}
    (reply,) = ask(it, {"entities": [{"vehicle": name, **fields} for name in ("nobody", "old")]})
    assert [row["found"] for row in reply.json()["predictions"]] == ["unknown", "stale"]
    (record,) = logged(it)
    nothing = {"speed": None, "driver": None, "distance": None, "electric": None, **defaults, **fields}
    expected = computed(load_deployment(it.project.objects, arm.deployment).on_demand, nothing)
    for values in record.rows or []:
        found = dict(zip(record.columns or [], values, strict=True))
        assert {name: bits(found[name]) for name in expected} == {name: bits(v) for name, v in expected.items()}
        assert found["speed"] == nothing["speed"]


def test_a_shadow_computes_its_own_and_waits_for_callers_who_send_what_it_takes(it: Computed, whole: Any) -> None:
    new = whole[2].model_copy(update={"role": "challenger"})
    spec = {**it.project.spec, "features": {**it.project.spec["features"], "service": "trips_v0"}}
    spec["monitoring"] = {"columns": ["speed"], "minimum_rows": 10}
    plain = FeastProject(it.root, spec, features=FEATURES)
    old = replace(it, project=plain)
    former = old.deploy(old.model(old.training_set()), 2)
    plan = it.plan((former,), shadow=new)
    frames: list[bytes] = []

    class Shadows:
        def send(self, frame: bytes) -> bool:
            frames.append(frame)
            return True

    async def both() -> None:
        async with asking(it, code=True, only=("trips",)) as at:
            at.server.app.inference.answerer.shadows = Shadows()  # type: ignore[union-attr]
            for fields in ({}, {"tip": 1.5, "seats": 1, "promo": None}):
                reply = await at.client.post("/predict/trips", json={"entities": [{"vehicle": "v1", **fields}]})
                assert reply.status_code == 200, reply.text

    asyncio.run(both())
    assert plan.shadow is not None
    versions = Versions(it.project.objects, code=True)
    follower = Follower(it.project.objects, versions)
    follower.look()
    with Log(it.root / "shadow", durable=False) as kept:
        handler = ShadowHandler(follower, versions, kept, server="s", every_s=60)
        handler(frames)
        handler._ended.set()
    side = follower.of("trips").counter.counts().sides[1]  # type: ignore[union-attr]
    assert (side.answered, side.dropped, len(side.errors)) == (1, 1, 0)


def test_a_pipeline_without_such_features_keeps_the_bytes_of_its_documents(made: Any) -> None:
    deployment = load_deployment(made.objects, made.arm(1).deployment)
    assert b"on_demand" not in deployment.to_bytes() and deployment.on_demand == ()
    assert b"on_demand" not in canonical_json(read_card(made.objects, deployment.model.uri, deployment.model.digest))
