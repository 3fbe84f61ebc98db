"""gRPC answers as HTTP does: asked by tritonclient of the real server, and by messages that no client would send."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.conftest import asking
from serving.test_serving_foreign import columns, expected
from support import foreign
from support.served import Served
from support.serving import serving

from millrace import __version__
from millrace.core.errors import Unavailable
from millrace.serving.grpc_messages import MESSAGES
from millrace.serving.grpc_server import GrpcServer
from millrace.serving.workers import reserve

TOKEN = "0123456789abcdefghijklmnopqrstuvwxyz"
TRITON = """
import json, sys
import numpy as np
import tritonclient.grpc as client
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

given = json.loads(sys.argv[1])
kinds = {"FP64": np.float64, "INT64": np.int64, "BYTES": np.object_, "BOOL": np.bool_}
asked = client.InferenceServerClient(given["address"])
known = {"headers": {"authorization": "Bearer " + given["token"]}}
tensors = []
for name, kind, values in given["columns"]:
    tensors.append(client.InferInput(name, [len(values)], kind))
    tensors[-1].set_data_from_numpy(np.array(values, kinds[kind]))

def refused(call):
    try:
        call()
    except InferenceServerException as err:
        return [err.status(), err.message()]

def fields(message):
    of = getattr(service_pb2, message.split(".")[0]).DESCRIPTOR
    for inner in message.split(".")[1:]:
        of = of.nested_types_by_name[inner]
    return {each.name: [each.number, each.type] for each in of.fields}

