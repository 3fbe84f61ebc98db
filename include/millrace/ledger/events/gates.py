"""Events of the features DAG: verdicts of gates, and what is in the online store."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from millrace.ledger.event import Digest, Event, Text, Upgrade


class Source(BaseModel):
    """A Snapshot that another was made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Text
    partition: Text
    snapshot: Digest


class GateVerdict(Event):
    """A gate was run on a Snapshot."""

    kind: ClassVar[str] = "gate"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (lambda _, __, body: {**body, "made_of": None},)

    dataset: Text
    partition: Text
    snapshot: Digest
    outcome: Digest = Field(description="Digest of the validate job's outcome.")
    passed: bool
    made_of: tuple[Source, ...] | None = Field(
        default=None, description="The raw Snapshots behind features; null for raw ones, and where none were kept."
    )

    @property
    def subject(self) -> str:
        """Dataset and partition."""
        return f"{self.dataset}/{self.partition}"


class MaterializedWindow(Event):
    """One partition of a feature view as it was last written online."""

    kind: ClassVar[str] = "materialized"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (
        lambda _, subject, body: {**dict(zip(("view", "partition"), subject.split("/", 1), strict=True)), **body},
    )

    view: Text
    partition: Text
    snapshot: Text
    rows: int

    @property
    def subject(self) -> str:
        """View and partition."""
        return f"{self.view}/{self.partition}"
