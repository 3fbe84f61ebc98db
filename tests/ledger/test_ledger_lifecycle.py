"""The state of a version follows from the record, and moves that must not be are refused."""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ledger import artifact, asked, evidence, promoted, said

from millrace.core.errors import LedgerError, MillraceError
from millrace.ledger import Ledger, Life, Moved, Registered
from millrace.ledger.lifecycle import MOVES, state


def register(ledger: Ledger, *versions: int) -> None:
    for version in versions:
        ledger.record(
            Registered(
                pipeline="flights", version=version, model=artifact("model", version), evidence=evidence(version),
                decision=None, run=None, requester=None,
            )
        )  # fmt: skip


def moved(version: int, to: str, reason: str = "it leaks the label") -> Moved:
    return Moved(pipeline="flights", version=version, to=to, reason=reason, by="ann")


def states(ledger: Ledger) -> dict[int, str]:
    return {life.version: life.state for life in ledger.lives("flights")}


def test_a_version_goes_from_candidate_to_champion_and_back(ledger):
    assert ledger.lives("flights") == []
    register(ledger, 1, 2)
    assert states(ledger) == {1: "candidate", 2: "candidate"}

    asked(ledger, 1)
    assert states(ledger) == {1: "challenger", 2: "candidate"}
    promoted(ledger, 1)
    assert states(ledger) == {1: "champion", 2: "candidate"}
    promoted(ledger, 2)
    assert states(ledger) == {1: "candidate", 2: "champion"}
    asked(ledger, 1, run_id="rollback")
    assert states(ledger) == {1: "challenger", 2: "champion"}


def test_a_challenger_whose_release_ends_otherwise_is_a_candidate_again(ledger):
    register(ledger, 1)
    ledger.answer("flights", asked(ledger, 1).id, said("bob", "reject"))

    assert states(ledger) == {1: "candidate"}


@pytest.mark.parametrize("approved", [False, True])
def test_a_quarantine_ends_the_request_and_none_is_made_while_it_lasts(ledger, approved):
    register(ledger, 1)
    request = asked(ledger, 1)
    if approved:
        ledger.answer("flights", request.id, said())

    life = ledger.move(moved(1, "quarantined"))

    assert (life.state, life.serving, life.moved.reason) == ("quarantined", False, "it leaks the label")
    assert ledger.release_of("flights", "release__v1").note == "quarantined by ann: it leaks the label"
    with pytest.raises(LedgerError, match="version 1 is quarantined and cannot be released: it leaks the label"):
        asked(ledger, 1, run_id="another")
    with pytest.raises(LedgerError, match="refused"):
        ledger.promote("flights", request.id, evidence(1), None, approval=False, anchor=lambda *_: None)
    assert ledger.champion("flights") is None

    # and when it is over
    assert ledger.move(moved(1, "candidate", "checked: it does not")).state == "candidate"
    assert asked(ledger, 1, run_id="another").state == "waiting"


def test_a_champion_in_quarantine_stays_of_record_and_is_told(ledger):
    register(ledger, 1, 2)
    promoted(ledger, 1)

    life = ledger.move(moved(1, "quarantined"))

    assert (life.state, life.serving) == ("quarantined", True)
    assert ledger.champion("flights").version == 1
    with pytest.raises(LedgerError, match="still the champion of record: it cannot become retired"):
        ledger.move(moved(1, "retired"))
    promoted(ledger, 2)
    assert ledger.move(moved(1, "retired")).state == "retired"
    assert [(life.state, life.serving) for life in ledger.lives("flights")] == [("retired", False), ("champion", True)]


def test_a_quarantined_version_does_not_come_back_by_a_rollback(ledger):
    register(ledger, 1, 2)
    promoted(ledger, 1), promoted(ledger, 2)
    ledger.move(moved(1, "quarantined"))

    with pytest.raises(LedgerError, match="cannot be released"):
        asked(ledger, 1, run_id="rollback")


def test_what_has_retired_never_comes_back(ledger):
    register(ledger, 1)
    ledger.move(moved(1, "retired", "too old"))

    for to in ("quarantined", "candidate"):
        with pytest.raises(LedgerError, match=f"version 1 is retired: it cannot become {to}"):
            ledger.move(moved(1, to))
    with pytest.raises(LedgerError, match="retired and cannot be released: too old"):
        asked(ledger, 1)


def test_a_move_that_is_made_already_changes_nothing(ledger):
    register(ledger, 1)
    first = ledger.move(moved(1, "quarantined"))

    assert ledger.move(moved(1, "quarantined")) == ledger.move(moved(1, "quarantined", "again")) == first
    assert len(ledger.entries(kind="lifecycle")) == 1


@pytest.mark.parametrize("serving", [False, True])
def test_only_what_is_in_quarantine_is_reinstated(ledger, serving):
    register(ledger, 1)
    promoted(ledger, 1) if serving else asked(ledger, 1)

    with pytest.raises(LedgerError, match="only what is in quarantine is reinstated"):
        ledger.move(moved(1, "candidate"))


def test_a_version_that_was_never_registered_is_not_moved(ledger):
    register(ledger, 3)

    with pytest.raises(LedgerError, match="no such version of flights was registered .given: 4.; allowed: 3"):
        ledger.move(moved(4, "quarantined"))


def test_a_move_is_not_written_past_its_method(ledger):
    with pytest.raises(LedgerError, match="written by the ledger itself"):
        ledger.record(moved(1, "quarantined"))


def test_the_state_is_one_of_five_whatever_the_record_says():
    for serving, asked_for, to in product((False, True), (False, True), (None, "quarantined", "retired", "candidate")):
        assert state(serving=serving, asked=asked_for, moved=moved(1, to) if to else None) in MOVES


STEPS = st.tuples(
    st.sampled_from(["ask", "approve", "reject", "promote", "quarantined", "candidate", "retired"]), st.integers(1, 3)
)


def take(ledger: Ledger, step: str, version: int, number: int) -> None:
    if step in ("quarantined", "candidate", "retired"):
        ledger.move(moved(version, step, f"step {number}"))
    elif step == "ask":
        asked(ledger, version, run_id=f"run{number}")
    elif step == "promote":
        promoted(ledger, version)
    else:
        for entry in ledger.entries(kind="approval"):
            if entry.event.version == version:
                ledger.answer("flights", entry.subject, said("ann", step))


@settings(max_examples=20)
@given(st.lists(STEPS, max_size=12))
def test_whatever_is_tried_a_version_moves_as_it_may_and_one_at_most_is_champion(steps):
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(f"sqlite:///{Path(folder) / 'ledger.db'}")
        register(ledger, 1, 2, 3)
        before: dict[int, Life] = {life.version: life for life in ledger.lives("flights")}
        for number, (step, version) in enumerate(steps):
            try:
                take(ledger, step, version, number)
            except MillraceError:
                pass
            now = {life.version: life for life in ledger.lives("flights")}
            assert sum(life.serving for life in now.values()) <= 1
            for each in now.values():
                was = before[each.version].state
                # A promotion of one step is asked for within it; a reinstated champion is champion again at once.
                through = {*MOVES[was], *(later for first in MOVES[was] for later in MOVES[first])}
                assert each.state == was or each.state in through
                if was == "retired" or (was == "quarantined" and step != "candidate"):
                    assert each.state in (was, "retired") and each.serving <= before[each.version].serving
            before = now
        assert ledger.verify() == len(ledger.entries())
