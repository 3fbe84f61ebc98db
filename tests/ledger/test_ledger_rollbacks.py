"""A rollback is one decision, from whatever state; no plan after it names the version, and its model stays away."""

from __future__ import annotations

import pytest
from support.ledger import asked, digest, evidence, promoted, trained, unanchored
from support.rollouts import PIPELINE, SERVING, approved, arm, begun, promote, roll_back, serving, step, traffic

from millrace.contract import Artifact
from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import Ledger, Moved, Registered


def register(ledger: Ledger, version: int, model: int | None = None) -> None:
    artifact = Artifact(uri=f"models/{version}/", digest=digest(model or version), kind="model")
    ledger.record(
        Registered(pipeline=PIPELINE, version=version, model=artifact, evidence=evidence(version), decision=None)
    )


def carry_out(ledger: Ledger, version: int, request_id: str) -> int:
    return ledger.promote(
        PIPELINE, request_id, evidence(version), trained(version), approval=True, anchor=unanchored
    ).version


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_challenger_is_taken_out_wherever_it_is(ledger, steps):
    serving(ledger, 1)
    rollout = begun(ledger, 2)
    for number in range(1, steps + 1):
        step(ledger, rollout, number)

    made = roll_back(ledger, 2)

    assert traffic(made.planned) == ({1: 1.0}, None, None) and made.planned == ledger.plan(PIPELINE)
    assert made.release is None, "the champion stays"
    ended = ledger.rollout(PIPELINE, rollout.id)
    assert (ended.state, ended.how, ended.by, ended.reason) == ("rolled_back", "guard", "server-1", "units met errors")
    assert ledger.quarantined(PIPELINE, digest(2)).version == 2
    with pytest.raises(LedgerError, match="its rollout was rolled back by server-1"):
        promote(ledger, rollout)
    assert step(ledger, rollout, 2).state == "rolled_back"
    assert begun_again(ledger, rollout.id).state == "rolled_back" and 2 not in named(ledger)


def begun_again(ledger: Ledger, request_id: str):
    return ledger.begin_rollout(PIPELINE, request_id, arm(2), serving=SERVING, shadow=1.0, steps=())


def named(ledger: Ledger) -> set[int]:
    return {arm.version for arm in ledger.plan(PIPELINE).versions}


@pytest.mark.parametrize("watched", [True, False])
def test_a_champion_goes_and_the_one_before_comes_back_by_its_own_approval(ledger, watched):
    serving(ledger, 1)
    rollout = promote(ledger, begun(ledger, 2, steps=()))
    if watched:
        ledger.end_rollout(PIPELINE, rollout.id, seen={}, reason="watched")

    made = roll_back(ledger, 2)

    assert traffic(ledger.plan(PIPELINE)) == ({1: 1.0}, None, None), "at once, before the promotion"
    assert (made.release.state, made.release.rollback, made.release.by) == ("approved", True, "ann")
    assert made.release.reuses == ledger.champions(PIPELINE)[0].release
    assert carry_out(ledger, 1, made.release.id) == 1
    assert [c.version for c in ledger.champions(PIPELINE)] == [1, 2, 1]
    assert ledger.champion(PIPELINE).reason == "units met errors"
    assert ledger.rollout(PIPELINE, rollout.id).state == "rolled_back"


def test_what_was_decided_is_decided_once(ledger):
    serving(ledger, 1)
    promote(ledger, begun(ledger, 2, steps=()))
    made = roll_back(ledger, 2)
    count = len(ledger.entries())

    again = roll_back(ledger, 2, why="another guard", by="server-2")
    assert (again, len(ledger.entries())) == (made, count)
    carry_out(ledger, 1, made.release.id)
    count = len(ledger.entries())
    assert roll_back(ledger, 2).release.state == "promoted" and len(ledger.entries()) == count
    assert ledger.champion(PIPELINE).version == 1


def test_a_rollback_between_promotion_and_plan_leaves_no_plan_with_the_version(ledger):
    serving(ledger, 1)
    request = approved(ledger, 2)
    carry_out(ledger, 2, request.id)

    made = roll_back(ledger, 2)
    ledger.complete_rollout(PIPELINE, request.id, arm(2), serving=SERVING)

    assert traffic(ledger.plan(PIPELINE)) == ({1: 1.0}, None, None) and made.release.version == 1


def test_a_champion_without_a_predecessor_leaves_a_plan_without_a_model(ledger):
    serving(ledger, 1)

    made = roll_back(ledger, 1)

    assert traffic(ledger.plan(PIPELINE)) == ({}, None, None) and made.release is None
    assert ledger.champion(PIPELINE).version == 1, "of record, and in quarantine"


