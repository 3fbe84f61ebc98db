"""Stores to test against: a folder, and a bucket of a real S3 server over HTTP."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

from millrace.store import open_store

KEY, SECRET = "test-access", "test-secret-key"
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory):
    """Address of a VersityGW built from its Go module, or of moto's server where there is no Go."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = _versitygw()
    if binary is None:
        from moto.server import ThreadedMotoServer

        print("S3 tests: moto's server (no Go toolchain, or VersityGW could not be built)")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        server.start()
        yield f"http://127.0.0.1:{port}"
        server.stop()
        return
    folder = tmp_path_factory.mktemp("s3")
    process = subprocess.Popen(
        [binary, "--port", f"127.0.0.1:{port}", "posix", str(folder)],
        env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _answers(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _versitygw() -> str | None:
    """Path of the server, built once into Go's own folder; None where that cannot be."""
    go = shutil.which("go")
    if go is None:
        return shutil.which("versitygw")
    folder = Path(subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=True).stdout.strip())
    built = folder / "bin" / "versitygw"
    if not built.is_file():
        done = subprocess.run([go, "install", VERSITYGW], capture_output=True, text=True)
        if done.returncode:
            print(f"VersityGW could not be built: {done.stderr[-300:]}")
            return None
    return str(built)


def _answers(url: str) -> None:
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


@pytest.fixture(params=["folder", "s3"])
def root(request, tmp_path, monkeypatch):
    """Root of an empty store of each kind."""
    if request.param == "folder":
        return str(tmp_path / "store")
    endpoint = request.getfixturevalue("s3_endpoint")
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "MILLRACE_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    bucket = f"b{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix"


@pytest.fixture
def objects(root):
    """An empty store of each kind."""
    return open_store(root)
