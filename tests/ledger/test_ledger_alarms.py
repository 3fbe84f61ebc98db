"""However many partitions ask, in whatever order: one retraining runs, one waits, and it names all that asked."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.ledger import Ledger, RetrainDecision

YEAR = [f"2013-{month:02d}" for month in range(1, 13)]
SOON = settings(max_examples=10, deadline=None)


def fresh(folder: str) -> Ledger:
    return Ledger.open(f"sqlite:///{Path(folder) / 'ledger.db'}")


def claim(ledger: Ledger, partition: str, reason: str = "gain") -> RetrainDecision | None:
    return ledger.claim("flights", partition, reason, "it would have won 3 %")


def of(ledger: Ledger, state: str) -> list[RetrainDecision]:
    return [d for d in ledger.retrains("flights") if d.state == state]


@SOON
@given(st.permutations(YEAR), st.sampled_from(["gain", "drift"]))
def test_a_year_in_any_order_is_one_retraining_that_names_all_partitions(order, reason):
    with tempfile.TemporaryDirectory() as folder:
        ledger = fresh(folder)
        for partition in order:
            claim(ledger, partition, reason)
        (waits,) = of(ledger, "waiting")
        assert waits.partition == YEAR[-1]
        assert [(a.partition, a.reason) for a in waits.asked] == [(partition, reason) for partition in order]
        assert not of(ledger, "running") and not of(ledger, "done")
        # and the whole year again adds nothing
        before = len(ledger.entries())
        for partition in reversed(order):
            claim(ledger, partition, reason)
        assert len(ledger.entries()) == before


@SOON
@given(st.lists(st.one_of(st.sampled_from(YEAR), st.sampled_from(["start", "done", "failed"])), max_size=40))
def test_at_most_one_runs_and_one_waits_whatever_happens(steps):
    with tempfile.TemporaryDirectory() as folder:
        ledger, asked = fresh(folder), set()
        for step in steps:
            if step in YEAR:
                asked.add(step)
                claim(ledger, step)
            elif step == "start":
                for waiting in of(ledger, "waiting"):
                    ledger.start(waiting.id, f"retrain__{waiting.id}")
            else:
                for running in of(ledger, "running"):
                    ledger.finish(running.id, step)
            states = Counter(d.state for d in ledger.retrains("flights"))
            assert states["running"] <= 1 and states["waiting"] <= 1
            trained = [d.partition for d in of(ledger, "running") + of(ledger, "done")]
            assert len(trained) == len(set(trained))
            assert {a.partition for d in ledger.retrains("flights") for a in d.asked} <= asked
        # whoever asked was answered by a retraining up to its partition or later, or that one failed
        newest = max((d.partition for d in ledger.retrains("flights")), default="")
        assert newest == max(asked, default="")


ALARMS = [300, pytest.param(10_000, marks=pytest.mark.fuzz)] if os.environ.get("MILLRACE_TEST_FUZZ") else [300]


@pytest.mark.parametrize("count", ALARMS)
def test_any_number_of_alarms_is_one_that_runs_and_one_that_waits(tmp_path, count):
    ledger, chance = fresh(str(tmp_path)), random.Random(7)
    first = claim(ledger, "2013-01-01")
    assert first is not None and ledger.start(first.id, "retrain__1")
    days = [f"2013-01-{day:02d}" for day in range(1, 31)]
    reasons, began = ["gain", "drift", "degraded"], time.process_time()
    alarms = [(day, reason) for day in days for reason in reasons]
    for day, reason in chance.sample(alarms, len(alarms)) + chance.choices(alarms, k=count - len(alarms)):
        claim(ledger, day, reason)
    assert time.process_time() - began < 60
    (runs,), (waits,) = of(ledger, "running"), of(ledger, "waiting")
    assert (runs.id, waits.partition) == (first.id, "2013-01-30")
    assert {a.partition for a in waits.asked} == {*days} - {"2013-01-01"}
    assert len(waits.asked) == 29 * 3
    assert "2013-01-07: drift" in waits.why
    assert len(ledger.entries()) < 200


def test_a_lone_reason_is_told_as_it_is(tmp_path):
    decision = claim(fresh(str(tmp_path)), "2013-05")
    assert decision is not None and decision.why == "gain: it would have won 3 %"
