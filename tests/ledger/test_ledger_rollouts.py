"""A rollout and the plan that follows from it change together; two of a pipeline never overlap."""

from __future__ import annotations

import pytest
from support.ledger import asked, digest, evidence, trained, unanchored
from support.rollouts import (
    PIPELINE,
    SERVING,
    approved,
    arm,
    begun,
    promote,
    promoted,
    roll_back,
    serving,
    step,
    traffic,
)

from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import Ledger, rollout_words
from millrace.store.plans import TrafficPlan


def test_a_version_takes_over_step_by_step_and_each_move_makes_the_plan_that_follows(ledger):
    serving(ledger, 1)
    assert traffic(ledger.plan(PIPELINE)) == ({1: 1.0}, None, None)

    rollout = begun(ledger, 2)
    assert traffic(ledger.plan(PIPELINE)) == ({1: 1.0}, 2, None)
    first = ledger.plan(PIPELINE)
    rollout = step(ledger, rollout, 1)
    assert traffic(ledger.plan(PIPELINE)) == ({1: 0.9, 2: 0.1}, None, None)
    rollout = step(ledger, rollout, 2)
    assert traffic(ledger.plan(PIPELINE)) == ({1: 0.5, 2: 0.5}, None, None)
    rollout = promote(ledger, rollout)
    assert traffic(ledger.plan(PIPELINE)) == ({2: 1.0}, None, 1)

    assert rollout.state == "full" and ledger.rollout(PIPELINE) == rollout
    ledger.end_rollout(PIPELINE, rollout.id, seen={"units": 9}, reason="watched for an hour")
    assert ledger.rollout(PIPELINE) is None and ledger.rollout(PIPELINE, rollout.id).state == "done"
    plans = [entry.event for entry in ledger.entries(PIPELINE, "plan")]
    assert [each.generation for each in plans] == [1, 2, 3, 4, 5, 6, 7]
    assert {each.salt for each in plans[2:]} == {first.salt} and {each.since for each in plans[2:]} == {3}
    # guards look from the shadow until the watch is over, and at nobody after it
    assert [each.watched for each in plans] == [True, False, True, True, True, True, False]
    for each in plans:  # the copy in the store takes each as it is
        copy = TrafficPlan.model_validate({**each.in_store(), "serving": {}})
        assert (copy.pipeline, copy.generation) == (PIPELINE, each.generation)
    assert ledger.verify() == len(ledger.entries())


def test_guards_leave_the_champion_alone_once_nothing_is_on_its_way(ledger):
    serving(ledger, 1)
    promote(ledger, step(ledger, step(ledger, begun(ledger, 2), 1), 2))
    ledger.end_rollout(PIPELINE, ledger.rollout(PIPELINE).id, seen={}, reason="watched")
    begun(ledger, 3)
    ledger.steer(PIPELINE, "abort", by="ann", reason="no")
    assert traffic(ledger.plan(PIPELINE)) == ({2: 1.0}, None, 1) and not ledger.plan(PIPELINE).watched

    begun(ledger, 4)
    assert ledger.plan(PIPELINE).watched
    ledger.toggle(PIPELINE, by="ann", reason="one moment", stopped=True)
    assert ledger.plan(PIPELINE).watched
    roll_back(ledger, 4)
    assert traffic(ledger.plan(PIPELINE)) == ({2: 1.0}, None, 1) and not ledger.plan(PIPELINE).watched


def test_who_says_it_again_changes_nothing(ledger):
    serving(ledger, 1)
    rollout = begun(ledger, 2)
    step(ledger, rollout, 1)
    count = len(ledger.entries())

    again = ledger.begin_rollout(PIPELINE, rollout.id, arm(2), serving=SERVING, shadow=1.0, steps=(0.9,))
    assert (again.state, again.step) == ("step", 1) == (step(ledger, rollout, 1).state, step(ledger, rollout, 1).step)
    assert len(ledger.entries()) == count
    promote(ledger, step(ledger, rollout, 2))
    count = len(ledger.entries())
    assert promote(ledger, rollout).state == "full" and len(ledger.entries()) == count


def test_a_version_nobody_approved_meets_nobody(ledger):
    serving(ledger, 1)
    request = asked(ledger, 2)

    with pytest.raises(LedgerError, match="its release is not answered yet"):
        ledger.begin_rollout(PIPELINE, request.id, arm(2), serving=SERVING, shadow=1.0, steps=())
    assert traffic(ledger.plan(PIPELINE)) == ({1: 1.0}, None, None)


def test_without_a_shadow_it_begins_at_the_first_step_and_with_neither_not_at_all(ledger):
    serving(ledger, 1)
    assert begun(ledger, 2, shadow=None).state == "step"
    assert traffic(ledger.plan(PIPELINE)) == ({1: 0.9, 2: 0.1}, None, None)
    ledger.steer(PIPELINE, "abort", by="ann", reason="no")
    with pytest.raises(LedgerError, match="promoted at once"):
        begun(ledger, 3, shadow=None, steps=())


def test_steps_are_taken_one_after_the_other_and_the_last_is_followed_by_the_promotion(ledger):
    serving(ledger, 1)
    rollout = begun(ledger, 2)

    with pytest.raises(LedgerError, match="cannot go on to step 2"):
        step(ledger, rollout, 2)
    with pytest.raises(LedgerError, match="its rollout is in shadow"):
        promote(ledger, rollout)
    step(ledger, rollout, 1)
    with pytest.raises(LedgerError, match="its rollout is at step 1 of 2"):
        promote(ledger, rollout)
    step(ledger, rollout, 2)
    with pytest.raises(LedgerError, match="cannot go on to step 3"):
        step(ledger, rollout, 3)
    assert promote(ledger, rollout).state == "full"


