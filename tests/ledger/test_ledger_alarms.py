"""However many partitions ask, in whatever order: one retraining runs, one waits, and it names all that asked."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ledger_cluster import together

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


DAYS = [f"2013-01-{day:02d}" for day in range(1, 31)]
REASONS = ["gain", "drift", "degraded"]
PROCESSES = 8
ALARMS = [400, pytest.param(10_000, marks=pytest.mark.fuzz)] if os.environ.get("MILLRACE_TEST_FUZZ") else [400]


def alarm(url: str, name: str, go: Callable[[], object]) -> float:
    """One of several processes: every reason of every day once, in an order of its own, then any again and again."""
    seed, count = map(int, name.split("/"))
    ledger, chance = Ledger.open(url), random.Random(seed)
    alarms = [(day, reason) for day in DAYS for reason in REASONS]
    mine = alarms[seed::PROCESSES]
    mine += chance.choices(alarms, k=count // PROCESSES - len(mine))
    chance.shuffle(mine)
    go()
    began = time.monotonic()
    for day, reason in mine:
        claim(ledger, day, reason)
    return time.monotonic() - began


@pytest.mark.parametrize("count", ALARMS)
def test_any_number_of_alarms_at_once_is_one_that_runs_and_one_that_waits(url, count):
    ledger = Ledger.open(url)
    first = claim(ledger, "2013-01-01")
    assert first is not None and ledger.start(first.id, "retrain__1")

    took = together(alarm, url, [f"{number}/{count}" for number in range(PROCESSES)], limit=300)

    (runs,), (waits,) = of(ledger, "running"), of(ledger, "waiting")
    assert (runs.id, waits.partition) == (first.id, "2013-01-30")
    assert {(a.partition, a.reason) for a in waits.asked} == {(d, r) for d in DAYS[1:] for r in REASONS}
    assert "2013-01-07: drift" in waits.why
    assert len(ledger.entries()) < 200
    assert ledger.verify() == len(ledger.entries())
    print(f"{count} alarms of {PROCESSES} processes: {max(took):.1f} s")


def test_a_lone_reason_is_told_as_it_is(tmp_path):
    decision = claim(fresh(str(tmp_path)), "2013-05")
    assert decision is not None and decision.why == "gain: it would have won 3 %"
