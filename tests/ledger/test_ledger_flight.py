"""Single flight, whoever asks: a window, a person, the clock or another system."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.ledger import RetrainDecision, flight

DAYS = [f"2024-01-0{day}" for day in range(1, 8)]
NOON = datetime(2024, 2, 1, 12, tzinfo=UTC)


class Record:
    """A pipeline's decisions, as a ledger would keep them, and a clock of its own."""

    def __init__(self) -> None:
        self.decisions: dict[str, RetrainDecision] = {}
        self.minutes = 0

    @property
    def known(self) -> list[RetrainDecision]:
        return sorted(self.decisions.values(), key=lambda d: d.number)

    @property
    def now(self) -> datetime:
        return NOON + timedelta(minutes=self.minutes)

    def keep(self, plan: flight.Plan) -> RetrainDecision | None:
        for changed in plan.record:
            self.decisions[changed.id] = changed
        self.minutes += 1
        return plan.answer

    def ask(self, day: str, reason: str = "gain", half_life: float | None = None) -> RetrainDecision | None:
        return self.keep(flight.ask(self.known, "orders", day, reason, "it would win", half_life))

    def take(self, run: str, day: str, since: datetime, reason: str = "manual", message: str = "please"):
        plan = flight.take(self.known, "orders", day, reason, message, run_id=run, since=since, now=self.now)
        return self.keep(plan)

    def start(self, decision: RetrainDecision, run: str) -> bool:
        return self.keep(flight.start(self.known, self.decisions[decision.id], run, self.now)) is not None

    def end(self, state: str) -> None:
        for running in self.of("running"):
            self.decisions[running.id] = running.model_copy(update={"state": state})

    def of(self, state: str) -> list[RetrainDecision]:
        return [d for d in self.known if d.state == state]


def test_a_run_by_hand_takes_what_waits_with_it_and_its_weights():
    record = Record()
    waits = record.ask(DAYS[2], half_life=3.0)
    mine = record.take("manual__1", DAYS[3], record.now)
    assert mine is not None and mine.state == "running" and mine.half_life == 3.0
    assert record.of("superseded")[0].id == waits.id
    assert mine.why == f"manual: please (asked for by {DAYS[2]}: gain, {DAYS[3]}: manual: please)"
    assert not record.start(waits, "retrain__1")  # the run that monitoring started exits
    assert record.ask(DAYS[2]) is None  # and its window, replayed, asks for no other


def test_what_was_asked_for_while_one_waited_is_answered_by_that_one_and_named():
    record = Record()
    record.take("manual__1", DAYS[0], record.now)
    asked = record.now  # three more ask while the first one trains
    record.minutes += 5
    record.end("done")
    second = record.take("manual__2", DAYS[1], asked)
    record.end("done")
    assert record.take("rest__3", DAYS[1], asked, "external", "ci: a new airport") is None
    assert record.take("scheduled__4", DAYS[1], asked, "schedule", "by the clock") is None
    assert [str(a) for a in record.decisions[second.id].asked] == [
        f"{DAYS[1]}: manual: please", f"{DAYS[1]}: external: ci: a new airport", f"{DAYS[1]}: schedule: by the clock",
    ]  # fmt: skip
    # and whoever asks after it began gets another
    assert record.take("manual__5", DAYS[1], record.now).number == 3


def test_a_failed_training_answers_nobody():
    record = Record()
    asked = record.now
    record.take("manual__1", DAYS[0], asked)
    record.end("failed")
    assert record.take("manual__2", DAYS[0], asked) is not None


def test_a_run_that_was_cleared_has_its_own_decision_again():
    record = Record()
    asked = record.now
    first = record.take("manual__1", DAYS[0], asked)
    assert record.take("manual__1", DAYS[2], asked) == first  # killed: on the same partitions
    record.end("failed")
    again = record.take("manual__1", DAYS[2], asked)
    assert (again.id, again.state, again.partition) == (first.id, "running", DAYS[0])
    assert len(record.known) == 1


def test_only_what_a_window_asked_for_counts_as_monitorings():
    record = Record()
    mine = record.take("manual__1", DAYS[0], record.now)
    assert not flight.by_monitoring(mine)
    record.end("done")
    record.ask(DAYS[1])
    assert flight.by_monitoring(record.take("manual__2", DAYS[1], record.now))


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(DAYS)),
    st.tuples(st.just("queue"), st.sampled_from(flight.REQUESTS)),
    st.sampled_from([("run", ""), ("run", "killed"), ("done", ""), ("failed", "")]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=50))
def test_one_runs_one_waits_and_every_request_is_answered(steps):
    # Given an Airflow that runs one training at a time, in the order in which they were asked for
    record, queue, number = Record(), [], 0
    newest = DAYS[0]
    for what, more in steps:
        if what == "ask":
            newest = max(newest, more)
            made = record.ask(more)
            if made is not None:
                queue.append(("retrain", made.id, record.now))
        elif what == "queue":
            number += 1
            queue.append((more, f"{more}__{number}", record.now))
        elif what == "run" and queue and not (record.of("running") and not more):
            kind, name, since = queue.pop(0)
            if kind == "retrain":
                record.start(record.decisions[name], f"retrain__{name}")
            else:
                record.take(name, newest, since, kind, name)
                said = [a.message for d in record.known for a in d.asked]
                assert name in said, "who asked is named, trained or not"
        elif what in ("done", "failed"):
            record.end(what)
        assert len(record.of("running")) <= 1 and len(record.of("waiting")) <= 1
        assert len({d.id for d in record.known}) == len(record.known)
        assert [d.number for d in record.known] == list(range(1, len(record.known) + 1))
    # and what still waits together is one training
    record.end("done")
    begun = 0
    while queue:
        kind, name, since = queue.pop(0)
        if kind != "retrain":
            begun += record.take(name, newest, since, kind, name) is not None
            record.end("done")
    assert begun <= 1


@pytest.mark.parametrize("order", [DAYS, DAYS[::-1]])
def test_windows_and_requests_of_a_week_are_one_training(order):
    record = Record()
    asked = record.now
    for day in order:
        record.ask(day)
    mine = record.take("manual__1", DAYS[-1], asked)
    assert {a.partition for a in mine.asked} == {*DAYS}
    record.end("done")
    assert [record.ask(day) for day in order] == [None] * len(DAYS)
    assert record.take("external__2", DAYS[-1], asked, "external", "ci") is None
    assert [d.state for d in record.known if d.state != "superseded"] == ["done"]
