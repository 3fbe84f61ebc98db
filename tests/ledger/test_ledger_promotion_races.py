"""Eight processes that promote again and again, some of them killed around an anchor: one champion a generation, and a
record that the anchors confirm. `make chaos` has them try a thousand times each."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.ledger import evidence, said, trained
from support.ledger_cluster import FORK

from millrace.core.errors import Conflict, LedgerError, Unavailable
from millrace.ledger import Ledger
from millrace.store import open_store
from millrace.store.anchors import Anchors

RACERS = 8
ROUNDS = int(os.environ.get("MILLRACE_TEST_RACES", "25"))
pytestmark = pytest.mark.timeout(300 + 4 * ROUNDS)


class Killed(BaseException):
    """Stands for a process that ends here: nothing catches it on the way."""


def race(url: str, folder: Path, racer: int, barrier: Any, answers: Any) -> None:
    """Promote one version after another; one time in three die before the anchor is put, or right after."""
    ledger, anchors, chance = Ledger.open(url), Anchors(open_store(folder), outside=False), random.Random(racer)
    counted: Counter[str] = Counter()

    def anchor(*entry: Any) -> None:
        fate = chance.randrange(6)
        if fate == 0:
            raise Killed
        anchors.put(*entry)
        if fate == 1:
            raise Killed

    barrier.wait(60)
    for number in range(ROUNDS):
        version = 1 + number * RACERS + racer
        try:
            request = ledger.ask_release(
                "flights", version, evidence(version).digest, run_id=f"{racer}/{number}", reason="a race"
            )
            for name in ("ann", "ben"):
                ledger.answer("flights", request.id, said(name), enough=2)
            ledger.promote("flights", request.id, evidence(version), trained(version), approval=True, anchor=anchor)
            counted["won"] += 1
        except Killed:
            counted["killed"] += 1
        except (Conflict, LedgerError):
            counted["lost"] += 1
        except Unavailable:  # SQLite lets its writers wait in no order: a task would be tried again
            counted["gave up"] += 1
    answers.put(counted)


def test_promotions_that_race_and_die_leave_one_champion_a_generation(url, tmp_path):
    Ledger.open(url)
    began = time.monotonic()
    barrier, answers = FORK.Barrier(RACERS), FORK.SimpleQueue()
    racers = [FORK.Process(target=race, args=(url, tmp_path / "anchors", n, barrier, answers)) for n in range(RACERS)]
    for each in racers:
        each.start()
    counted = sum((answers.get() for _ in racers), Counter())
    for each in racers:
        each.join(60)
        assert each.exitcode == 0
    took = time.monotonic() - began
    ledger, anchors = Ledger.open(url), Anchors(open_store(tmp_path / "anchors"), outside=False)

    ledger.settle("flights", anchors.put)

    promoted = [entry.event for entry in ledger.entries("flights", "promoted")]
    assert sum(counted.values()) == RACERS * ROUNDS and counted["won"] and counted["killed"]
    assert [each.generation for each in promoted] == list(range(1, len(promoted) + 1))
    assert counted["won"] <= len(promoted) <= counted["won"] + counted["killed"] + counted["gave up"]
    assert [each.generation for each in ledger.champions("flights")] == [each.generation for each in promoted]
    assert ledger.champion("flights").version == promoted[-1].version
    assert len({each.release for each in promoted}) == len(promoted), "a request is carried out once"
    requests = [(entry.seq, entry.event) for entry in ledger.entries("flights", "approval")]
    approved = {each.id: (seq, each) for seq, each in requests if each.state == "approved"}
    for entry in ledger.entries("flights", "promoted"):
        seq, request = approved[entry.event.release]
        assert seq < entry.seq and request.evidence == entry.event.evidence.digest and len(request.answers) == 2
        assert request.expected_generation == entry.event.generation - 1 and request.version == entry.event.version
    done = Counter(each.id for _, each in requests if each.state == "promoted")
    assert done == Counter(each.release for each in promoted)
    times = [each.since for each in ledger.champions("flights")]
    assert times == sorted(set(times))
    kept = anchors.read()
    assert kept["flights"] == {entry.number: entry.hash for entry in ledger.entries("flights", "promoted")}
    assert ledger.verify(kept) == len(ledger.entries())
    kind, made = url.partition(":")[0], f"{len(promoted)} champions, {len(ledger.entries())} entries"
    print(f"{RACERS} x {ROUNDS} on {kind} in {took:.0f} s: {dict(counted)}, {made}")
