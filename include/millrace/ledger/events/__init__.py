"""The kinds of events, each with the upgrades of its older forms; see `event`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace.core.errors import LedgerError
from millrace.ledger.event import Event
from millrace.ledger.events.gates import GateVerdict, MaterializedWindow, Source
from millrace.ledger.events.lifecycle import Erasure, Moved, Touched
from millrace.ledger.events.models import Anchored, Promoted, Registered, Trained, TrainingRun
from millrace.ledger.events.monitoring import MonitoredWindow, RetrainDecision, Unmonitored
from millrace.ledger.events.releases import Answer, ReleaseRequest
from millrace.ledger.events.runs import Denied, JobDone, JobInput, run_key
from millrace.ledger.events.serving import ArmRecord, Planned, Quarantined, Rollout, Switched, Toggled

__all__ = [
    "KINDS",
    "STATES",
    "Anchored",
    "Answer",
    "ArmRecord",
    "Denied",
    "Erasure",
    "GateVerdict",
    "JobDone",
    "JobInput",
    "MaterializedWindow",
    "MonitoredWindow",
    "Moved",
    "Planned",
    "Promoted",
    "Quarantined",
    "Registered",
    "ReleaseRequest",
    "RetrainDecision",
    "Rollout",
    "Source",
    "Switched",
    "Toggled",
    "Touched",
    "Trained",
    "TrainingRun",
    "Unmonitored",
    "read",
    "run_key",
]

KINDS: Mapping[str, type[Event]] = {
    each.kind: each
    for each in (
        GateVerdict, Registered, ReleaseRequest, Promoted, RetrainDecision, MaterializedWindow, MonitoredWindow,
        Unmonitored, JobDone, TrainingRun, Denied, Anchored, Moved, Erasure, Planned, Rollout, Quarantined, Toggled,
    )
}  # fmt: skip
STATES: tuple[type[Event], ...] = (
    Promoted, Anchored, RetrainDecision, ReleaseRequest, Moved, Planned, Rollout, Quarantined, Toggled,
)  # fmt: skip
"""Events that follow from how things stand: the ledger writes them itself, in the transaction that looked."""


def read(pipeline: str, kind: str, subject: str, body: Mapping[str, Any]) -> Event:
    """The event of an entry. Raises LedgerError for a kind or version that this Millrace does not know."""
    if kind not in KINDS:
        raise LedgerError("an entry of a kind that this version of Millrace does not know", given=kind, allowed=KINDS,
                          next_step="Install the version that wrote it")  # fmt: skip
    return KINDS[kind].read(pipeline, subject, body)
