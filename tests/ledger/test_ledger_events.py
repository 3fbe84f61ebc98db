"""Bodies have types and versions, and what any version wrote is read for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError
from support.ledger import asked, digest, evidence, make_first, promoted, trained, unanchored, verdict

from millrace.core.errors import LedgerError
from millrace.ledger import Ledger, MaterializedWindow, Registered, Source, events
from millrace.rules.window import Window

SECOND = json.loads((Path(__file__).parent / "rows_v2.json").read_text())
"""What the second version wrote of the kinds that changed after it: never to be made anew."""
FIRST = json.loads((Path(__file__).parent / "rows_v1.json").read_text())
"""What the first version, whose bodies had no types, wrote of every kind: never to be made anew."""


@pytest.fixture
def old(url: str) -> Ledger:
    """A ledger that the first version filled, opened by the present one."""
    make_first(url, FIRST)
    return Ledger.open(url)


def test_every_kind_of_the_first_version_is_there_and_read(old):
    read = {e.kind: e.event for e in old.entries()}

    assert set(read) == set(events.KINDS) - {
        "anchored",
        "job",
        "lifecycle",
        "training",
        "denied",
        "erasure",
        "plan",
        "rollout",
        "quarantine",
        "toggle",
    }, "kinds that came later"
    assert all(type(event) is events.KINDS[kind] for kind, event in read.items())
    assert old.verify() == len(FIRST)


def source(partition: str, number: int) -> Source:
    return Source(dataset="features", partition=partition, snapshot=digest(number))


def test_a_verdict_is_of_exactly_its_snapshot_and_partition_and_the_newest_counts(ledger):
    for number, partition, passed in ((1, "2013-01", True), (2, "2013-01", True), (1, "2013-01", False),
                                      (1, "2013-02", True)):  # fmt: skip
        ledger.record(verdict(number, partition=partition, passed=passed))
    ledger.record(verdict(2, partition="2013-02", dataset="raw.flights"))

    found = ledger.verdicts_on("flights", [source("2013-01", 1), source("2013-01", 2), source("2013-02", 2)])

    assert {(s.partition, s.snapshot): v.passed for s, v in found.items()} == {
        ("2013-01", digest(1)): False, ("2013-01", digest(2)): True,
    }  # fmt: skip
    assert ledger.verdicts_on("trains", [source("2013-01", 2)]) == {} == ledger.verdicts_on("flights", [])


def test_a_thousand_snapshots_are_asked_for_at_once(ledger):
    for number in range(3):
        ledger.record(verdict(number, partition=f"p{number * 600:04d}"))
    asked_for = [source(f"p{number:04d}", number // 600) for number in range(1201)]

    assert [s.partition for s in ledger.verdicts_on("flights", asked_for)] == ["p0000", "p0600", "p1200"]


def test_what_the_second_version_wrote_is_read(url):
    make_first(url, SECOND)
    ledger = Ledger.open(url)

    assert ledger.verify() == len(SECOND)
    january, february = source("2013-01", 7), source("2013-02", 8)
    judged = ledger.verdicts_on("flights", [january, february])
    assert judged[january].made_of is None and not judged[february].passed
    assert [(v.version, v.decision, v.run, v.requester) for v in ledger.versions("flights")] == [
        (1, None, None, None), (2, "d1", None, None), (3, None, None, None),
    ]  # fmt: skip
    stands = [ledger.release_of("flights", f"release__v{version}") for version in (1, 2, 3, 4)]
    assert [(r.state, r.by, r.newer, r.note) for r in stands] == [
        ("promoted", "ann", None, None), ("rejected", "bob", None, None), ("void", "nobody", 4, None),
        ("refused", "nobody", None, "no duel"),
    ]  # fmt: skip


def test_its_champions_stand_with_their_artifacts(old):
    first, second = old.champions("flights")

    assert old.champion("flights") == second
    assert (second.version, second.generation, second.model_digest, second.evidence_digest) == (
        3, 2, digest(40), digest(44),
    )  # fmt: skip
    assert second.trained.model.uri == f"models/flights/{40:064x}/"
    assert second.trained.evaluation.uri == f"evaluations/flights/{42:064x}/evaluation.json"
    assert first.evidence.uri == f"evidence/flights/{24:064x}/evidence.json"
    assert (first.release, first.reason, first.trained.trained_to) == (None, "", "2013-02")


def test_its_windows_verdicts_decisions_and_versions_are_read(old):
    assert [(w.partition, w.snapshot, w.rows) for w in old.windows("flights", "features")] == [
        ("2013-01", digest(10), 30), ("2013-02", digest(12), 30),
    ]  # fmt: skip
    good = source("2013-02", 12)
    assert old.verdicts_on("flights", [good, source("2013-02", 99)]) == {good: old.verdicts("flights", "features")[1]}
    assert [v.partition for v in old.verdicts("flights", "features")] == ["2013-01", "2013-02", "2013-03"]
    assert [(d.partition, d.state, d.message) for d in old.retrains("flights")] == [
        ("2013-03", "done", "3 of 4 windows"), ("2013-04", "superseded", "old"), ("2013-05", "waiting", "older"),
    ]  # fmt: skip
    (seen,) = old.monitoring("flights", 1)
    assert (Window.of(seen.window).rows, Window.of(seen.window).gain, seen.probe) == (300, None, None)
    assert {decision.half_life for decision in old.retrains("flights")} == {None}
    assert (seen.action, seen.window["rows"]) == ("retrain", 300)
    assert [v.version for v in old.versions("flights")] == [1, 2, 3, 4]
    assert old.registered("flights", 3).evidence.uri == f"evidence/flights/{44:064x}/evidence.json"


def test_its_waiting_request_is_voided_by_a_newer_challenger_and_never_promoted(old):
    request = asked(old, 5)

    assert request.expected_generation == 2
    assert [(e.body["state"], e.body.get("newer")) for e in old.entries(kind="approval", subject="v4")] == [
        ("waiting", None), ("void", 5),
    ]  # fmt: skip
    with pytest.raises(LedgerError, match="version 3 cannot be promoted"):
        old.promote("flights", "v3", evidence(3), trained(3), approval=True, anchor=unanchored)


def test_its_champions_may_be_asked_back(old):
    back = old.ask_release("flights", 1, digest(24), run_id="rollback", reason="worse")

    assert back.rollback and back.state == "waiting"


def test_its_decisions_go_on(old):
    decision = old.retrains("flights")[-1]

    assert old.start(decision.id, "run")
    assert old.finish(decision.id, "done").state == "done"
    assert old.verify() == len(FIRST) + 2


def test_a_fact_that_it_knew_is_not_appended_again(old):
    gate, window, *_ = (e.event for e in old.entries())
    again = next(e.event for e in old.entries() if e.kind == "registered")

    for event in (gate, window, again):
        old.record(event)

    assert old.verify() == len(FIRST)


def test_a_promotion_after_it_keeps_the_chain(old):
    assert promoted(old, 5).generation == 3
    kinds = [e.kind for e in old.entries()][len(FIRST) :]
    assert kinds == ["approval", "approval", "approval", "promoted", "approval", "anchored"]
    assert old.verify() == len(FIRST) + 6


def test_every_body_says_its_version(ledger):
    promoted(ledger, 1), ledger.claim("flights", "2013-05", "drift"), ledger.record(verdict())

    assert {e.kind: e.body["event_version"] for e in ledger.entries()} == {
        "approval": 4, "promoted": 3, "anchored": 1, "retrain": 4, "gate": 2,
    }  # fmt: skip


def test_a_promotion_from_before_it_was_a_document_is_read():
    body = events.Promoted(
        pipeline="flights", generation=1, version=1, evidence=evidence(1), trained=trained(1), release="r", reason="x"
    ).body()  # fmt: skip
    before = {name: value for name, value in body.items() if name not in ("promotion", "signer")}
    read = events.Promoted.read("flights", "generation/1", before | {"event_version": 2})
    assert (read.version, read.promotion, read.signer) == (1, None, None)


def test_what_a_newer_version_wrote_is_not_guessed_at(ledger, monkeypatch):
    class Newer(MaterializedWindow):
        upgrades: ClassVar = (*MaterializedWindow.upgrades, lambda *given: given[-1])

    given = {"pipeline": "flights", "view": "features", "partition": "2013-01", "snapshot": "a", "rows": 1}
    ledger.record(Newer(**given))

    with pytest.raises(LedgerError, match=r"written by another version .*given: 3.*versions 1 to 2"):
        ledger.windows("flights", "features")
    assert ledger.verify() == 1

    # and the version after that reads all of them
    monkeypatch.setattr("millrace.ledger.windows.MaterializedWindow", Newer)
    monkeypatch.setitem(events.KINDS, "materialized", Newer)
    assert [w.rows for w in ledger.windows("flights", "features")] == [1]


def test_an_unknown_kind_and_a_body_of_another_kind_are_said(ledger):
    with pytest.raises(LedgerError, match="kind that this version of Millrace does not know"):
        events.read("flights", "nonsense", "x", {})
    with pytest.raises(LedgerError, match=r"gate features/2013-01 of flights\) is not of its kind: snapshot"):
        events.read("flights", "gate", "features/2013-01", {**verdict().body(), "snapshot": "x"})
    with pytest.raises(LedgerError, match="is not of its kind"):
        events.read("flights", "registered", "v1", {"version": 1})


def test_a_body_that_is_not_of_its_kind_cannot_be_made():
    with pytest.raises(ValidationError, match="evidence"):
        Registered(pipeline="flights", version=1, model=trained(1).model, evidence=None, decision=None)


def test_a_training_from_before_rows_had_weights_weighed_them_alike():
    body = {
        "event_version": 1, "run": "flights__training/manual__1", "requester": None, "decision": None, "reason": "",
        "until": "2013-02", "inputs": [], "learner": None, "as_of": "2013-03-02T05:00:00+00:00",
    }  # fmt: skip
    assert events.read("flights", "training", "any", body).half_life is None
