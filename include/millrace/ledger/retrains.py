"""Retrain decisions on record: what `flight` plans is written in the transaction that looked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import Connection

from millrace.core.errors import LedgerError
from millrace.ledger import chain, flight
from millrace.ledger.events import RetrainDecision
from millrace.ledger.flight import Plan

End = Literal["done", "failed", "superseded"]


def asked(
    connection: Connection, pipeline: str, partition: str, reason: str, message: str, half_life: float | None = None
) -> Plan:
    """What comes of a partition that asks. See `flight.ask`."""
    return flight.ask(decisions(connection, pipeline), pipeline, partition, reason, message, half_life)


def take(
    connection: Connection, pipeline: str, partition: str, reason: str, message: str, *, run_id: str, since: datetime
) -> RetrainDecision | None:
    """Let a run that was asked for begin. See `flight.take`."""
    known = decisions(connection, pipeline)
    plan = flight.take(
        known, pipeline, partition, reason, message, run_id=run_id, since=since, now=datetime.now(UTC)
    )  # fmt: skip
    return carry_out(connection, plan)


def start(connection: Connection, decision_id: str, run_id: str) -> bool:
    """Let a run take up a decision: whether it may train. See `flight.start`."""
    decision = get(connection, decision_id)
    plan = flight.start(decisions(connection, decision.pipeline), decision, run_id, datetime.now(UTC))
    return carry_out(connection, plan) is not None


def carry_out(connection: Connection, plan: Plan) -> RetrainDecision | None:
    """Put on record what was planned in this transaction, and return the answer."""
    for changed in plan.record:
        chain.append(connection, changed)
    return plan.answer


def finish(connection: Connection, decision_id: str, state: End) -> RetrainDecision:
    """End a decision and return it as it stands; what is done or superseded stays so.

    A failed one may still become done: a person cleared the failed task, and the run went on to its end.
    """
    decision = get(connection, decision_id)
    if decision.state in ("waiting", "running") or (decision.state, state) == ("failed", "done"):
        decision = decision.model_copy(update={"state": state, "note": None})
        chain.append(connection, decision)
    return decision


def standing(connection: Connection, pipeline: str, asking: str | None = None) -> list[RetrainDecision]:
    """The decisions of monitoring that neither failed nor were superseded, by partition: what cooldown and budget
    count. A training that only somebody asked for does not count.

    One that still waits for the partition `asking` does not either: who claimed it may have been killed before it could
    start a run, and asks again.
    """
    found = [
        d
        for d in decisions(connection, pipeline)
        if d.state not in ("failed", "superseded")
        and (d.partition, d.state) != (asking, "waiting")
        and flight.by_monitoring(d)
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
