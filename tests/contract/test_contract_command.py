"""`python -m millrace.jobs`: a result file in every case, and exit codes that a runner can read."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.requests import digest_of, request

from millrace.contract import JobRequest, JobResult
from millrace.spec import Bundle
from millrace.store import bundles, open_store

SPEC = {
    "version": 1, "name": "sales", "owner": "tests", "description": "A shop.",
    "partition": {"grain": "month", "start": "2024-01"},
    "sources": {"orders": {"kind": "files", "location": "{year}{month}.csv", "gate": "g.yaml", "columns": ["id"]}},
    "features": {"entity": ["id"], "service": "sales"},
}  # fmt: skip


@pytest.fixture
def land(tmp_path):
    """A function that makes a request to land a month; `job` and other parts of identity can be said."""
    objects = open_store(str(tmp_path / "store"))
    bundle = Bundle(spec=SPEC, sql="", suites={})
    bundles.keep(objects, bundle)
    (tmp_path / "202401.csv").write_text("id\na\n")

    def make(**identity) -> JobRequest:
        base = {
            "job": "land", "params": {"source": "orders"}, "scope": ("2024-01",), "spec_digest": bundle.digest,
            "store": tmp_path / "store", "locations": {"orders": str(tmp_path / "{year}{month}.csv")},
        }  # fmt: skip
        return request(**{**base, **identity})

    return make


def command(tmp_path, job: str, text: str | None) -> tuple[int, JobResult | None, str]:
    """Exit code, result, stderr."""
    if text is not None:
        (tmp_path / "request.json").write_text(text)
    result = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "millrace.jobs", job, "--request", tmp_path / "request.json", "--result", result],
        capture_output=True, text=True, timeout=60, env={k: v for k, v in os.environ.items() if "MILLRACE" not in k},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob(".tmp-*")), "half a result was left"
    return done.returncode, JobResult.parse(result.read_text()) if result.exists() else None, done.stderr


def test_0_an_outcome_was_written(tmp_path, land):
    request = land()
    code, result, said = command(tmp_path, "land", request.model_dump_json())
    assert (code, said) == (0, "")
    assert result.outcome.facts["rows"] == 1 and result.error is None
    assert result.request_digest == request.request_digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["identity"].update(contract="1.99"), "cannot read the request's contract version"),
        (lambda v: v.update(hurry=True), "request field hurry"),
        (lambda v: v["identity"].update(job="score"), "the request is for another job"),
        (lambda v: v.clear(), "not JSON with"),
    ],
    ids=["newer", "unknown field", "another job", "empty"],
)
def test_2_the_request_cannot_be_read(tmp_path, land, change, words):
    value = json.loads(land().model_dump_json())
    change(value)
    code, result, said = command(tmp_path, "land", json.dumps(value))
    assert code == 2
    assert result.outcome is None and result.error.type == "ContractError" and result.error.retry == "never"
    assert words in result.error.message and words in said


def test_2_there_is_no_request(tmp_path):
    code, result, said = command(tmp_path, "land", None)
    assert code == 2 and "cannot read the request" in result.error.message and "cannot read the request" in said


@pytest.mark.parametrize(
    ("job", "identity", "words"),
    [
        ("lend", {"job": "lend"}, "no such job (given: 'lend')"),
        ("land", {"params": {"source": "orders", "hurry": 1}}, "params of job 'land', hurry"),
        ("land", {"params": {}}, "source: Field required"),
        ("land", {"scope": ()}, "works on one partition"),
        ("land", {"spec_digest": digest_of("9")}, "no such"),
    ],
)
def test_3_failed_for_good(tmp_path, land, job, identity, words):
    code, result, said = command(tmp_path, job, land(**identity).model_dump_json())
    assert code == 3
    assert result.outcome is None and result.error.retry == "never"
    assert words in result.error.message and result.error.message in said


def test_4_failed_and_may_be_tried_again(tmp_path, land):
    # Given a store whose server does not answer
    request = land()
    place = request.place.model_copy(update={"store": "s3://bucket/prefix"})
    (tmp_path / "request.json").write_text(request.model_copy(update={"place": place}).model_dump_json())
    result = tmp_path / "result.json"
    env = {k: v for k, v in os.environ.items() if "MILLRACE" not in k} | {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1", "MILLRACE_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "millrace.jobs", "land", "--request", tmp_path / "request.json", "--result", result],
        capture_output=True, text=True, timeout=60, env=env,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert JobResult.parse(result.read_text()).error.retry == "same"


def test_a_rerun_replaces_the_result_whole(tmp_path, land):
    (tmp_path / "result.json").write_text("half a res")
    code, result, _ = command(tmp_path, "land", land().model_dump_json())
    assert code == 0 and result.outcome is not None