def test_two_rollouts_never_overlap_and_the_newer_one_ends_the_older(ledger):
    serving(ledger, 1)
    older = begun(ledger, 2)
    newer = begun(ledger, 3)

    assert ledger.rollout(PIPELINE, older.id).state == "superseded"
    assert ledger.release_of(PIPELINE, "release__v2").state == "refused"
    assert traffic(ledger.plan(PIPELINE)) == ({1: 1.0}, 3, None)
    with pytest.raises(LedgerError, match="refused"):
        promote(ledger, older)
    assert step(ledger, older, 1).state == "superseded"
    assert ledger.rollout(PIPELINE) == newer


def test_an_older_version_does_not_end_the_rollout_of_a_newer_one(ledger):
    serving(ledger, 1)
    older = approved(ledger, 2)
    newer = begun(ledger, 3)

    with pytest.raises(Conflict, match="a rollout of flights version 3 is under way"):
        ledger.begin_rollout(PIPELINE, older.id, arm(2), serving=SERVING, shadow=1.0, steps=())
    assert ledger.rollout(PIPELINE) == newer


def test_nothing_begins_where_the_champion_answers_by_no_plan(ledger):
    promoted(ledger, 1)
    with pytest.raises(Conflict, match="the champion answers by no plan"):
        begun(ledger, 2)
    # and its promotion makes the first plan, with the champion before to go back to
    made = approved(ledger, 3)
    ledger.promote(PIPELINE, made.id, evidence(3), trained(3), approval=True, anchor=unanchored)
    ledger.complete_rollout(PIPELINE, made.id, arm(3), serving=SERVING, former=arm(1))
    assert traffic(ledger.plan(PIPELINE)) == ({3: 1.0}, None, 1)


def test_a_challenger_of_a_champion_that_is_gone_begins_nothing(ledger):
    serving(ledger, 1)
    late = approved(ledger, 2)
    serving(ledger, 3)

    with pytest.raises(Conflict, match="another version became champion meanwhile"):
        ledger.begin_rollout(PIPELINE, late.id, arm(2), serving=SERVING, shadow=1.0, steps=())


def test_a_person_pauses_resumes_and_hastens(ledger):
    serving(ledger, 1)
    rollout = begun(ledger, 2)
    before = ledger.plan(PIPELINE)
    paused = ledger.steer(PIPELINE, "pause", by="ann", reason="lunch")

    assert rollout_words(paused) == "in shadow, paused by ann: lunch"
    assert step(ledger, rollout, 1).state == "shadow", "what was paused meanwhile stays"
    assert ledger.plan(PIPELINE) == before
    assert ledger.steer(PIPELINE, "resume", by="ann", reason="back").paused is False
    hastened = ledger.steer(PIPELINE, "hasten", by="bob", reason="it is urgent")
    assert hastened.hastened and (hastened.by, hastened.how) == ("bob", "person")
    assert step(ledger, rollout, 1).hastened is False, "of one step only"


def test_an_abort_leaves_the_champion_alone_and_ends_the_release(ledger):
    serving(ledger, 1)
    rollout = step(ledger, begun(ledger, 2), 1)

    ledger.steer(PIPELINE, "abort", by="ann", reason="wrong data")

    assert traffic(ledger.plan(PIPELINE)) == ({1: 1.0}, None, None)
    assert ledger.quarantined(PIPELINE, digest(2)) is None
    with pytest.raises(LedgerError, match="its rollout was aborted by ann: wrong data"):
        promote(ledger, rollout)
    with pytest.raises(LedgerError, match="no rollout of flights is under way"):
        ledger.steer(PIPELINE, "pause", by="ann", reason="x")
    assert ledger.steer(PIPELINE, "abort", by="bob", reason="me too", rollout_id=rollout.id).by == "ann"


def test_a_champion_cannot_be_aborted(ledger):
    serving(ledger, 1)
    promote(ledger, begun(ledger, 2, steps=()))
    with pytest.raises(LedgerError, match="is champion already: it cannot be aborted"):
        ledger.steer(PIPELINE, "abort", by="ann", reason="x")


def test_what_persons_switch_is_in_the_plan_and_goes_with_its_version(ledger):
    with pytest.raises(LedgerError, match="has no traffic plan"):
        ledger.toggle(PIPELINE, by="ann", reason="x", stopped=True)
    serving(ledger, 1)
    stopped = ledger.toggle(PIPELINE, by="ann", reason="fire", stopped=True)
    assert stopped.toggles.stopped and ledger.toggle(PIPELINE, by="ann", reason="fire", stopped=True) == stopped
    assert not ledger.toggle(PIPELINE, by="ann", reason="out").toggles.stopped
    with pytest.raises(LedgerError, match="does not name this version"):
        ledger.toggle(PIPELINE, by="ann", reason="x", version=2)

    begun(ledger, 2)
    assert ledger.toggle(PIPELINE, by="ann", reason="test", version=2).toggles.version == 2
    assert step(ledger, ledger.rollout(PIPELINE), 1) and ledger.plan(PIPELINE).toggles.version == 2
    assert roll_back(ledger, 2).planned.toggles.version is None
    assert [entry.event.by for entry in ledger.entries(PIPELINE, "toggle")] == ["ann"] * 3


def test_a_plan_is_what_the_ledger_itself_writes(ledger: Ledger):
    serving(ledger, 1)
    for event in (ledger.plan(PIPELINE), ledger.rollout(PIPELINE, ledger.plan(PIPELINE).rollout)):
        with pytest.raises(LedgerError, match="written by the ledger itself"):
            ledger.record(event)
