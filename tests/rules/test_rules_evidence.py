"""No ModelVersion becomes champion without complete Evidence, a passed evaluation, and approval of exactly it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.provenance import CHECK, PROVENANCE, TRAINING

from millrace.contract import Artifact
from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import EvidenceError
from millrace.rules.evidence import EVIDENCE_TAG, MODEL_TAG, NEW, Evidence, check_approval, check_release, missing
from millrace.rules.provenance import Decided, Imported


def name(number: int) -> str:
    return f"sha256:{number:064x}"


def artifact(kind: str, number: int) -> dict[str, Any]:
    return {"uri": f"{kind}s/flights/{number}/", "digest": name(number), "kind": kind}


def gate(partition: str, **changes: Any) -> dict[str, Any]:
    return {"dataset": "features", "partition": partition, "snapshot": name(5), "outcome": name(6), "passed": True,
            **changes}  # fmt: skip


RAW = {"dataset": "raw.flights", "partition": "2013-01", "snapshot": name(5)}
IMPORTED = {"file": name(5), "format": "ubj", "by": "ann"}


def evidence(**changes: Any) -> Evidence:
    base = {
        "evidence_version": 3,
        **PROVENANCE,
        "pipeline": "flights",
        "model": artifact("model", 1),
        "training_set": artifact("snapshot", 2),
        "evaluation": artifact("evaluation", 3),
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


DECIDED = {"id": "d", "partition": "p", "reason": "drift", "words": "w"}


def check(given: Evidence, **changes: Any) -> None:
    tags = {MODEL_TAG: given.model.digest, EVIDENCE_TAG: given.digest}
    asked: dict[str, Any] = {"version": 3, "registered": tags, "champion_model": None, "was_champion": False,
                             "reason": ""}  # fmt: skip
    check_release(given, **{**asked, **changes})


def test_complete_evidence_of_a_first_champion_lacks_nothing():
    assert missing(evidence(), has_champion=False) == []
    check(evidence())


def test_a_challenger_with_a_duel_lacks_nothing():
    duelled = evidence(duel={"difference": 0.001, "low": None, "high": None, "rows": 10, "champion": name(9)})

    assert missing(duelled, has_champion=True) == []
    check(duelled, champion_model=name(9))


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
        ({"duel": {"difference": 0.1, "result": "undecided"}}, True, ["its duel was not passed"]),
        ({"duel": {"difference": 0.1, "champion": name(1)}}, True, ["its duel was with itself"]),
        ({"duel": {"difference": 0.1, "challenger": name(9)}}, True,
         [f"its duel was fought by another model, {name(9)}"]),
        ({"reason": " "}, False, ["it gives no reason for the training"]),
        ({"mlflow_run": None}, False, ["it names no MLflow run that holds the model's files"]),
        ({"gates": [gate("2013-01", made_of=[RAW]), gate("2013-02")]}, False,
         ["no passed gate for raw.flights 2013-01, which the features of 2013-01 were made of"]),
        ({"gates": [gate("2013-01", made_of=[RAW]), gate("2013-02"), {**gate("2013-01"), **RAW, "snapshot": name(6)}]},
         False, ["no passed gate for raw.flights 2013-01, which the features of 2013-01 were made of"]),
        ({"parity": None}, False, ["it does not say whether online and offline features agree"]),
        ({"parity": [gate("2013-01", dataset="parity", passed=False)]}, False,
         ["online and offline features of 2013-01 differ"]),
        ({"metrics": {}}, False, ["it holds no metrics"]),
        ({"checks": []}, False, ["it holds no model checks"]),
        ({"checks": [CHECK, CHECK | {"passed": False, "name": "fairness"}]}, False,
         ["the model check fairness did not pass"]),
        ({"cost": None}, False, ["it does not say what it cost"]),
        ({"training": None}, False, ["it does not say how it was trained"]),
        ({"training": TRAINING | {"lock": None}}, False, ["it does not say with which packages it was trained"]),
        ({"training": TRAINING | {"architecture": None}}, False,
         ["it does not say on which architecture it was trained"]),
        ({"imported": IMPORTED}, False, ["it was imported, and claims a training here"]),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_and_stops_the_promotion(changes, has_champion, words):
    given = evidence(**changes)

    assert missing(given, has_champion=has_champion) == words
    with pytest.raises(EvidenceError, match="flights version 3 cannot be promoted") as caught:
        check(given, champion_model=name(9) if has_champion else None)
    assert all(word in str(caught.value) for word in words)


def test_approval_must_be_of_exactly_this_evidence():
    given, other = evidence(), evidence(reason="another")

    check_approval(given, version=3, approved_evidence=given.digest)
    with pytest.raises(EvidenceError, match="nobody approved"):
        check_approval(given, version=3, approved_evidence=None)
    with pytest.raises(EvidenceError, match="other Evidence"):
        check_approval(given, version=3, approved_evidence=other.digest)


def test_a_version_that_was_champion_comes_back_without_a_duel_for_a_reason():
    given = evidence(duel={"difference": -0.1, "champion": name(9)})

    check(given, champion_model=name(10), was_champion=True, reason="the new one is worse")
    check(evidence(), champion_model=name(10), was_champion=True, reason="the new one is worse")
    with pytest.raises(EvidenceError, match="a rollback needs a reason"):
        check(given, champion_model=name(10), was_champion=True, reason=" ")


@pytest.mark.parametrize(
    "changes", [{"evaluation_passed": False}, {"gates": []}, {"mlflow_run": None}, {"duel": {"difference": None}}]
)
def test_a_rollback_needs_complete_evidence_too(changes):
    with pytest.raises(EvidenceError, match="cannot be promoted"):
        check(evidence(**changes), champion_model=name(10), was_champion=True, reason="the new one is worse")


def test_evidence_of_the_first_version_is_read_and_keeps_its_digest():
    # given: a document as it was stored when artifacts were digests
    stored = json.dumps(
        {
            "pipeline": "flights", "model": name(1), "training_set": name(2), "evaluation": name(3),
            "evaluation_outcome": name(4), "evaluation_passed": True, "spec_digest": name(7), "code_digest": name(8),
            "gates": [gate("2013-01"), gate("2013-02")], "duel": {"difference": 0.1, "champion": name(9)},
            "decision": "manual", "reason": "by hand", "trained_to": "2013-02", "partitions": ["2013-01", "2013-02"],
            "feature_service": "flights_v1", "mlflow_run": "abc",
        },
        sort_keys=True, separators=(",", ":"),
    ).encode()  # fmt: skip

    given = Evidence.read(json.loads(stored))

    assert given.digest == digest(stored) and canonical_json(given) == stored
    assert given.model.uri == f"models/flights/{1:064x}/"
    assert given.training_set.uri == f"snapshots/flights/training_set/{2:064x}/"
    assert given.evaluation.uri == f"evaluations/flights/{3:064x}/evaluation.json"
    check(given, champion_model=name(9))


def test_evidence_of_the_second_version_is_read_and_keeps_its_digest():
    stored = json.loads(canonical_json(evidence()))
    stored = {field: value for field, value in stored.items() if field not in NEW} | {"evidence_version": 2}

    given = Evidence.read(stored)

    assert canonical_json(given) == canonical_json(stored) and given.digest == digest(canonical_json(stored))
    check(given)
    for field in NEW:
        with pytest.raises(EvidenceError, match=f"version 2 has no field {field}"):
            Evidence.read(stored | {field: IMPORTED if field == "imported" else evidence().model_dump()[field]
                                    or {"requester": "ann", "parity": [], "decided": DECIDED}[field]})  # fmt: skip


def test_an_imported_model_has_no_training_and_a_raw_verdict_makes_features_whole():
    assert missing(evidence(imported=IMPORTED, training=None), has_champion=False) == []
    whole = evidence(gates=[gate("2013-01", made_of=[RAW]), gate("2013-02"), {**gate("2013-01"), **RAW}])
    assert missing(whole, has_champion=False) == []


def test_evidence_of_the_present_version_holds_artifacts():
    assert json.loads(canonical_json(evidence()))["model"]["uri"] == "models/flights/1/"
    with pytest.raises(EvidenceError, match="malformed: model"):
        evidence(evidence_version=2, model=name(1))


@pytest.mark.parametrize("tag", [MODEL_TAG, EVIDENCE_TAG])
@pytest.mark.parametrize("value", [None, name(99)])
def test_the_version_must_be_registered_with_this_model_and_evidence(tag, value):
    given = evidence()
    tags = {MODEL_TAG: given.model.digest, EVIDENCE_TAG: given.digest, tag: value}

    with pytest.raises(EvidenceError, match="registered with another"):
        check(given, registered={k: v for k, v in tags.items() if v})


def test_a_duel_with_a_constant_counts_only_while_there_is_no_champion():
    duelled = evidence(duel={"difference": -0.1, "champion": None, "challenger": name(1), "against": "constant",
                             "result": "passed"})  # fmt: skip
    check(duelled)
    with pytest.raises(EvidenceError, match="with a constant, and now there is a champion"):
        check(duelled, champion_model=name(10))


def test_a_duel_with_yesterdays_champion_does_not_count():
    duelled = evidence(duel={"difference": -0.1, "champion": name(9)})

    with pytest.raises(EvidenceError, match="no longer champion"):
        check(duelled, champion_model=name(10))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"model": {"uri": "x", "kind": "model", "digest": "abc"}}, "model.digest"),
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
    fields = set(Evidence.model_fields) - {"evidence_version"}
    other |= {name: None for name in ("parity", "training", "metrics", "checks", "cost")}
    other |= {"requester": "ann", "decided": Decided(id="d", partition="p", reason="drift", words="w"),
              "imported": Imported(file=name(50), format="ubj", by="ann")}  # fmt: skip
    other |= {role: Artifact(**artifact("model", 50)) for role in ("model", "training_set", "evaluation")}
    digests = {given.digest} | {given.model_copy(update={field: other.get(field, name(50))}).digest for field in fields}
    assert len(digests) == 1 + len(fields)
