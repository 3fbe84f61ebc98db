"""Verdicts of gates: on which Snapshot of a partition, and how it ended."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from millrace.ledger import chain
from millrace.ledger.events import GateVerdict, Source


def verdicts(connection: Connection, pipeline: str, dataset: str) -> list[GateVerdict]:
    """The newest verdict on each partition of a dataset, in partition order."""
    return sorted(chain.states(connection, GateVerdict, pipeline, f"{dataset}/"), key=lambda v: v.partition)


def on(connection: Connection, pipeline: str, snapshots: Collection[Source]) -> dict[Source, GateVerdict]:
    """The newest verdict on exactly each of these Snapshots; one that no gate ran on is left out."""
    subjects = {f"{each.dataset}/{each.partition}" for each in snapshots}
    found: dict[Source, GateVerdict] = {}
    for entry in chain.about(connection, pipeline, GateVerdict.kind, subjects):  # oldest first: the newest stays
        verdict = chain.of(GateVerdict, entry)
        found[Source(dataset=verdict.dataset, partition=verdict.partition, snapshot=verdict.snapshot)] = verdict
    return {each: found[each] for each in snapshots if each in found}
