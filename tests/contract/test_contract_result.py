"""JobResult: readers ignore what a newer minor version added; the outcome alone is digested."""

from __future__ import annotations

import json

import pytest

from millrace.contract import Artifact, Check, JobError, JobResult, Metric, Observed, Outcome, Verdict
from millrace.core.errors import ContractError

SHA = "sha256:" + "0" * 64


def result(**parts) -> JobResult:
    outcome = Outcome(
        outputs={"data": Artifact(uri="snapshots/x/", digest=SHA, kind="snapshot", rows=3)},
        facts={"rows": 3},
        metrics={"log_loss": Metric(value=0.5, low=0.4, high=0.6, rows=3)},
        verdict=Verdict(passed=False, checks=(Check(name="a", passed=True, message="m"),
                                              Check(name="b", passed=False, message="n"))),
    )  # fmt: skip
    return JobResult(job="land", request_digest=SHA, **{"outcome": outcome, **parts})


def test_a_result_read_back_is_the_same():
    sent = result(observed=Observed(seconds=1.5, host="h", links={"docs": "reports/x.html"}, notes=("n",)))
    read = JobResult.parse(sent.to_json())
    assert read == sent and read.outcome_digest == sent.outcome_digest
    assert [check.name for check in read.outcome.verdict.failures] == ["b"]


@pytest.mark.parametrize(
    "place", [(), ("outcome",), ("observed",), ("outcome", "outputs", "data"), ("outcome", "verdict")]
)
def test_unknown_fields_are_ignored(place):
    # Given a result of a newer minor version with a field that this code does not know
    value = json.loads(result(contract="1.9").to_json())
    inside = value
    for part in place:
        inside = inside[part]
    inside["novelty"] = {"x": 1}
    # Then it is read, and its outcome is what it was
    assert JobResult.parse(json.dumps(value)).outcome_digest == result().outcome_digest


@pytest.mark.parametrize("version", ["2.0", "0.1", "x", ""])
def test_another_major_version_is_refused(version):
    with pytest.raises(ContractError):
        JobResult.parse(result(contract=version).to_json())


def test_the_digest_is_of_the_outcome_alone():
    first = result(observed=Observed(host="a", seconds=1))
    second = result(observed=Observed(host="b", seconds=2), number=4)
    assert first.outcome_digest == second.outcome_digest
    changed = first.outcome.model_copy(update={"facts": {"rows": 4}})
    assert result(outcome=changed).outcome_digest != first.outcome_digest


def test_a_failed_job_has_no_outcome_digest():
    failed = result(outcome=None, error=JobError(type="Unavailable", message="m", retry="same"))
    assert JobResult.parse(failed.to_json()).outcome_digest is None


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", b"\xff"])
def test_what_is_no_result_is_refused(text):
    with pytest.raises(ContractError, match="not a JobResult"):
        JobResult.parse(text)


@pytest.mark.parametrize("retry", ["never", "same", "larger", "resume", "wait"])
def test_retry_advice_has_five_words(retry):
    assert JobError(type="E", message="m", retry=retry).retry == retry
    with pytest.raises(ValueError):
        JobError(type="E", message="m", retry="maybe")
