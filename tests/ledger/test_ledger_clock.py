"""A clock that is set back by an hour between two events: nothing ends twice, revives or is decided twice, and every
moment has one champion."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.ledger import asked, automatically, evidence, promoted, said, trained, unanchored, verdict

import millrace.ledger
from millrace.ledger import Ledger, chain, releases

HOUR = timedelta(hours=1)


class Clock:
    """The clock of all of the ledger, in the hand of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime(2024, 3, 1, 12, tzinfo=UTC)

        class Fake(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return self.now

        for module in (chain, releases, millrace.ledger):
            monkeypatch.setattr(module, "datetime", Fake)

    def goes(self, by: timedelta) -> None:
        self.now += by


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def request(ledger: Ledger, clock: Clock, version: int = 1, after: timedelta = HOUR / 2, run: str = "") -> Any:
    return ledger.ask_release("flights", version, evidence(version).digest, run_id=run or f"release__v{version}",
                              expires=clock.now + after)  # fmt: skip


def states(ledger: Ledger, request_id: str) -> Counter[str]:
    return Counter(entry.event.state for entry in ledger.entries("flights", "approval", request_id))


def test_what_has_expired_neither_revives_nor_expires_twice(ledger, clock):
    made = request(ledger, clock)
    clock.goes(HOUR)
    assert ledger.look("flights", made.id).state == "expired"

    clock.goes(-HOUR)

    assert ledger.answer("flights", made.id, said()).state == "expired"
    assert request(ledger, clock).state == "expired", "the same run asks again"
    clock.goes(2 * HOUR)
    assert ledger.look("flights", made.id).state == "expired"
    assert states(ledger, made.id) == {"waiting": 1, "expired": 1}
    assert ledger.verify() == 2


def test_a_request_whose_end_the_record_has_seen_is_over_though_nobody_looked(ledger, clock):
    made = request(ledger, clock)
    clock.goes(HOUR)
    ledger.record(verdict())  # by the record it is past the end now

    clock.goes(-HOUR)

    assert ledger.answer("flights", made.id, said()).state == "expired"
    assert states(ledger, made.id) == {"waiting": 1, "expired": 1}


def test_a_request_made_after_the_clock_went_back_has_its_whole_time(ledger, clock):
    ledger.record(verdict())
    clock.goes(-HOUR)

    made = request(ledger, clock)

    assert ledger.answer("flights", made.id, said(), enough=2).state == "waiting"
    clock.goes(2 * HOUR)
    assert ledger.look("flights", made.id).state == "expired"


def test_what_was_decided_is_not_decided_again(ledger, clock):
    made = request(ledger, clock, after=2 * HOUR)
    ledger.answer("flights", made.id, said("ann"))
    clock.goes(-HOUR)

    assert ledger.answer("flights", made.id, said("ben", "reject")).state == "approved"
    for _ in range(2):
        champion = ledger.promote("flights", made.id, evidence(1), trained(1), approval=True, anchor=unanchored)
        clock.goes(-HOUR)

    assert (champion.version, champion.generation) == (1, 1)
    assert states(ledger, made.id) == {"waiting": 1, "approved": 1, "promoted": 1}


def test_every_moment_has_one_champion(ledger, clock):
    for version in range(1, 7):
        promoted(ledger, version)
        clock.goes(-HOUR if version % 2 else HOUR / 3)

    champions = ledger.champions("flights")
    times = [each.since for each in champions]
    assert times == sorted(set(times))
    for number, each in enumerate(champions):
        assert ledger.champion("flights", at=each.since) == each
        before = ledger.champion("flights", at=each.since - timedelta(microseconds=1))
        assert before == (champions[number - 1] if number else None)
    assert ledger.champion("flights") == champions[-1]


def test_an_older_challenger_is_not_asked_for_twice(ledger, clock):
    old, new = asked(ledger, 1), asked(ledger, 2)
    clock.goes(-HOUR)

    assert asked(ledger, 1).state == "void"
    ledger.answer("flights", new.id, automatically())
    assert states(ledger, old.id) == {"waiting": 1, "void": 1}


def test_a_partition_asks_for_one_retraining_and_counts_once(ledger, clock):
    first = ledger.claim("flights", "2013-05", "drift")
    clock.goes(-HOUR)
    assert ledger.claim("flights", "2013-05", "drift") == first
    assert ledger.start(first.id, "retrain__1")
    clock.goes(-HOUR)
    assert not ledger.start(first.id, "retrain__2")
    assert ledger.finish(first.id, "done").state == "done"
    clock.goes(-HOUR)

    assert ledger.claim("flights", "2013-05", "drift") is None
    assert ledger.finish(first.id, "failed").state == "done"
    # Cooldown and budget count it once, by its partition
    assert [(d.partition, d.state) for d in ledger.standing("flights")] == [("2013-05", "done")]
    assert [e.event.state for e in ledger.entries("flights", "retrain")] == ["waiting", "running", "done"]
