"""What several rooms test against: a real S3 server over HTTP."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support import left_out
from support.versity import versitygw

KEY, SECRET = "test-access", "test-secret-key"


# A machine that does other things too may take its time over one example.
settings.register_profile("default", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=5_000)
settings.load_profile("fuzz" if os.environ.get("MILLRACE_TEST_FUZZ") == "1" else "default")


def pytest_configure() -> None:
    """Asked to end, run the fixtures' ends too: they stop servers. In the background an interrupt would be ignored."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what another test shows nearly as well, where nobody asked for it."""
    if os.environ.get("MILLRACE_TEST_LONG") != "1":
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="a further variant of another test: make long"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason why tests were left out, not one for each test."""
    for (folder, why), count in left_out.counts.items():
        terminalreporter.write_line(f"SKIPPED [{count}] tests/{folder}: {why}")


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a VersityGW, built from its Go module where it is not installed, else of moto's server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = versitygw()
    if binary:
        command = [binary, "--port", f"127.0.0.1:{port}", "posix", str(tmp_path_factory.mktemp("s3"))]
    else:
        print("S3 tests: moto's server (there is no VersityGW, and none could be built)")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        command,
        env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _answers(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def bucket(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an empty bucket, with the environment set so that boto3 finds it."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "MILLRACE_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    name = f"b{uuid.uuid4().hex[:12]}"
    boto3.session.Session().client("s3").create_bucket(Bucket=name)
    return name


def _answers(url: str) -> None:
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


@pytest.fixture(autouse=True, scope="module")
def _no_spark_session_stays() -> Iterator[None]:
    """MLflow asks an open Spark session for its settings, and a forked process shares the one connection to it."""
    yield
    spark = sys.modules.get("pyspark.sql")
    if spark is not None and (session := spark.SparkSession.getActiveSession()) is not None:
        session.stop()
        logging.getLogger("py4j").setLevel(logging.WARNING)  # it speaks at exit, when the captured streams are closed
