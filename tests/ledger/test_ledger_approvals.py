"""The digest approved is the digest promoted; a newer challenger voids a waiting approval."""

from __future__ import annotations

import pytest

from millrace.errors import LedgerError
from millrace.ledger import Ledger

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def ask(ledger: Ledger, version: int, evidence: str = ONE) -> str:
    return ledger.open_approval("flights", version, evidence).state


def answer(ledger: Ledger, version: int, approved: bool = True, evidence: str = ONE) -> str:
    return ledger.answer("flights", version, evidence, approved=approved, by="ann").state


def approved(ledger: Ledger, version: int, evidence: str = ONE) -> bool:
    return ledger.approved("flights", version, evidence) is not None


def test_nothing_is_approved_until_a_person_says_so(ledger):
    assert not approved(ledger, 1)
    ask(ledger, 1)
    assert not approved(ledger, 1)
    assert answer(ledger, 1) == "approved"

    given = ledger.approved("flights", 1, ONE)

    assert given is not None and (given.evidence_digest, given.by) == (ONE, "ann")


def test_an_approval_is_for_one_version_and_one_evidence(ledger):
    ask(ledger, 1), answer(ledger, 1)

    assert not approved(ledger, 1, TWO)
    assert not approved(ledger, 2)
    assert ledger.approved("trains", 1, ONE) is None


def test_a_rejection_is_no_approval_until_it_is_asked_and_answered_again(ledger):
    ask(ledger, 1)
    assert answer(ledger, 1, approved=False) == "rejected"
    assert not approved(ledger, 1)

    assert ask(ledger, 1) == "waiting"
    assert not approved(ledger, 1)
    answer(ledger, 1)

    assert approved(ledger, 1)


def test_a_newer_challenger_voids_what_waits_and_nothing_else(ledger):
    ask(ledger, 1), answer(ledger, 1), ask(ledger, 2), ask(ledger, 3)

    assert ledger.void_older("flights", 3) == [2]
    assert approved(ledger, 1)
    assert answer(ledger, 2) == "void"
    assert not approved(ledger, 2)
    assert answer(ledger, 3) == "approved"


def test_a_request_that_comes_after_a_newer_one_is_void_at_once(ledger):
    ask(ledger, 3)

    assert ask(ledger, 2) == "void"
    assert ask(ledger, 2) == "void"
    assert answer(ledger, 2) == "void"
    assert len(ledger.entries(kind="approval", subject="v2")) == 1


def test_asking_and_answering_again_changes_nothing(ledger):
    ask(ledger, 1), ask(ledger, 1), answer(ledger, 1), answer(ledger, 1)

    assert ask(ledger, 1) == "approved"
    assert len(ledger.entries(kind="approval")) == 2


def test_other_evidence_must_be_approved_anew(ledger):
    ask(ledger, 1), answer(ledger, 1)

    assert ask(ledger, 1, TWO) == "waiting"
    assert not approved(ledger, 1) and not approved(ledger, 1, TWO)


@pytest.mark.parametrize("evidence", [None, TWO])
def test_an_answer_to_what_nobody_asked_is_refused(ledger, evidence):
    if evidence:
        ask(ledger, 1, evidence)

    with pytest.raises(LedgerError, match="no approval was asked"):
        answer(ledger, 1)

    assert not approved(ledger, 1)
