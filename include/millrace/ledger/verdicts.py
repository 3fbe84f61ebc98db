"""Verdicts of gates: on which Snapshot of a partition, and how it ended."""

from __future__ import annotations

from sqlalchemy import Connection

from millrace.ledger import chain
from millrace.ledger.events import GateVerdict


def verdicts(connection: Connection, pipeline: str, dataset: str) -> list[GateVerdict]:
    """The newest verdict on each partition of a dataset, in partition order."""
    return sorted(chain.states(connection, GateVerdict, pipeline, f"{dataset}/"), key=lambda v: v.partition)


def verdict(connection: Connection, pipeline: str, dataset: str, partition: str, snapshot: str) -> GateVerdict | None:
    """The newest verdict on exactly this Snapshot of a partition, None where no gate ran on it."""
    entries = chain.entries(connection, pipeline, GateVerdict.kind, f"{dataset}/{partition}")
    found = [chain.of(GateVerdict, entry) for entry in entries]
    return next((each for each in reversed(found) if each.snapshot == snapshot), None)