def test_only_a_champion_that_persons_approved_comes_back_where_they_must(ledger):
    serving(ledger, 1)
    promoted(ledger, 2)  # automatically, when the environment was another
    request = approved(ledger, 3)
    carry_out(ledger, 3, request.id)
    ledger.complete_rollout(PIPELINE, request.id, arm(3), serving=SERVING)

    assert roll_back(ledger, 3).release.version == 1


def test_a_champion_in_quarantine_does_not_come_back(ledger):
    for version in (1, 2, 3):
        register(ledger, version)
        serving(ledger, version)
    ledger.move(Moved(pipeline=PIPELINE, version=2, to="quarantined", reason="it leaks", by="ann"))

    made = roll_back(ledger, 3)

    assert made.release.version == 1 and traffic(made.planned) == ({1: 1.0}, None, None)
    assert {life.version: life.state for life in ledger.lives(PIPELINE)}[3] == "quarantined"


def test_a_challenger_that_was_compared_with_it_ends_with_the_champion(ledger):
    serving(ledger, 1), serving(ledger, 2)
    on_its_way = begun(ledger, 3)

    roll_back(ledger, 2)

    assert traffic(ledger.plan(PIPELINE)) == ({1: 1.0}, None, None)
    assert ledger.rollout(PIPELINE, on_its_way.id).state == "superseded"
    assert ledger.release_of(PIPELINE, "release__v3").state == "refused"


def test_the_former_champion_goes_and_leaves_a_rollout_as_it_is(ledger):
    serving(ledger, 1), serving(ledger, 2)
    rollout = step(ledger, begun(ledger, 3), 1)
    assert traffic(ledger.plan(PIPELINE)) == ({2: 0.9, 3: 0.1}, None, 1)

    roll_back(ledger, 1)

    assert traffic(ledger.plan(PIPELINE)) == ({2: 0.9, 3: 0.1}, None, None)
    assert ledger.rollout(PIPELINE) == rollout


def test_a_retraining_of_the_same_bytes_is_refused_until_somebody_lets_it(ledger):
    register(ledger, 1), register(ledger, 2), serving(ledger, 1)
    begun(ledger, 2)
    roll_back(ledger, 2)
    register(ledger, 3, model=2)

    with pytest.raises(
        LedgerError, match=r"version 3 cannot be released: its model .* is that of version 2.*met errors"
    ):
        asked(ledger, 3)
    ledger.move(Moved(pipeline=PIPELINE, version=2, to="candidate", reason="it was the network", by="ann"))

    assert asked(ledger, 3).state == "waiting"
    assert ledger.quarantined(PIPELINE, digest(2)) is None
    assert [(e.event.released, e.event.by) for e in ledger.entries(PIPELINE, "quarantine")] == [
        (False, "server-1"), (True, "ann"),
    ]  # fmt: skip


def test_a_release_that_was_approved_before_the_quarantine_is_not_promoted_after_it(ledger):
    serving(ledger, 1)
    rollout = begun(ledger, 2)
    request = approved(ledger, 5)
    roll_back(ledger, 2)

    with pytest.raises(LedgerError, match="is in quarantine"):
        ledger.promote(
            PIPELINE, request.id, evidence(5), trained(5, model=trained(2).model), approval=True, anchor=unanchored
        )
    with pytest.raises(LedgerError, match="is in quarantine"):
        ledger.begin_rollout(PIPELINE, request.id, arm(5, model=digest(2)), serving=SERVING, shadow=1.0, steps=())
    assert rollout.model == digest(2)


def test_a_version_that_nobody_meets_is_not_rolled_back(ledger):
    serving(ledger, 1), register(ledger, 2)
    with pytest.raises(LedgerError, match="answers nothing and is not champion"):
        roll_back(ledger, 2)
    with pytest.raises(LedgerError, match="no such version"):
        roll_back(ledger, 9)


def test_nothing_is_rolled_back_while_a_promotion_is_half_made(ledger):
    serving(ledger, 1)
    promote(ledger, begun(ledger, 2, steps=()))
    request = approved(ledger, 3)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.promote(PIPELINE, request.id, evidence(3), trained(3), approval=True, anchor=killed)
    with pytest.raises(Conflict, match="is just being made"):
        roll_back(ledger, 2)
    ledger.settle(PIPELINE, unanchored)
    assert roll_back(ledger, 2).release is None, "another version is champion by now"
    assert ledger.champion(PIPELINE).version == 3
