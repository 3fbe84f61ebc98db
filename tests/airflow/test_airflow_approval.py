"""Who answers a release request, what that does to it, and what nobody can do to it by editing a run."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.project import PIPELINE
from support.releases import SLICE, House

from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.statements import expected
from millrace.airflow.tasks import approval as waiting
from millrace.core.canonical import canonical_json


def test_nothing_is_promoted_before_a_human_approved_where_one_must(guarded):
    guarded.register(1), guarded.open(1)

    for xcoms in ({}, {"approve": {"chosen_options": ["Approve"], "responded_by_user": {"name": "eve"}}},
                  {"approve": {"automatic": True}}):  # fmt: skip
        with pytest.raises(AirflowFailException, match="nobody has approved it"):
            guarded.promote(1, xcoms=xcoms)
    assert guarded.champion() is None and guarded.states() == {1: "waiting"}
    assert [e.event.task for e in guarded.ledger.entries(PIPELINE, "denied")] == ["task"]

    guarded.answer(1)
    assert guarded.promote(1)["version"] == 1


@pytest.mark.parametrize("end", ["rejected", "expired", "void", "refused"])
def test_what_was_decided_stays_so_whatever_is_cleared_marked_or_pasted(guarded, end):
    guarded.register(1), guarded.open(1)
    request = guarded.ledger.release_of(PIPELINE, "release__v1")
    if end == "rejected":
        with pytest.raises(AirflowSkipException, match="rejected by ann"):
            guarded.answer(1, approved=False)
    elif end == "expired":
        guarded.ledger.look(PIPELINE, request.id, datetime.now(UTC) + timedelta(days=8))
    elif end == "void":
        guarded.register(2), guarded.open(2)
    else:
        guarded.ledger.refuse(PIPELINE, request.id, "no duel")
    ceo = {"approve": {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "the-ceo"}}}

    for again in (lambda: guarded.open(1), lambda: guarded.approve(1), lambda: guarded.answer(1)):
        with pytest.raises(AirflowSkipException, match=f"not promoted: its release is {end}"):
            again()
    with pytest.raises(AirflowFailException, match=f"cannot be promoted: it is {end}"):
        guarded.promote(1, xcoms=ceo)

    assert guarded.champion() is None and guarded.states()[1] == end
    assert guarded.withdrawn == [1] * (3 if end == "rejected" else 2), "the alias follows"


def test_who_was_rejected_is_asked_about_again_by_another_run(guarded):
    guarded.register(1), guarded.open(1)
    with pytest.raises(AirflowSkipException):
        guarded.answer(1, approved=False)

    guarded.open(1, run_id="by hand", reason="the numbers were read wrongly")
    with pytest.raises(AirflowFailException, match="nobody has approved"):
        guarded.promote(1, run_id="by hand")
    guarded.answer(1, run_id="by hand")

    assert guarded.promote(1, run_id="by hand")["version"] == 1


def test_an_approval_of_other_evidence_does_not_count(guarded):
    guarded.register(1), guarded.open(1), guarded.answer(1)
    guarded.register(1, reason="another")

    with pytest.raises(AirflowFailException, match="was not registered with what this release is about"):
        guarded.promote(1)
    assert guarded.champion() is None


def test_a_newer_challenger_voids_a_waiting_one_which_is_then_skipped(guarded):
    guarded.register(1), guarded.open(1)
    guarded.register(2), guarded.open(2)

    assert guarded.states() == {1: "void", 2: "waiting"}
    with pytest.raises(AirflowSkipException, match="void, since version 2 is newer"):
        guarded.answer(1)  # too late
    with pytest.raises(AirflowFailException, match="void, since version 2 is newer"):
        guarded.promote(1)
    with pytest.raises(AirflowSkipException, match="void, since version 2 is newer"):
        guarded.open(1)


def test_the_waiting_task_shows_both_models_and_parks_for_a_slice(guarded, asked_of_airflow):
    guarded.register(1), guarded.open(1), guarded.answer(1), guarded.promote(1)
    evidence = guarded.register(2)
    guarded.open(2, user="bob", reason="please\n# look")

    with pytest.raises(TaskAwaitingInput) as parked:
        guarded.approve(2)

    (shown,) = asked_of_airflow
    assert shown["subject"] == "Promote orders version 2 to champion?"
    for words in (
        "Asked for by** bob, who cannot approve it", "Because** please \\# look", "Now champion** version 1",
        "| log_loss | 0.4800 (0.4000 to 0.6000) | - | 0.4900 (0.4000 to 0.6000) |", "-0.10000", "passed: log\\_loss of",
        "Environment** prod", evidence.digest, "Changed data** 1 of other features than then",
    ):  # fmt: skip
        assert words in shown["body"], shown["body"]
    assert parked.value.timeout == timedelta(minutes=5)


def test_nothing_pasted_into_a_run_is_shown_to_whoever_approves(guarded, asked_of_airflow):
    guarded.register(1), guarded.open(1)

    with pytest.raises(TaskAwaitingInput):
        guarded.approve(1, xcoms={"open": "harmless"}, params={"version": "7"})

    assert "harmless" not in str(asked_of_airflow) and "version 1" in asked_of_airflow[0]["subject"]


@pytest.mark.parametrize(("approved", "state"), [(True, "approved"), (False, "rejected")])
def test_the_waiting_task_itself_records_the_answer(guarded, approved, state):
    guarded.register(1), guarded.open(1)

    if approved:
        guarded.answer(1)
    else:
        with pytest.raises(AirflowSkipException, match="rejected by ann"):
            guarded.answer(1, approved=False)

    request = guarded.ledger.release_of(PIPELINE, "release__v1")
    (answer,) = request.answers
    assert (request.state, answer.by, answer.user_id, answer.how) == (state, "ann", "ann-id", "person")
    assert answer.at is not None


def test_at_the_end_of_a_slice_it_parks_again_and_no_default_answers(guarded, asked_of_airflow):
    guarded.register(1), guarded.open(1)

    for _ in range(3):
        with pytest.raises(TaskAwaitingInput):
            guarded.approve(1, SLICE)

    assert guarded.states() == {1: "waiting"} and len(asked_of_airflow) == 3
    guarded.answer(1)
    assert guarded.states() == {1: "approved"}


def test_at_the_end_of_a_slice_it_ends_when_its_time_has_passed(guarded, monkeypatch):
    guarded.register(1), guarded.open(1)
    request = guarded.ledger.release_of(PIPELINE, "release__v1")
    late = datetime.fromisoformat(request.expires) + timedelta(seconds=1)
    look = type(guarded.ledger).look
    monkeypatch.setattr(type(guarded.ledger), "look", lambda self, pipeline, id_: look(self, pipeline, id_, late))

    with pytest.raises(AirflowSkipException, match="expired: nobody answered until"):
        guarded.approve(1, SLICE)

    assert guarded.states() == {1: "expired"} and guarded.withdrawn == [1]


def test_at_the_end_of_a_slice_it_goes_on_where_another_run_was_approved(guarded):
    guarded.register(1), guarded.open(1), guarded.open(1, run_id="by hand", reason="soon")
    guarded.answer(1, run_id="by hand")

    assert guarded.approve(1, SLICE) is None
    assert guarded.promote(1)["version"] == 1


def test_the_last_slice_ends_with_the_request(guarded):
    guarded.register(1), guarded.open(1)
    request = guarded.ledger.release_of(PIPELINE, "release__v1")
    soon = request.model_copy(update={"expires": (datetime.now(UTC) + timedelta(seconds=30)).isoformat()})

    assert timedelta(0) < waiting._slice(guarded.site, soon) <= timedelta(seconds=30)
    past = request.model_copy(update={"expires": "2020-01-01T00:00:00+00:00"})
    assert waiting._slice(guarded.site, past) == timedelta(seconds=1)


def test_who_asked_cannot_approve_but_may_withdraw(guarded):
    guarded.register(1), guarded.open(1, user="bob")

    with pytest.raises(TaskAwaitingInput):
        guarded.answer(1, by="bob")

    assert guarded.states() == {1: "waiting"}
    (denied,) = guarded.ledger.entries(PIPELINE, "denied")
    assert "bob asked for it, and who asks cannot approve" in denied.event.why
    with pytest.raises(AirflowSkipException, match="rejected by bob"):
        guarded.answer(1, approved=False, by="bob")


def test_who_asked_for_the_training_cannot_approve_either(guarded):
    guarded.register(1, requester="bob"), guarded.open(1)

    with pytest.raises(TaskAwaitingInput):
        guarded.answer(1, by="bob")
    guarded.answer(1, by="ann")


def test_two_approvers_are_two_persons_of_those_that_the_environment_names(house, monkeypatch):
    path = house.site.tree.root / "include" / "environments" / "prod.yaml"
    path.write_text(
        path.read_text().replace("  by: human\n", "  by: human\n  approvers: [ann, bob, cid]\n  needed: 2\n")
    )
    monkeypatch.setenv("MILLRACE_ENVIRONMENT", "prod")
    strict = House(house.site.tree.root, monkeypatch)
    strict.register(1), strict.open(1, user="cid")

    for by in ("ann", "ann", "eve", "cid"):
        with pytest.raises(TaskAwaitingInput):
            strict.answer(1, by=by)
        assert strict.states() == {1: "waiting"}
    strict.answer(1, by="bob")

    assert strict.promote(1)["version"] == 1
    assert strict.ledger.release_of(PIPELINE, "release__v1").by == "ann and bob"
    Site.at.cache_clear()


def test_where_approval_is_automatic_nobody_is_asked_and_that_is_on_record(house, asked_of_airflow):
    house.register(1), house.open(1)

    assert house.approve(1) is None

    assert asked_of_airflow == []
    (answer,) = house.ledger.release_of(PIPELINE, "release__v1").answers
    assert (answer.by, answer.how) == ("environment dev", "automatic")


def test_what_an_environment_approved_by_itself_is_not_promoted_where_persons_must(house, monkeypatch):
    house.register(1), house.open(1), house.approve(1)
    monkeypatch.setenv("MILLRACE_ENVIRONMENT", "prod")
    guarded = House(house.site.tree.root, monkeypatch)

    with pytest.raises(AirflowFailException, match="approved by no person"):
        guarded.promote(1)
    assert guarded.champion() is None
    Site.at.cache_clear()


@pytest.fixture
def audited(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[House, Ed25519PrivateKey]]:
    """Where a person and the system `risk` must approve."""
    key, root = Ed25519PrivateKey.generate(), house.site.tree.root
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (root / "include" / "environments" / "risk.pem").write_bytes(pem)
    path = root / "include" / "environments" / "prod.yaml"
    system = "  by: human\n  external: [{name: risk, public_key: include/environments/risk.pem}]\n"
    path.write_text(path.read_text().replace("  by: human\n", system))
    monkeypatch.setenv("MILLRACE_ENVIRONMENT", "prod")
    yield House(root, monkeypatch), key
    Site.at.cache_clear()


def state(house: House, key: Ed25519PrivateKey, verdict: str = "approve", **changes: Any) -> None:
    """What the system puts into the store."""
    request = house.ledger.release_of(PIPELINE, "release__v1")
    statement = expected(request, verdict) | changes
    signature = base64.b64encode(key.sign(canonical_json(statement))).decode()
    where = f"statements/{PIPELINE}/{request.id}/risk.json"
    house.site.objects.put(where, canonical_json({"statement": statement, "signature": signature}))


@pytest.mark.parametrize("first", ["person", "system"])
def test_another_systems_signed_statement_is_awaited_like_an_approver(audited, first, asked_of_airflow):
    house, key = audited
    house.register(1), house.open(1)

    with pytest.raises(TaskAwaitingInput):
        house.answer(1) if first == "person" else (state(house, key), house.approve(1))
    assert house.states() == {1: "waiting"}
    with pytest.raises(AirflowFailException, match="nobody has approved"):
        house.promote(1)
    if first == "person":
        state(house, key)
        assert house.approve(1, SLICE) is None
    else:
        house.answer(1)

    assert house.promote(1)["version"] == 1
    request = house.ledger.release_of(PIPELINE, "release__v1")
    assert {(answer.by, answer.how) for answer in request.answers} == {("ann", "person"), ("risk", "external")}
    assert "signed statement of risk" in asked_of_airflow[0]["body"]


def test_a_systems_rejection_ends_a_request(audited):
    house, key = audited
    house.register(1), house.open(1)
    state(house, key, "reject")

    with pytest.raises(AirflowSkipException, match="rejected by risk"):
        house.answer(1)


@pytest.mark.parametrize("forged", ["another key", "other evidence", "another release", "no json", "no signature"])
def test_a_statement_that_is_not_of_its_key_about_this_release_says_nothing(audited, forged):
    house, key = audited
    house.register(1), house.open(1)
    request = house.ledger.release_of(PIPELINE, "release__v1")
    if forged == "another key":
        state(house, Ed25519PrivateKey.generate())
    elif forged == "other evidence":
        state(house, key, evidence="sha256:" + "0" * 64)
    elif forged == "another release":
        state(house, key, release="another")
    else:
        text = b"{" if forged == "no json" else canonical_json({"statement": expected(request, "approve")})
        house.site.objects.put(f"statements/{PIPELINE}/{request.id}/risk.json", text)

    with pytest.raises(TaskAwaitingInput):
        house.answer(1)
    assert house.states() == {1: "waiting"}
    assert "statement of risk" in house.ledger.entries(PIPELINE, "denied")[-1].event.why
