"""What an image says of itself, asked of a real registry over HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from millrace.airflow.pods.image import CODE_LABEL, CONTRACT_LABEL, built_otherwise, labels_of
from millrace.contract import CONTRACT_VERSION

REGISTRY = "github.com/google/go-containerregistry/cmd/registry@v0.20.6"
OURS = "sha256:" + "1" * 64


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a registry."""
    if not shutil.which("go"):
        pytest.skip("a registry is built with Go, which is not here")
    folder = tmp_path_factory.mktemp("registry")
    env = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}
    built = subprocess.run(
        ["go", "install", REGISTRY], env=env, cwd=folder, capture_output=True, text=True, timeout=300
    )
    if built.returncode:
        pytest.skip(f"a registry could not be built: {built.stderr.strip().splitlines()[-1]}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([folder / "registry", "--port", str(port)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    try:
        limit = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/v2/")
                break
            except httpx.HTTPError:
                assert time.monotonic() < limit
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def push(registry: str, name: str, labels: dict[str, str] | None, *, index: bool = False) -> str:
    """Push an image without layers; returns its digest."""

    def blob(value: Any) -> tuple[bytes, str]:
        data = json.dumps(value).encode()
        return data, "sha256:" + hashlib.sha256(data).hexdigest()

    base = f"http://{registry}/v2/{name}"
    config, digest = blob({"architecture": "amd64", "os": "linux", "config": {"Labels": labels} if labels else {}})
    place = httpx.post(f"{base}/blobs/uploads/").headers["location"]
    httpx.put(f"http://{registry}{place}", params={"digest": digest}, content=config).raise_for_status()
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest, made = blob({
        "schemaVersion": 2, "mediaType": kind, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)},
    })  # fmt: skip
    target = made if index else "1"
    httpx.put(f"{base}/manifests/{target}", content=manifest, headers={"Content-Type": kind}).raise_for_status()
    if index:
        outer = "application/vnd.oci.image.index.v1+json"
        listed, _ = blob({"schemaVersion": 2, "mediaType": outer,
                          "manifests": [{"mediaType": kind, "digest": made, "size": len(manifest)}]})  # fmt: skip
        httpx.put(f"{base}/manifests/1", content=listed, headers={"Content-Type": outer}).raise_for_status()
    return made


@pytest.mark.parametrize("index", [False, True])
def test_labels_are_read_by_tag_and_by_digest(registry: str, index: bool) -> None:
    labels = {CODE_LABEL: OURS, CONTRACT_LABEL: CONTRACT_VERSION}
    digest = push(registry, "team/jobs", labels, index=index)
    assert labels_of(f"{registry}/team/jobs:1") == labels
    assert labels_of(f"{registry}/team/jobs@{digest}") == labels
    assert labels_of(f"{registry}/team/jobs:1@{digest}") == labels
    assert built_otherwise(f"{registry}/team/jobs:1", OURS) is None


@pytest.mark.parametrize(("labels", "said"), [
    ({CODE_LABEL: "sha256:" + "2" * 64}, "another code (sha256:2222"),
    ({CODE_LABEL: OURS, CONTRACT_LABEL: "0"}, "another contract (0,"),
    ({CODE_LABEL: "unknown"}, None),
    (None, None),
])  # fmt: skip
def test_an_image_of_other_code_is_refused(registry: str, labels: dict[str, str] | None, said: str | None) -> None:
    push(registry, "other", labels)
    why = built_otherwise(f"{registry}/other:1", OURS)
    assert (why is None) if said is None else said in str(why)


@pytest.mark.parametrize("image", [
    "millrace-jobs:0.1.0", "team/jobs", "127.0.0.1:9/jobs:1", "{registry}/not-there:1", "{registry}/x:1@sha256:0",
    "no.such.host.invalid/jobs", "[::/jobs", "{registry}/",
])  # fmt: skip
def test_where_nobody_tells_nothing_is_held_against_the_image(registry: str, image: str) -> None:
    assert labels_of(image.format(registry=registry)) is None
