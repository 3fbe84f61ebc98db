"""Whatever a request says: each answer is one that the documents name, none is a 500, and the log has no traceback."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving.conftest import asking
from support.served import Served
from support.serving import serving

LONG = os.environ.get("MILLRACE_TEST_FUZZ") == "1"
DOCUMENTED = {200, 400, 401, 403, 404, 405, 408, 413, 415, 429, 503, 504}
TOKEN = "0123456789abcdefghijklmnopqrstuvwxyz"
CONFIG = """
[checks]
# HTTP has clients and proxies send headers of their own: one that nobody knows is no mistake.
negative_data_rejection.enabled = false
# Methods that a path does not have are tried in test_serving_app.py.
unsupported_method.enabled = false

[[operations]]
include-path-regex = "/infer$"
# No schema says which inputs a model has, and how many values of a tensor its shape asks for.
checks.positive_data_acceptance.enabled = false
"""
pytestmark = pytest.mark.fuzz


def test_what_openapi_allows_and_forbids_is_answered_as_it_says(planned: Served, tmp_path: Path):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    tokens = {"fuzz": {"sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "pipelines": ["*"], "tester": True}}
    (tmp_path / "tokens.json").write_text(json.dumps(tokens))
    with serving(planned, "--tokens", str(tmp_path / "tokens.json")) as (address, _):
        done = subprocess.run(
            [Path(sys.executable).parent / "schemathesis", "--config-file", "schemathesis.toml", "run",
             f"{address}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}",
             "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--generation-database", "none",
             "--warnings", "off", "--no-color", "--max-time", "600" if LONG else "12",
             *(() if LONG else ("--seed", "1"))],
            cwd=tmp_path, capture_output=True, text=True, timeout=1200,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Traceback" not in (planned.root / "here.log").read_text()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**300, 10**310) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["v1", "speed", "x" * 5000, "../../etc/passwd", "file:///etc/passwd", "__import__('os')"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["entities", "rows", "id", "inputs", "outputs", "parameters", "name", "shape", "data",
                         "datatype", "vehicle", "speed"]) | st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["vehicle", "speed", "distance", "driver", "electric", "weight", "", "\ud800"]),
        "datatype": st.sampled_from(["BOOL", "BYTES", "INT64", "UINT64", "FP16", "FP64", "FP99", 3, ["FP64"]]),
        "shape": st.lists(st.integers(-1, 3) | st.just(2**70), max_size=3) | JSON,
    },
    optional={
        "data": st.lists(JSON, max_size=3) | JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 40) | JSON}) | JSON,
    },
)
BODY = st.one_of(
    JSON,
    st.fixed_dictionaries({"inputs": st.lists(TENSOR, max_size=6)}, optional={"id": JSON, "outputs": JSON}),
    st.fixed_dictionaries({"entities": st.lists(st.fixed_dictionaries({"vehicle": JSON}), max_size=3) | JSON}),
    st.fixed_dictionaries({"rows": st.lists(JSON, max_size=3) | JSON}, optional={"id": JSON}),
    st.fixed_dictionaries({"context": st.fixed_dictionaries({"targetingKey": JSON}) | JSON}),
)
RAW = st.one_of(
    st.binary(max_size=200),
    st.integers(1, 3000).map(lambda deep: b"[" * deep),
    st.integers(1, 3000).map(lambda deep: b'{"a":' * deep + b"1" + b"}" * deep),
    st.sampled_from([b'{"id":"\\ud800","rows":[]}', b'{"rows":[{"speed":1e999}]}', b'{"rows":[],"rows":[]}',
                     b'{"rows":[{"speed":' + b"9" * 5000 + b"}]}", b"\xff\xfe{}", b"null", b"", b"NaN"]),
)  # fmt: skip
VALUE = st.binary(max_size=30) | st.sampled_from(
    [
        b"0",
        b"1",
        b"-1",
        b"9" * 400,
        b"1e3",
        b"\xb2",
        b"\xff\xfe",
        b"gzip",
        b"br",
        b"Bearer \xff",
        b"a" * 9000,
        b"\r\nx: y",
    ]
)
HEADER = st.tuples(
    st.sampled_from([b"x-unit", b"x-request-id", b"x-version", b"authorization", b"inference-header-content-length",
                     b"content-length", b"content-encoding", b"content-type", b"\xff"]), VALUE,
)  # fmt: skip
PATH = st.sampled_from(
    ["/predict/trips", "/v2/models/trips/infer", "/v2/models/trips/versions/1/infer", "/v2/models/trips", "/v2",
     "/openapi.json", "/v2/models/trips/versions/\u0661", "/predict/../../etc/passwd", "/predict/\ud800", "/predict/\0",
     "/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/trips/version", "/ofrep/v1/evaluate/flags/\ud800/role",
     "//", "", "/v2/" + "a/" * 5000, "/predict/" + "p" * 100_000, "/predict/%2e%2e%2f", "/v2/models/trips/ready/x"]
) | st.text(max_size=30).map("/v2/models/".__add__)  # fmt: skip
METHOD = st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "DELETE", "TRACE", "\xff"])


async def _asked(app: Any, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": b"", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return sent[0]["status"], sent


def test_no_request_makes_the_server_fail(planned: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.ERROR)
    with asyncio.Runner() as runner:
        entering = asking(planned, log=tmp_path / "log")
        it = runner.run(entering.__aenter__())

        @settings(max_examples=20_000 if LONG else 300, suppress_health_check=list(HealthCheck))
        @given(METHOD, PATH, st.lists(HEADER, max_size=4), BODY | RAW, st.binary(max_size=40), st.booleans())
        def search(method: str, path: str, headers: Any, body: Any, binary: bytes, told: bool) -> None:
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            if told:
                headers = [*headers, (b"inference-header-content-length", b"%d" % len(text))]
            status, sent = runner.run(_asked(it.server.app, method, path, headers, text + binary))
            assert status in DOCUMENTED, (status, sent)
            if status != 200:
                assert method == "HEAD" or json.loads(sent[1]["body"])["error"]
            assert b"root:" not in sent[1]["body"] and b"Traceback" not in sent[1]["body"]

        try:
            search()
        finally:
            runner.run(entering.__aexit__(None, None, None))
    assert not [record for record in caplog.records if record.exc_info or "failed" in record.message]


LIES = [
    ("BYTES", struct.pack("<I", 2**32 - 1) + b"v1"), ("BYTES", struct.pack("<I", 2) + b"\xff\xfe"), ("BYTES", b"\x01"),
    ("FP64", b"\0" * 7), ("FP64", b"\0" * 16), ("INT64", b"\xff" * 8), ("FP16", b"\0\x7c"),
]  # fmt: skip


@pytest.mark.parametrize(("datatype", "data"), LIES)
@pytest.mark.parametrize("size", [0, 1, 8, 2**63, -1, True, "8", None])
def test_a_binary_tensor_that_lies_is_refused(
    planned: Served, tmp_path: Path, datatype: str, data: bytes, size: Any
) -> None:
    tensor = {"name": "vehicle", "datatype": datatype, "shape": [1], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()

    async def ask() -> int:
        async with asking(planned, log=tmp_path / "log") as it:
            headers = [(b"inference-header-content-length", b"%d" % len(head))]
            status, _ = await _asked(it.server.app, "POST", "/v2/models/trips/infer", headers, head + data)
            return status

    assert asyncio.run(ask()) == 400


HEAD = b" HTTP/1.1\r\nhost: localhost\r\n"
POST = b"POST /predict/trips" + HEAD
RAW_REQUESTS = [
    b"GET /\xff\xfe" + HEAD + b"\r\n", b"GET /predict/%ff%fe%00" + HEAD + b"\r\n",
    POST + b"x-unit: \xff\xfe\x80\r\ncontent-length: 2\r\n\r\n{}",
    POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    POST + b"content-length: -1\r\n\r\n{}",
    POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /" + b"a" * 200_000 + HEAD + b"\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n",
    POST + b"x-unit: a\r\nx-unit: b\r\ncontent-length: 2\r\n\r\n{}",
]  # fmt: skip


def test_what_is_no_http_is_refused_and_others_are_answered(planned: Served):
    with serving(planned) as (address, _):
        host, _, port = address.removeprefix("http://").rpartition(":")
        for request in RAW_REQUESTS:
            with socket.create_connection((host, int(port)), 10) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                said = client.recv(4096)
            assert said == b"" or said.split()[1] in (b"400", b"404", b"405", b"413", b"414", b"431"), (
                request[:80],
                said,
            )
        with socket.create_connection((host, int(port)), 10) as client:
            client.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
    assert "Traceback" not in (planned.root / "here.log").read_text()
