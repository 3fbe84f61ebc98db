"""A request is about one version, one Evidence and one generation; a newer challenger voids what waits, and no more."""

from __future__ import annotations

import pytest
from support.ledger import asked, digest, evidence, promoted, trained
from support.ledger_cluster import together

from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import Ledger, ReleaseRequest


def answer(ledger: Ledger, request: ReleaseRequest, approved: bool = True) -> str:
    return ledger.answer("flights", request.id, approved=approved, by="ann").state


def stands(ledger: Ledger, version: int) -> str:
    request = ledger.release_of("flights", f"release__v{version}")
    return request.state if request else "none"


def carry_out(ledger: Ledger, request: ReleaseRequest, approval: bool = True) -> int:
    version = request.version
    return ledger.promote("flights", request.id, evidence(version), trained(version), approval=approval).generation


def test_nothing_is_promoted_until_a_person_says_so_where_one_must(ledger):
    request = asked(ledger, 1)
    assert (request.state, request.expected_generation, request.rollback) == ("waiting", 0, False)

    with pytest.raises(LedgerError, match="not answered yet"):
        carry_out(ledger, request)
    assert answer(ledger, request) == "approved"

    assert carry_out(ledger, request) == 1
    assert stands(ledger, 1) == "promoted"
    assert [(e.body["state"], e.body["by"]) for e in ledger.entries(kind="approval")] == [
        ("waiting", None), ("approved", "ann"), ("promoted", "ann"),
    ]  # fmt: skip


@pytest.mark.parametrize("approval", [True, False])
def test_what_was_decided_otherwise_is_not_promoted(ledger, approval):
    rejected, refused = asked(ledger, 1), asked(ledger, 2)
    answer(ledger, rejected, approved=False)
    ledger.refuse("flights", refused.id, "no duel")
    void = asked(ledger, 3)
    asked(ledger, 4)

    for request, words in ((rejected, "void, since version 2"), (refused, "refused: no duel"), (void, "void")):
        with pytest.raises(LedgerError, match=words):
            carry_out(ledger, request, approval)
    assert ledger.champion("flights") is None


def test_a_rejection_ends_a_request_until_it_is_asked_and_answered_again(ledger):
    request = asked(ledger, 1)
    assert answer(ledger, request, approved=False) == "rejected"
    with pytest.raises(LedgerError, match="rejected by ann"):
        carry_out(ledger, request)

    assert asked(ledger, 1).state == "waiting"
    with pytest.raises(LedgerError, match="not answered"):
        carry_out(ledger, request)
    answer(ledger, request)

    assert carry_out(ledger, request) == 1


def test_a_newer_challenger_voids_what_waits_and_nothing_else(ledger):
    first = asked(ledger, 1)
    answer(ledger, first)
    second, third = asked(ledger, 2), asked(ledger, 3)

    assert (stands(ledger, 1), stands(ledger, 2), stands(ledger, 3)) == ("approved", "void", "waiting")
    assert answer(ledger, second) == "void"
    assert answer(ledger, third) == "approved"


def test_a_request_that_comes_after_a_newer_one_is_void_at_once(ledger):
    asked(ledger, 3)

    older = [asked(ledger, 2) for _ in range(2)]

    assert [(r.state, r.newer) for r in older] == [("void", 3)] * 2
    assert answer(ledger, older[0]) == "void"
    assert len(ledger.entries(kind="approval", subject=older[0].id)) == 1


def test_a_void_request_may_wait_again_once_the_newer_one_is_decided(ledger):
    newer = asked(ledger, 3)
    asked(ledger, 2)
    ledger.refuse("flights", newer.id, "its evidence has gaps")

    assert asked(ledger, 2).state == "waiting"


def test_asking_and_answering_again_changes_nothing(ledger):
    request = asked(ledger, 1)
    asked(ledger, 1), answer(ledger, request), answer(ledger, request)

    assert asked(ledger, 1).state == "approved"
    assert len(ledger.entries(kind="approval")) == 2


def test_other_evidence_is_another_request(ledger):
    first = asked(ledger, 1)
    answer(ledger, first)

    other = ledger.ask_release("flights", 1, digest(7), run_id="another", reason="")

    assert other.id != first.id and other.state == "waiting"


def test_a_decided_request_is_not_a_decided_version(ledger):
    # given: version 1 was approved and promoted, and version 2 after it
    first = asked(ledger, 1)
    answer(ledger, first), carry_out(ledger, first)
    promoted(ledger, 2)

    # when: version 1 is asked back
    back = asked(ledger, 1, run_id="rollback")

    # then: it takes an approval of its own
    assert back.rollback and back.id != first.id and back.expected_generation == 2
    with pytest.raises(LedgerError, match="not answered yet"):
        carry_out(ledger, back)
    answer(ledger, back)
    assert carry_out(ledger, back) == 3
    assert ledger.champion("flights").version == 1


def test_a_rollback_neither_voids_nor_is_voided_by_challengers(ledger):
    promoted(ledger, 1), promoted(ledger, 2)
    asked(ledger, 3)

    back = asked(ledger, 1, run_id="rollback")
    assert (back.state, stands(ledger, 3)) == ("waiting", "waiting")
    asked(ledger, 4)

    assert ledger.release_of("flights", "rollback").state == "waiting"
    assert (stands(ledger, 3), stands(ledger, 4)) == ("void", "waiting")


def test_a_rollback_that_was_asked_under_an_earlier_champion_is_asked_again(ledger):
    promoted(ledger, 1), promoted(ledger, 2)
    back = asked(ledger, 1, run_id="rollback")
    answer(ledger, back)
    promoted(ledger, 3)

    with pytest.raises(Conflict, match="not the expected 2"):
        carry_out(ledger, back)
    again = asked(ledger, 1, run_id="rollback")

    assert again.id != back.id and again.state == "waiting"
    assert ledger.release_of("flights", "rollback") == again


def test_an_answer_to_what_nobody_asked_is_refused(ledger):
    with pytest.raises(LedgerError, match="no such release was asked for"):
        ledger.answer("flights", "nonsense", approved=True, by="ann")
    asked(ledger, 1, pipeline="trains")
    with pytest.raises(LedgerError, match="no such release"):
        ledger.answer("flights", ledger.release_of("trains", "release__v1").id, approved=True, by="ann")


def ask(url, name, go):
    ledger = Ledger.open(url)
    go()
    return asked(ledger, int(name)).state


def test_of_challengers_that_come_at_once_the_newest_waits_alone(ledger, url):
    together(ask, url, ["1", "2", "3", "4"])

    assert [stands(ledger, version) for version in (1, 2, 3, 4)] == ["void"] * 3 + ["waiting"]
