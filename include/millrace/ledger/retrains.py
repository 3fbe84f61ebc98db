"""Retrain decisions: per pipeline at most one waits and one runs; a replay of a partition causes at most one."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection

from millrace.core.canonical import digest
from millrace.core.errors import LedgerError
from millrace.ledger import chain
from millrace.ledger.events import RetrainDecision
from millrace.ledger.events.monitoring import Asked

End = Literal["done", "failed", "superseded"]


def claim(
    connection: Connection, pipeline: str, partition: str, reason: str, message: str, half_life: float | None = None
) -> RetrainDecision | None:
    """Take the waiting slot for a partition.

    Returns the decision to start; the same one again while this partition's decision still waits, as who claimed it
    may have been killed before it could start a run. None when this partition's was started and has not failed, or
    when one of a later partition stands: to train on less than it did is of no use. A waiting decision of an earlier
    partition is superseded, so that one whose run never came cannot hold the slot for ever. What waits names all that
    asked: those it was superseded by, and those it answers by what it will be trained on.
    """
    known, ask = decisions(connection, pipeline), Asked(partition=partition, reason=reason)
    mine = [d for d in known if d.partition == partition]
    state = mine[-1].state if mine else "failed"
    waits = [d for d in known if d.state == "waiting"]
    stands = [d for d in known if d.state in ("waiting", "running", "done")]
    later = [d for d in stands if d.partition > partition]  # keys of one grain sort by time
    if state != "failed" or later:
        answering = [d for d in waits if d.partition >= partition and state not in ("running", "done")]
        asked = [_answering(connection, waiting, ask) for waiting in answering]
        return asked[0] if asked and state == "waiting" else None
    attempt = len(mine) + 1
    new = RetrainDecision(
        id=digest([pipeline, partition, attempt]).removeprefix("sha256:")[:12],
        pipeline=pipeline,
        partition=partition,
        attempt=attempt,
        number=len(known) + 1,
        reason=reason,
        message=message,
        asked=tuple(dict.fromkeys([*(a for d in waits for a in d.asked), ask])),
        half_life=half_life,
    )
    for waiting in waits:
        _record(connection, waiting, state="superseded", note=f"decision {new.id} is newer")
    return _record(connection, new)


def _answering(connection: Connection, waiting: RetrainDecision, ask: Asked) -> RetrainDecision:
    """The waiting decision, with who asks on record."""
    asked = tuple(dict.fromkeys([*waiting.asked, ask]))
    return waiting if asked == waiting.asked else _record(connection, waiting, asked=asked)


def start(connection: Connection, decision_id: str, run_id: str) -> bool:
    """Let a run take up a decision: True when it may train, also for the same run asking again after a kill.

    False when the decision was superseded, has ended or is another run's: the run then exits. A failed decision is
    taken up again by its own run, cleared by a person, unless a newer one stands. A decision that another run left
    running is closed as failed: training runs one at a time, so that run ended without a word (killed, deleted).
    """
    decision = get(connection, decision_id)
    if decision.state == "running":
        return decision.run_id == run_id
    known = decisions(connection, decision.pipeline)
    again = decision.state == "failed" and decision.run_id == run_id
    if again and any(d.number > decision.number and d.state in ("waiting", "running", "done") for d in known):
        return False
    if not again and decision.state != "waiting":
        return False
    for left in known:
        if left.state == "running":
            _record(connection, left, state="failed", note=f"left running when {decision_id} started")
    _record(connection, decision, state="running", run_id=run_id, note=None)
    return True


def finish(connection: Connection, decision_id: str, state: End) -> RetrainDecision:
    """End a decision and return it as it stands; what is done or superseded stays so.

    A failed one may still become done: a person cleared the failed task, and the run went on to its end.
    """
    decision = get(connection, decision_id)
    if decision.state in ("waiting", "running") or (decision.state, state) == ("failed", "done"):
        return _record(connection, decision, state=state, note=None)
    return decision


def standing(connection: Connection, pipeline: str, asking: str | None = None) -> list[RetrainDecision]:
    """The decisions that neither failed nor were superseded, by partition: what cooldown and budget count.

    One that still waits for the partition `asking` does not count: who claimed it may have been killed before it could
    start a run, and asks again.
    """
    found = [
        d
        for d in decisions(connection, pipeline)
        if d.state not in ("failed", "superseded") and (d.partition, d.state) != (asking, "waiting")
    ]
    return sorted(found, key=lambda d: (d.partition, d.number))


def decisions(connection: Connection, pipeline: str) -> list[RetrainDecision]:
    """All decisions of a pipeline as they stand, in the order they were made."""
    return sorted(chain.states(connection, RetrainDecision, pipeline), key=lambda d: d.number)


def get(connection: Connection, decision_id: str) -> RetrainDecision:
    """A decision as it stands. Raises LedgerError when it was never made."""
    found = chain.state(connection, RetrainDecision, None, decision_id)
    if found is None:
        raise LedgerError("no such retrain decision", given=decision_id,
                          next_step="Leave the field 'decision' empty when you train by hand")  # fmt: skip
    return found


def _record(connection: Connection, decision: RetrainDecision, **changes: object) -> RetrainDecision:
    changed = decision.model_copy(update=changes)
    chain.append(connection, changed)
    return changed
