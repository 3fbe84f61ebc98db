"""No ModelVersion becomes champion without complete Evidence, a passed evaluation, and approval of exactly it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from millrace.canonical import canonical_json, digest
from millrace.errors import EvidenceError
from millrace.rules.evidence import EVIDENCE_TAG, MODEL_TAG, Evidence, check_promotion, missing


def name(number: int) -> str:
    return f"sha256:{number:064x}"


def gate(partition: str, **changes: Any) -> dict[str, Any]:
    return {"dataset": "features", "partition": partition, "snapshot": name(5), "outcome": name(6), "passed": True,
            **changes}  # fmt: skip


def evidence(**changes: Any) -> Evidence:
    base = {
        "pipeline": "flights",
        "model": name(1),
        "training_set": name(2),
        "evaluation": name(3),
        "evaluation_outcome": name(4),
        "evaluation_passed": True,
        "spec_digest": name(7),
        "code_digest": name(8),
        "gates": [gate("2013-01"), gate("2013-02")],
        "duel": None,
        "decision": "manual",
        "reason": "by hand",
        "trained_to": "2013-02",
        "partitions": ["2013-01", "2013-02"],
        "feature_service": "flights_v1",
        "mlflow_run": "abc",
    }
    return Evidence.read({**base, **changes})


def check(given: Evidence, **changes: Any) -> None:
    tags = {MODEL_TAG: given.model, EVIDENCE_TAG: given.digest}
    asked: dict[str, Any] = {"version": 3, "has_champion": False, "approval_needed": False, "approved_evidence": None,
                             "registered": tags, "champion_model": None}  # fmt: skip
    check_promotion(given, **{**asked, **changes})


def test_complete_evidence_of_a_first_champion_lacks_nothing():
    assert missing(evidence(), has_champion=False) == []
    check(evidence())


def test_a_challenger_with_a_duel_lacks_nothing():
    duelled = evidence(duel={"difference": 0.001, "low": None, "high": None, "rows": 10, "champion": name(9)})

    assert missing(duelled, has_champion=True) == []
    check(duelled, has_champion=True, champion_model=name(9))


@pytest.mark.parametrize(
    ("changes", "has_champion", "words"),
    [
        ({"evaluation_passed": False}, False, ["the evaluation did not pass"]),
        ({"gates": [gate("2013-01")]}, False, ["no passed gate for the features of 2013-02"]),
        ({"gates": []}, False, [f"no passed gate for the features of 2013-0{month}" for month in (1, 2)]),
        (
            {"gates": [gate("2013-01"), gate("2013-02", passed=False)]},
            False,
            ["no passed gate for the features of 2013-02", "the gate of features 2013-02 did not pass"],
        ),
        (
            {"gates": [gate("2013-01"), gate("2013-02", dataset="raw.flights")]},
            False,
            ["no passed gate for the features of 2013-02"],
        ),
        ({"partitions": [], "gates": []}, False, ["it names no partition that was trained on"]),
        ({"trained_to": "2013-01"}, False, ["it was trained to 2013-02, but says 2013-01"]),
        ({}, True, ["there was no duel with the champion"]),
        ({"duel": {}}, True, ["its duel has no result"]),
        ({"duel": {"difference": None}}, False, ["its duel has no result"]),
        ({"duel": {"difference": True}}, True, ["its duel has no result"]),
        ({"reason": " "}, False, ["it gives no reason for the training"]),
        ({"mlflow_run": None}, False, ["it names no MLflow run that holds the model's files"]),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_and_stops_the_promotion(changes, has_champion, words):
    given = evidence(**changes)

    assert missing(given, has_champion=has_champion) == words
    with pytest.raises(EvidenceError, match="flights version 3 cannot be promoted") as caught:
        check(given, has_champion=has_champion)
    assert all(word in str(caught.value) for word in words)


def test_approval_must_be_of_exactly_this_evidence_where_it_is_needed():
    given, other = evidence(), evidence(reason="another")

    check(given, approval_needed=True, approved_evidence=given.digest)
    with pytest.raises(EvidenceError, match="nobody approved"):
        check(given, approval_needed=True)
    with pytest.raises(EvidenceError, match="other Evidence"):
        check(given, approval_needed=True, approved_evidence=other.digest)


@pytest.mark.parametrize("tag", [MODEL_TAG, EVIDENCE_TAG])
@pytest.mark.parametrize("value", [None, name(99)])
def test_the_version_must_be_registered_with_this_model_and_evidence(tag, value):
    given = evidence()
    tags = {MODEL_TAG: given.model, EVIDENCE_TAG: given.digest, tag: value}

    with pytest.raises(EvidenceError, match="registered with another"):
        check(given, registered={k: v for k, v in tags.items() if v})


def test_a_duel_with_yesterdays_champion_does_not_count():
    duelled = evidence(duel={"difference": -0.1, "champion": name(9)})

    with pytest.raises(EvidenceError, match="no longer champion"):
        check(duelled, has_champion=True, champion_model=name(10))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"model": "abc"}, "model"),
        ({"training_set": None}, "training_set"),
        ({"gates": [gate("2013-01", outcome="")]}, "gates.0.outcome"),
        ({"surprise": 1}, "surprise"),
        ({"decision": ""}, "decision"),
        ({"duel": {"difference": float("nan")}}, "duel"),
        ({"duel": {"difference": object()}}, "duel"),
    ],
)
def test_malformed_evidence_names_the_field(changes, where):
    with pytest.raises(EvidenceError, match=f"malformed: {where}"):
        evidence(**changes)


def test_the_digest_is_that_of_the_stored_bytes_and_moves_with_every_field():
    given = evidence(duel={"difference": 0.1 + 0.2})
    stored = canonical_json(given)

    assert given.digest == digest(stored) == Evidence.read(json.loads(stored)).digest
    other = {"pipeline": "x", "evaluation_passed": False, "gates": (), "duel": None, "decision": "x", "reason": "x",
             "trained_to": "x", "partitions": (), "feature_service": "x", "mlflow_run": None}  # fmt: skip
    digests = {given.digest} | {
        given.model_copy(update={field: other.get(field, name(50))}).digest for field in Evidence.model_fields
    }
    assert len(digests) == 1 + len(Evidence.model_fields)
