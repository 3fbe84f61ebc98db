"""Per pipeline at most one retraining runs and one waits, and a replay of old partitions causes at most one."""

from __future__ import annotations

from collections import Counter

import pytest

from millrace.core.errors import LedgerError
from millrace.ledger import Ledger, RetrainDecision


def claim(ledger: Ledger, partition: str, pipeline: str = "flights") -> RetrainDecision | None:
    return ledger.claim(pipeline, partition, "performance", "worse by 0.1")


def running(ledger: Ledger, partition: str) -> RetrainDecision:
    decision = claim(ledger, partition)
    assert decision is not None and ledger.start(decision.id, f"retrain__{decision.id}")
    return decision


def states(ledger: Ledger) -> dict[str, str]:
    return {f"{d.partition}#{d.attempt}": d.state for d in ledger.retrains("flights")}


def test_a_decision_waits_runs_and_ends(ledger):
    decision = claim(ledger, "2013-05")

    assert decision is not None and (decision.attempt, decision.state) == (1, "waiting")
    assert ledger.start(decision.id, "run")
    assert states(ledger) == {"2013-05#1": "running"}
    assert ledger.finish(decision.id, "done").state == "done"
    assert [e.body["state"] for e in ledger.entries(kind="retrain")] == ["waiting", "running", "done"]
    assert ledger.retrains("flights")[0].message == "worse by 0.1"


def test_who_was_killed_after_the_claim_gets_the_same_decision_again(ledger):
    first = claim(ledger, "2013-05")

    assert claim(ledger, "2013-05") == first
    assert len(ledger.entries(kind="retrain")) == 1


@pytest.mark.parametrize("end", [None, "done"])
def test_a_replay_of_a_partition_whose_decision_started_causes_none(ledger, end):
    decision = running(ledger, "2013-05")
    if end:
        ledger.finish(decision.id, end)

    assert claim(ledger, "2013-05") is None


def test_a_decision_that_failed_is_made_again_under_another_run_id(ledger):
    first = running(ledger, "2013-05")
    ledger.finish(first.id, "failed")

    second = claim(ledger, "2013-05")

    assert second is not None and second.attempt == 2 and second.id != first.id
    assert claim(ledger, "2013-05") == second


def test_one_waits_behind_the_one_that_runs(ledger):
    running(ledger, "2013-05")

    assert claim(ledger, "2013-06") is not None
    assert states(ledger) == {"2013-05#1": "running", "2013-06#1": "waiting"}


def test_the_slot_is_kept_against_earlier_partitions(ledger):
    claim(ledger, "2013-06")

    assert [claim(ledger, f"2013-0{m}") for m in (5, 4, 1)] == [None, None, None]
    assert states(ledger) == {"2013-06#1": "waiting"}


@pytest.mark.parametrize("end", [None, "done"])
def test_a_replay_of_earlier_partitions_causes_none_once_a_later_one_was_trained(ledger, end):
    decision = running(ledger, "2013-06")
    if end:
        ledger.finish(decision.id, end)

    assert [claim(ledger, f"2013-0{m}") for m in (1, 2, 3, 4, 5)] == [None] * 5


def test_a_newer_decision_supersedes_a_waiting_one_whose_run_then_exits(ledger):
    old, new = claim(ledger, "2013-05"), claim(ledger, "2013-06")

    assert old is not None and new is not None
    assert states(ledger) == {"2013-05#1": "superseded", "2013-06#1": "waiting"}
    assert not ledger.start(old.id, "old run")
    assert ledger.start(new.id, "new run")
    assert claim(ledger, "2013-05") is None


def test_the_same_run_may_start_again_after_a_kill_and_no_other(ledger):
    decision = running(ledger, "2013-05")

    assert ledger.start(decision.id, f"retrain__{decision.id}")
    assert not ledger.start(decision.id, "another run")
    assert len(ledger.entries(kind="retrain")) == 2


@pytest.mark.parametrize("end", ["done", "superseded"])
def test_a_decision_that_ended_does_not_start(ledger, end):
    decision = running(ledger, "2013-05")
    ledger.finish(decision.id, end)

    assert not ledger.start(decision.id, f"retrain__{decision.id}")
    assert ledger.finish(decision.id, "failed").state == end


def test_a_run_that_died_without_a_word_is_closed_by_the_next(ledger):
    dead = running(ledger, "2013-05")

    running(ledger, "2013-06")

    assert states(ledger) == {"2013-05#1": "failed", "2013-06#1": "running"}
    assert "left running" in ledger.retrains("flights")[0].note
    assert Counter(states(ledger).values())["running"] == 1
    assert not ledger.start(dead.id, f"retrain__{dead.id}"), "a newer decision stands"


def test_a_cleared_run_takes_its_failed_decision_up_again(ledger):
    decision = running(ledger, "2013-05")
    ledger.finish(decision.id, "failed")

    assert not ledger.start(decision.id, "another run")
    assert ledger.start(decision.id, f"retrain__{decision.id}")
    assert states(ledger) == {"2013-05#1": "running"}


def test_a_run_that_goes_on_after_its_failed_task_was_cleared_ends_as_done(ledger):
    decision = running(ledger, "2013-05")
    ledger.finish(decision.id, "failed")

    assert ledger.finish(decision.id, "done").state == "done"
    assert claim(ledger, "2013-05") is None


def test_ending_again_changes_nothing(ledger):
    decision = running(ledger, "2013-05")
    ledger.finish(decision.id, "done"), ledger.finish(decision.id, "done")

    assert len(ledger.entries(kind="retrain")) == 3


def test_the_cooldown_starts_at_the_latest_partition_that_was_not_lost(ledger):
    assert ledger.standing("flights") == []
    done = running(ledger, "2013-05")
    ledger.finish(done.id, "done")
    failed = running(ledger, "2013-07")
    ledger.finish(failed.id, "failed")
    claim(ledger, "2013-08"), claim(ledger, "2013-09")
    ledger.finish(ledger.retrains("flights")[-1].id, "failed")

    assert [d.partition for d in ledger.standing("flights")] == ["2013-05"]


def test_pipelines_do_not_share_the_slot(ledger):
    one, two = claim(ledger, "2013-05"), claim(ledger, "2013-05", "trains")

    assert one is not None and two is not None and one.id != two.id


def test_an_unknown_decision_says_what_to_do(ledger):
    with pytest.raises(LedgerError, match="train by hand"):
        ledger.start("nonsense", "run")