reply = asked.infer("trips", tensors, request_id="g1", **known)
print(json.dumps({
    "health": [asked.is_server_live(), asked.is_server_ready(), asked.is_model_ready("trips", "1", **known)],
    "server": asked.get_server_metadata(as_json=True),
    "model": asked.get_model_metadata("trips", as_json=True, **known),
    "predictions": reply.as_numpy("prediction").tolist(), "id": reply.get_response().id,
    "version": reply.get_response().model_version,
    "no token": refused(lambda: asked.infer("trips", tensors)),
    "no model": refused(lambda: asked.infer("none", tensors, **known)),
    "not allowed": refused(lambda: asked.infer("none", tensors, headers={"authorization": "Bearer " + "x" * 40})),
    "gzip": refused(lambda: asked.infer("trips", tensors, compression_algorithm="gzip", **known)),
    "fields": {name: fields(name) for name in given["messages"]},
}))
"""


def test_tritonclient_is_answered_by_every_worker(planned: Served, tmp_path: Path):
    tokens = {"me": {"sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "pipelines": ["*"]}}
    (tmp_path / "tokens.json").write_text(json.dumps(tokens))
    port = _free()
    arguments = ("--grpc-port", str(port), "--workers", "2", "--tokens", str(tmp_path / "tokens.json"))
    with serving(planned, *arguments):
        found = foreign.answers(TRITON, {"address": f"127.0.0.1:{port}", "columns": columns(), "token": TOKEN,
                                         "messages": list(MESSAGES)})  # fmt: skip

    assert found["health"] == [True, True, True]
    assert (found["server"]["name"], found["server"]["version"]) == ("millrace", __version__)
    assert [each["name"] for each in found["model"]["inputs"]] == [name for name, _, _ in columns()]
    assert (found["predictions"], found["id"], found["version"]) == (expected(planned), "g1", "1")
    assert found["no token"] == ["StatusCode.UNAUTHENTICATED", found["no token"][1]]
    assert found["not allowed"][0] == "StatusCode.UNAUTHENTICATED"
    assert found["no model"][0] == "StatusCode.NOT_FOUND" and "no such pipeline" in found["no model"][1]
    assert found["gzip"][0] == "StatusCode.UNIMPLEMENTED"
    for name, theirs in found["fields"].items():
        ours = {each.name: [each.number, each.type] for each in MESSAGES[name].DESCRIPTOR.fields}
        ours.pop("properties", None)  # KServe's
        assert ours == theirs, name
    assert "Traceback" not in (planned.root / "here.log").read_text()


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(planned: Served, folder: Path, call: Any) -> Any:
    """What `call(method)` gives, a coroutine; `method(name, bytes, metadata)` asks a server in this process."""

    async def run() -> Any:
        async with asking(planned, log=folder) as it:
            port = _free()
            server = GrpcServer(it.server.app.inference, "127.0.0.1", port)
            await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

                async def method(name: str, data: bytes, metadata: Any = ()) -> tuple[Any, Any]:
                    try:
                        made = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
                        reply = await made(data, metadata=metadata, timeout=20)
                        return grpc.StatusCode.OK, MESSAGES[f"{name}Response"].FromString(reply)
                    except grpc.aio.AioRpcError as err:
                        return err.code(), err

                try:
                    return await call(method)
                finally:
                    await server.stop()

    return asyncio.run(run())


def vehicle(**others: Any) -> Any:
    request = MESSAGES["ModelInferRequest"](model_name="trips", **others)
    request.inputs.add(name="vehicle", datatype="BYTES", shape=[2])
    return request


def test_contents_are_answered_in_contents_and_raw_in_raw(planned: Served, tmp_path: Path):
    listed, raw = vehicle(id="g2"), vehicle(raw_input_contents=[b"\2\0\0\0v1\2\0\0\0v2"])
    listed.inputs[0].contents.bytes_contents.extend([b"v1", b"v2"])

    async def ask(method: Any) -> Any:
        return [(await method("ModelInfer", each.SerializeToString()))[1] for each in (listed, raw)]

    in_contents, in_raw = asked(planned, tmp_path, ask)
    values = MESSAGES["InferTensorContents"](fp64_contents=memoryview(in_raw.raw_output_contents[0]).cast("d"))
    assert in_contents.outputs[0].contents == values and not in_contents.raw_output_contents
    assert in_contents.id == "g2" and in_contents.parameters["role"].string_param == "champion"


def test_what_is_wrong_has_the_status_that_it_has_over_http(planned: Served, tmp_path: Path):
    wrong = vehicle()
    wrong.inputs[0].contents.int64_contents.extend([1, 2])
    both = vehicle(raw_input_contents=[b"\2\0\0\0v1"])
    both.inputs[0].contents.bytes_contents.append(b"v1")
    late = vehicle(raw_input_contents=[b"\2\0\0\0v1\2\0\0\0v2"])
    large = vehicle(raw_input_contents=[bytes(2 << 20)])
    code = grpc.StatusCode
    cases = [
        (wrong, (), code.INVALID_ARGUMENT, "contents are not of the tensor's datatype"),
        (both, (), code.INVALID_ARGUMENT, "raw or has contents"),
        (vehicle(raw_input_contents=[b"", b""]), (), code.INVALID_ARGUMENT, "as many as inputs"),
        (large, (), code.RESOURCE_EXHAUSTED, "too large"),
        (late, (("x-unit", "a"), ("x-unit", "b")), code.INVALID_ARGUMENT, "a header stands twice"),
        (late, (("x-version", "7"),), code.NOT_FOUND, "no such version"),
        (vehicle(model_version="x"), (), code.NOT_FOUND, "a version is a number"),
    ]

    async def ask(method: Any) -> Any:
        return [await method("ModelInfer", case[0].SerializeToString(), case[1]) for case in cases]

    for (_, _, status, words), (found, err) in zip(cases, asked(planned, tmp_path, ask), strict=True):
        assert found == status and words in err.details(), (words, found, err)


@pytest.mark.fuzz
def test_no_bytes_make_it_fail(planned: Served, tmp_path: Path):
    whole = vehicle(raw_input_contents=[b"\2\0\0\0v1\2\0\0\0v2"]).SerializeToString()
    names = ["ModelInfer", "ModelReady", "ModelMetadata", "ServerLive"]
    found: list[bytes] = []

    @settings(max_examples=200, database=None)
    @given(st.binary(max_size=60), st.integers(0, len(whole)), st.integers(0, 8))
    def draw(some: bytes, at: int, less: int) -> None:
        found.append(whole[:at] + some + whole[at + less :])

    draw()

    async def ask(method: Any) -> Any:
        return [(data, await method(names[n % 4] if n % 2 else names[0], data)) for n, data in enumerate(found)]

    for data, (status, err) in asked(planned, tmp_path, ask):
        assert status not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), (data, err)


def test_a_port_that_somebody_has_is_refused_and_a_kept_one_is_shared():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(Unavailable, match="cannot listen"):
        reserve("127.0.0.1", other.getsockname()[1])
    with reserve("127.0.0.1", 0) as kept, socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(kept.getsockname())
        worker.listen()


def test_a_server_that_was_asked_for_no_port_imports_no_grpc():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, millrace.serving.serve; print('grpc' in sys.modules)"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "False", done.stderr
