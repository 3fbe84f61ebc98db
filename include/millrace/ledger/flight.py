"""Single flight: of a pipeline's retrainings one runs and one waits, which names all that asked. Pure.

Who asks is a partition that monitoring looked at, or a run of the training DAG that a person, the clock or another
system started. A partition's decision waits for a run; such a run is its own, and takes with it what waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from millrace.core.canonical import digest
from millrace.ledger.events import RetrainDecision
from millrace.ledger.events.monitoring import Asked

REQUESTS = ("manual", "external", "schedule")
"""Reasons of runs that are asked for; all others are the governor's."""


@dataclass(frozen=True)
class Plan:
    """The decision that whoever asked may start, None where there is nothing to train; `record` are the decisions that
    change by it, in order."""

    answer: RetrainDecision | None
    record: tuple[RetrainDecision, ...] = ()


def ask(
    known: Sequence[RetrainDecision], pipeline: str, partition: str, reason: str, message: str, half_life: float | None
) -> Plan:
    """A partition asks, and takes the waiting slot.

    The answer is the same one again while this partition's decision still waits, as who claimed it may have been
    killed before it could start a run. None when this partition's was started and has not failed, or when one of a
    later partition stands: to train on less than it did is of no use. A waiting decision of an earlier partition is
    superseded, so that one whose run never came cannot hold the slot for ever. What waits names all that asked: those
    it was superseded by, and those it answers by what it will be trained on.
    """
    mine = [d for d in known if d.partition == partition]
    state = mine[-1].state if mine else "failed"
    waits = [d for d in known if d.state == "waiting"]
    asking = Asked(partition=partition, reason=reason)
    later = [d for d in known if d.state in ("waiting", "running", "done") and d.partition > partition]
    if state != "failed" or later:  # keys of one grain sort by time
        answering = [d for d in waits if d.partition >= partition and state not in ("running", "done")]
        asked = [_answering(each, asking) for each in answering]
        changed = tuple(new for new, old in zip(asked, answering, strict=True) if new != old)
        return Plan(asked[0] if asked and state == "waiting" else None, changed)
    new = _new(known, pipeline, partition, reason, message, half_life, (*(a for d in waits for a in d.asked), asking))
    return Plan(new, (*_superseded(waits, new), new))


def take(
    known: Sequence[RetrainDecision],
    pipeline: str,
    partition: str,
    reason: str,
    message: str,
    *,
    run_id: str,
    since: datetime,
    now: datetime,
) -> Plan:
    """A run that was asked for, one of `REQUESTS`, at `since` begins, and would train up to a partition.

    The answer is its own decision, running; the same one again for a run that was cleared or killed. None where a
    retraining that began after the run was asked for has ended well: that one answered it too, and names it. What
    waits for no more than this run trains on is superseded; rows weigh as the newest of that says.
    """
    own = next((d for d in reversed(known) if d.run_id == run_id), None)
    asking = Asked(partition=partition, reason=reason, message=message)
    if own is not None:
        if own.state != "failed":
            return Plan(own)
        again = own.model_copy(update={"state": "running", "began": now.isoformat(), "note": None})
        return Plan(again, (*_left(known, again), again))
    for done in reversed(known):
        if done.state == "done" and done.began is not None and datetime.fromisoformat(done.began) >= since:
            answered = _answering(done, asking)
            return Plan(None, (answered,) if answered != done else ())
    waits = [d for d in known if d.state == "waiting" and d.partition <= partition]
    half_life = next((d.half_life for d in reversed(waits)), None)
    asked = (*(a for d in waits for a in d.asked), asking)
    new = _new(known, pipeline, partition, reason, message, half_life, asked)
    new = new.model_copy(update={"state": "running", "run_id": run_id, "began": now.isoformat()})
    return Plan(new, (*_superseded(waits, new), *_left(known, new), new))


def start(known: Sequence[RetrainDecision], decision: RetrainDecision, run_id: str, now: datetime) -> Plan:
    """A run takes a decision up; it is the answer where the run may train, also where it asks again after a kill.

    None when the decision was superseded, has ended or is another run's: the run then exits. A failed decision is
    taken up again by its own run, cleared by a person, unless a newer one stands. A decision that another run left
    running is closed as failed: training runs one at a time, so that run ended without a word (killed, deleted).
    """
    if decision.state == "running":
        return Plan(decision if decision.run_id == run_id else None)
    again = decision.state == "failed" and decision.run_id == run_id
    if again and any(d.number > decision.number and d.state in ("waiting", "running", "done") for d in known):
        return Plan(None)
    if not again and decision.state != "waiting":
        return Plan(None)
    running = decision.model_copy(update={"state": "running", "run_id": run_id, "note": None, "began": now.isoformat()})
    return Plan(running, (*_left(known, running), running))


def by_monitoring(decision: RetrainDecision) -> bool:
    """Whether a window asked for it, and not only somebody."""
    return any(asked.reason not in REQUESTS for asked in decision.asked)


def _new(
    known: Sequence[RetrainDecision],
    pipeline: str,
    partition: str,
    reason: str,
    message: str,
    half_life: float | None,
    asked: tuple[Asked, ...],
) -> RetrainDecision:
    attempt = 1 + sum(d.partition == partition for d in known)
    return RetrainDecision(
        id=digest([pipeline, partition, attempt]).removeprefix("sha256:")[:12],
        pipeline=pipeline,
        partition=partition,
        attempt=attempt,
        number=len(known) + 1,
        reason=reason,
        message=message,
        asked=tuple(dict.fromkeys(asked)),
        half_life=half_life,
    )


def _answering(decision: RetrainDecision, asking: Asked) -> RetrainDecision:
    """The decision with who asks on record."""
    return decision.model_copy(update={"asked": tuple(dict.fromkeys([*decision.asked, asking]))})


def _superseded(waits: Sequence[RetrainDecision], by: RetrainDecision) -> tuple[RetrainDecision, ...]:
    return tuple(d.model_copy(update={"state": "superseded", "note": f"decision {by.id} is newer"}) for d in waits)


def _left(known: Sequence[RetrainDecision], by: RetrainDecision) -> tuple[RetrainDecision, ...]:
    """What another run left running, closed."""
    left = [d for d in known if d.state == "running" and d.id != by.id]
    return tuple(d.model_copy(update={"state": "failed", "note": f"left running when {by.id} started"}) for d in left)
