"""What version 1.0 wrote is read for ever: the files beside this one are never changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import Field

from millrace.contract import Identity, JobRequest, JobResult, Outcome
from millrace.contract import request as request_module
from millrace.core.canonical import digest
from millrace.core.errors import ContractError

HERE = Path(__file__).parent
REQUEST, RESULT = (HERE / "request_v1_0.json").read_bytes(), (HERE / "result_v1_0.json").read_bytes()
REQUEST_DIGEST = "sha256:d225b63b93bf23e3ff300728d46fa05191b2a957ae0cc543ee12c66c245728d8"
OUTCOME_DIGEST = "sha256:6baed52f0340b0bd058fc4c60859607f7c1a2cb563a6b6c439ee1b578b92dc67"
SHA = "sha256:" + "0" * 64


@pytest.fixture(params=["1.0", "1.9"])
def speaking(request, monkeypatch) -> str:
    """This code, and this code some minors later."""
    monkeypatch.setattr(request_module, "CONTRACT_VERSION", request.param)
    return request.param


def test_a_request_of_1_0_is_read_with_its_digest(speaking):
    read = JobRequest.parse(REQUEST)
    assert (read.identity.contract, read.request_digest) == ("1.0", REQUEST_DIGEST)
    # and holds all that was written, under the same names
    assert json.loads(read.model_dump_json()) == json.loads(REQUEST)


def test_a_result_of_1_0_is_read_with_its_digest(speaking):
    read = JobResult.parse(RESULT)
    assert (read.contract, read.request_digest, read.outcome_digest) == ("1.0", REQUEST_DIGEST, OUTCOME_DIGEST)
    assert json.loads(read.to_json()) == json.loads(RESULT)


def test_the_shortest_request_of_1_0_is_read_with_todays_defaults(speaking):
    identity = {"contract": "1.0", "job": "land", "spec_digest": SHA, "code_digest": SHA}
    read = JobRequest.parse(json.dumps({"identity": identity, "place": {"store": "s"}}))
    assert (read.identity.threads, read.identity.seed, read.means.profile, read.run.try_number) == (2, 0, "process", 1)
    assert read.request_digest == "sha256:b2556e234794281e82295610006e105501dbc4abb5b92644f6bf06f9e1fa3f11"


def test_a_digested_part_may_grow_by_fields_that_are_left_out_while_unsaid():
    """The way in which a later minor adds to Identity and Outcome, as millrace.contract says it."""

    class LaterIdentity(Identity):
        priority: int = Field(default=0, exclude_if=lambda value: value == 0)

    class LaterOutcome(Outcome):
        shards: tuple[str, ...] = Field(default=(), exclude_if=lambda value: value == ())

    identity, outcome = json.loads(REQUEST)["identity"], json.loads(RESULT)["outcome"]
    assert digest(LaterIdentity.model_validate(identity)) == REQUEST_DIGEST
    assert digest(LaterOutcome.model_validate(outcome)) == OUTCOME_DIGEST
    # Said, they decide
    assert digest(LaterIdentity.model_validate({**identity, "priority": 1})) != REQUEST_DIGEST
    assert digest(LaterOutcome.model_validate({**outcome, "shards": ["a"]})) != OUTCOME_DIGEST


def test_a_result_of_another_major_is_named_by_its_version_whatever_its_form():
    with pytest.raises(ContractError, match=r"cannot read .*version .*given: '2\.0'"):
        JobResult.parse('{"contract": "2.0", "answer": {}}')
