"""A request is about one version, one Evidence and one generation; a newer challenger voids what waits, and no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.ledger import asked, automatically, digest, evidence, promoted, said, trained, unanchored
from support.ledger_cluster import together

from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import Ledger, ReleaseRequest


def answer(ledger: Ledger, request: ReleaseRequest, approved: bool = True) -> str:
    return ledger.answer("flights", request.id, said(verdict="approve" if approved else "reject")).state


SOON = datetime.now(UTC) + timedelta(hours=1)
LATER = SOON + timedelta(seconds=1)


def ask_until(ledger: Ledger, version: int, expires: datetime) -> ReleaseRequest:
    return ledger.ask_release(
        "flights", version, evidence(version).digest, run_id=f"release__v{version}", expires=expires
    )


def stands(ledger: Ledger, version: int) -> str:
    request = ledger.release_of("flights", f"release__v{version}")
    return request.state if request else "none"


def carry_out(ledger: Ledger, request: ReleaseRequest, approval: bool = True) -> int:
    version = request.version
    return ledger.promote(
        "flights", request.id, evidence(version), trained(version), approval=approval, anchor=unanchored
    ).generation


def test_nothing_is_promoted_until_a_person_says_so_where_one_must(ledger):
    request = asked(ledger, 1)
    assert (request.state, request.expected_generation, request.rollback) == ("waiting", 0, False)

    with pytest.raises(LedgerError, match="not answered yet"):
        carry_out(ledger, request)
    assert answer(ledger, request) == "approved"

    assert carry_out(ledger, request) == 1
    assert stands(ledger, 1) == "promoted"
    assert [(e.event.state, e.event.by) for e in ledger.entries(kind="approval")] == [
        ("waiting", "nobody"), ("approved", "ann"), ("promoted", "ann"),
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


@pytest.mark.parametrize("end", ["rejected", "expired", "refused", "void"])
def test_what_was_decided_never_becomes_anything_else_and_another_run_asks_anew(ledger, end):
    request = ask_until(ledger, 1, SOON)
    if end == "rejected":
        answer(ledger, request, approved=False)
    elif end == "expired":
        ledger.look("flights", request.id, LATER)
    elif end == "refused":
        ledger.refuse("flights", request.id, "no duel")
    else:
        asked(ledger, 2)

    assert answer(ledger, request) == end
    assert ledger.look("flights", request.id).state == end
    assert ledger.refuse("flights", request.id, "again").state == end
    assert ask_until(ledger, 1, SOON).state == end, "the same run, cleared"
    with pytest.raises(LedgerError, match=f"its release is {end}"):
        carry_out(ledger, request)

    if end == "void":
        return
    again = asked(ledger, 1, run_id="by hand")
    assert (again.state, again.attempt) == ("waiting", 2) and again.id != request.id
    with pytest.raises(LedgerError, match="not answered"):
        carry_out(ledger, again)
    answer(ledger, again)
    assert carry_out(ledger, again) == 1


def test_an_answer_after_the_end_of_a_request_comes_too_late(ledger):
    request = ask_until(ledger, 1, SOON)

    late = ledger.answer("flights", request.id, said(), now=SOON)

    assert (late.state, late.answers) == ("expired", ())


def test_two_approvals_are_two_persons(ledger):
    request = asked(ledger, 1)

    for name, state in (("ann", "waiting"), ("ann", "waiting"), ("bob", "approved"), ("cid", "approved")):
        now = ledger.answer("flights", request.id, said(name), enough=2)
        assert now.state == state
    assert now.by == "ann and bob"


def test_one_rejection_outweighs_the_approvals_before_it(ledger):
    request = asked(ledger, 1)
    ledger.answer("flights", request.id, said("ann"), enough=2)

    assert ledger.answer("flights", request.id, said("bob", "reject"), enough=2).by == "bob"
    assert ledger.answer("flights", request.id, said("cid"), enough=2).state == "rejected"


def test_what_the_environment_approved_by_itself_is_not_what_persons_approved(ledger):
    request = asked(ledger, 1)
    ledger.answer("flights", request.id, automatically())

    with pytest.raises(LedgerError, match="approved by no person"):
        carry_out(ledger, request, approval=True)
    assert carry_out(ledger, request, approval=False) == 1


def test_a_request_for_another_champions_place_ends_when_somebody_looks(ledger):
    promoted(ledger, 1), promoted(ledger, 2)
    back = asked(ledger, 1, run_id="rollback")
    promoted(ledger, 3)

    assert ledger.look("flights", back.id).note == "another version became champion meanwhile"


def test_of_two_runs_for_one_version_both_stand_for_one_request_and_both_requesters_count(ledger):
    first = ledger.ask_release("flights", 1, evidence(1).digest, run_id="a", requesters=["ann"])
    second = ledger.ask_release("flights", 1, evidence(1).digest, run_id="b", requesters=["bob"])

    assert (second.id, second.runs, second.requesters) == (first.id, ("a", "b"), ("ann", "bob"))
    assert ledger.release_of("flights", "a") == second


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


def test_a_version_whose_request_was_void_may_be_asked_for_by_another_run_once_the_newer_one_is_decided(ledger):
    newer = asked(ledger, 3)
    assert asked(ledger, 2).state == "void"
    ledger.refuse("flights", newer.id, "its evidence has gaps")

    assert asked(ledger, 2).state == "void"
    assert asked(ledger, 2, run_id="by hand").state == "waiting"


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
    assert asked(ledger, 1, run_id="rollback").id == back.id
    again = asked(ledger, 1, run_id="rollback once more")

    assert again.id != back.id and again.state == "waiting"
    assert ledger.release_of("flights", "rollback once more") == again


def test_an_answer_to_what_nobody_asked_is_refused(ledger):
    with pytest.raises(LedgerError, match="no such release was asked for"):
        ledger.answer("flights", "nonsense", said())
    asked(ledger, 1, pipeline="trains")
    with pytest.raises(LedgerError, match="no such release"):
        ledger.answer("flights", ledger.release_of("trains", "release__v1").id, said())


def ask(url, name, go):
    ledger = Ledger.open(url)
    go()
    return asked(ledger, int(name)).state


def test_of_challengers_that_come_at_once_the_newest_waits_alone(ledger, url):
    together(ask, url, ["1", "2", "3", "4"])

    assert [stands(ledger, version) for version in (1, 2, 3, 4)] == ["void"] * 3 + ["waiting"]
