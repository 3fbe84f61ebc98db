"""Retrain decisions: per pipeline at most one waits and one runs; a replay of a partition causes at most one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, update

from millrace.canonical import canonical_json, digest
from millrace.ledger import chain
from millrace.ledger.chain import LedgerError
from millrace.ledger.schema import RETRAINS

End = Literal["done", "failed", "superseded"]


@dataclass(frozen=True)
class RetrainDecision:
    """A recorded decision to retrain; `id` names its DAG run. States: waiting, running, done, failed, superseded."""

    id: str
    pipeline: str
    partition: str
    attempt: int
    reason: str
    body: dict[str, Any]
    state: str
    run_id: str | None
    number: int
    slot: str | None


def claim(
    connection: Connection, pipeline: str, partition: str, reason: str, body: dict[str, Any]
) -> RetrainDecision | None:
    """Take the waiting slot for a partition.

    Returns the decision to start; the same one again when this partition's decision still waits (its starter was
    killed); None when a later partition's waits, or when this partition's was started already and has not failed.
    A waiting decision of an earlier partition is superseded: its run exits at its first task.
    """
    earlier = [d for d in _all(connection, pipeline) if d.partition == partition]
    if earlier and earlier[-1].state != "failed":
        return earlier[-1] if earlier[-1].state == "waiting" else None
    waiting = _slot(connection, pipeline, "waiting")
    if waiting is not None:
        if waiting.partition > partition:  # keys of one grain sort by time
            return None
        _end(connection, waiting, "superseded")
    attempt = len(earlier) + 1
    number = (connection.execute(select(func.max(RETRAINS.c.number)).where(RETRAINS.c.pipeline == pipeline)).scalar()
              or 0) + 1  # fmt: skip
    # The attempt is part of the name, so that a decision made again gets a run of its own.
    name = digest([pipeline, partition, attempt]).removeprefix("sha256:")[:12]
    new = RetrainDecision(name, pipeline, partition, attempt, reason, body, "waiting", None, number, "waiting")
    connection.execute(insert(RETRAINS).values(**{**new.__dict__, "body": canonical_json(body).decode()}))
    chain.append(connection, pipeline, "retrain", name, {"state": "waiting", "partition": partition, "reason": reason})
    return new


def start(connection: Connection, decision_id: str, run_id: str) -> bool:
    """Move a decision from waiting to running; True also for the same run asking again after a kill.

    False when it was superseded or has ended: the run then exits. A decision that was left running by a run that
    never ended is closed as failed: the training DAG runs one at a time, so that run is gone.
    """
    decision = _get(connection, decision_id)
    if decision.state == "running":
        return decision.run_id == run_id
    if decision.state != "waiting":
        return False
    left = _slot(connection, decision.pipeline, "running")
    if left is not None:
        _end(connection, left, "failed")
    connection.execute(
        update(RETRAINS).where(RETRAINS.c.id == decision_id).values(state="running", slot="running", run_id=run_id)
    )
    chain.append(connection, decision.pipeline, "retrain", decision_id, {"state": "running", "run": run_id})
    return True


def finish(connection: Connection, decision_id: str, state: End) -> None:
    """End a decision; ending it again changes nothing."""
    decision = _get(connection, decision_id)
    if decision.state in ("waiting", "running"):
        _end(connection, decision, state)


def last(connection: Connection, pipeline: str) -> RetrainDecision | None:
    """The newest decision that has not failed, for the cooldown."""
    found = [d for d in _all(connection, pipeline) if d.state not in ("failed", "superseded")]
    return found[-1] if found else None


def _end(connection: Connection, decision: RetrainDecision, state: End) -> None:
    connection.execute(update(RETRAINS).where(RETRAINS.c.id == decision.id).values(state=state, slot=None))
    chain.append(connection, decision.pipeline, "retrain", decision.id, {"state": state})


def _get(connection: Connection, decision_id: str) -> RetrainDecision:
    row = connection.execute(select(RETRAINS).where(RETRAINS.c.id == decision_id)).mappings().first()
    if row is None:
        raise LedgerError("no such retrain decision", given=decision_id,
                          next_step="Leave the field 'decision' empty when you train by hand")
    return _decision(row)


def _slot(connection: Connection, pipeline: str, slot: str) -> RetrainDecision | None:
    query = select(RETRAINS).where(RETRAINS.c.pipeline == pipeline, RETRAINS.c.slot == slot)
    row = connection.execute(query).mappings().first()
    return None if row is None else _decision(row)


def _all(connection: Connection, pipeline: str) -> list[RetrainDecision]:
    query = select(RETRAINS).where(RETRAINS.c.pipeline == pipeline).order_by(RETRAINS.c.number)
    return [_decision(row) for row in connection.execute(query).mappings()]


def _decision(row: Any) -> RetrainDecision:
    return RetrainDecision(**{**row, "body": json.loads(row["body"])})
