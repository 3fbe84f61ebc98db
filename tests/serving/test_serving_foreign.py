"""The real server as clients see it that others wrote: tritonclient, KServe's, and curl."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from support import foreign
from support.served import Served, rows
from support.serving import serving

from millrace import __version__

KINDS = {"speed": "FP64", "distance": "INT64", "driver": "BYTES", "electric": "BOOL", "weight": "INT64"}
TRITON = """
import json, sys
import numpy as np
import tritonclient.http as client
from tritonclient.utils import InferenceServerException

given = json.loads(sys.argv[1])
kinds = {"FP64": np.float64, "INT64": np.int64, "BYTES": np.object_, "BOOL": np.bool_}
asked = client.InferenceServerClient(given["address"].removeprefix("http://"))

def tensors(columns, binary):
    made = []
    for name, kind, values in columns:
        tensor = client.InferInput(name, [len(values)], kind)
        tensor.set_data_from_numpy(np.array(values, kinds[kind]), binary_data=binary)
        made.append(tensor)
    return made

def infer(columns, binary, outputs=None, **others):
    reply = asked.infer("trips", tensors(columns, binary), outputs=outputs, **others)
    return reply.as_numpy("prediction").tolist(), reply.get_response()

def refused(call):
    try:
        call()
    except InferenceServerException as err:
        return [err.status(), err.message()]

columns = given["columns"]
print(json.dumps({
    "health": [asked.is_server_live(), asked.is_server_ready(), asked.is_model_ready("trips"),
               asked.is_model_ready("trips", "1"), asked.is_model_ready("trips", "9"), asked.is_model_ready("none")],
    "server": asked.get_server_metadata(), "model": asked.get_model_metadata("trips"),
    "binary": infer(columns, True, request_id="b1"),
    "json": infer(columns, False, [client.InferRequestedOutput("prediction", binary_data=False)]),
    "mixed": infer(columns, True, [client.InferRequestedOutput("prediction", binary_data=False)])[0],
    "gzip": infer(columns, True, request_compression_algorithm="gzip")[0],
    "version": infer(columns, True, model_version="1")[0],
    "entities": infer([["vehicle", "BYTES", ["v1", "v2"]]], True)[0],
    "no model": refused(lambda: asked.infer("none", tensors(columns, True))),
    "no version": refused(lambda: asked.infer("trips", tensors(columns, True), model_version="9")),
    "no output": refused(lambda: infer(columns, True, [client.InferRequestedOutput("none")])),
    "deflate": refused(lambda: infer(columns, True, request_compression_algorithm="deflate")),
}))
"""
KSERVE = """
import asyncio, json, sys
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

given = json.loads(sys.argv[1])

async def main():
    asked = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=30))
    address = given["address"]
    inputs = [InferInput(name, [len(values)], kind, values) for name, kind, values in given["columns"]]
    reply = await asked.infer(address, InferRequest("trips", inputs, request_id="k1"), model_name="trips")
    try:
        await asked.infer(address, InferRequest("none", inputs), model_name="none")
        refused = None
    except Exception as err:
        refused = str(err)
    print(json.dumps({
        "health": [await asked.is_server_live(address), await asked.is_server_ready(address),
                   await asked.is_model_ready(address, "trips"), await asked.is_model_ready(address, "none")],
        "id": reply.id, "refused": refused,
        "predictions": [float(x) for x in reply.outputs[0].data],
    }))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def address(planned: Served) -> Iterator[str]:
    with serving(planned) as (address, _):
        yield address


def columns() -> list[tuple[str, str, list[Any]]]:
    """Rows without a gap: not every client has one in each type."""
    table = rows(60, 8).drop_null()
    assert table.num_rows > 20
    return [(name, kind, table[name].to_pylist()) for name, kind in KINDS.items()]


def expected(planned: Served) -> list[float]:
    return list(planned.model(planned.train(1)).predict(rows(60, 8).drop_null()).tolist())


def test_tritonclient_is_answered_in_json_and_in_bytes(planned: Served, address: str):
    found = foreign.answers(TRITON, {"address": address, "columns": columns()})

    assert found["health"] == [True, True, True, True, False, False]
    assert found["server"] == {"name": "millrace", "version": __version__, "extensions": ["binary_tensor_data"]}
    assert {each["name"]: each["datatype"] for each in found["model"]["inputs"]} == KINDS
    (binary, told), (listed, _) = found["binary"], found["json"]
    assert (told["id"], told["model_name"], told["model_version"]) == ("b1", "trips", "1")
    assert binary == listed == found["mixed"] == found["gzip"] == found["version"] == expected(planned)
    assert len(found["entities"]) == 2
    assert found["no model"][0] == "404" and "no such pipeline is served" in found["no model"][1]
    assert found["no version"][0] == "404" and "no such version" in found["no version"][1]
    assert found["no output"][0] == "400" and "no such output" in found["no output"][1]
    assert found["deflate"][0] == "415" and "gzip" in found["deflate"][1]


def test_kserves_client_is_answered(planned: Served, address: str):
    found = foreign.answers(KSERVE, {"address": address, "columns": columns()})

    assert found["health"] == [True, True, True, False]
    assert (found["id"], found["predictions"]) == ("k1", expected(planned))
    assert "404" in found["refused"]


def test_curl_is_answered(address: str, planned: Served):
    if shutil.which("curl") is None:
        pytest.skip("no curl here")

    def curl(path: str, *arguments: str, data: Any = None) -> tuple[int, Any]:
        body = [] if data is None else ["--json", json.dumps(data)]
        done = subprocess.run(
            ["curl", "-sS", "-w", "\n%{http_code}", *arguments, *body, f"{address}{path}"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        text, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(text) if text.startswith("{") else text

    by_key = curl("/predict/trips", "-H", "x-unit: me", data={"entities": [{"vehicle": "v1"}], "id": "c1"})
    tensor = {"name": "vehicle", "datatype": "BYTES", "shape": [1], "data": ["v1"]}
    by_tensor = curl("/v2/models/trips/infer", data={"inputs": [tensor]})
    assert by_key[0] == by_tensor[0] == 200 and by_key[1]["id"] == "c1"
    assert by_key[1]["predictions"][0]["prediction"] == by_tensor[1]["outputs"][0]["data"][0]
    assert curl("/v2/health/ready") == (200, {"ready": True}) and curl("/v2/health/ready", "--head")[0] == 200
    # one that waits for '100 continue' before it sends more than it has
    assert curl("/predict/trips", "-H", "expect: 100-continue", data={"rows": [{}] * 300})[0] == 413
    assert curl("/predict/..%2f..%2fetc%2fpasswd", "--path-as-is", data={})[0] == 404
