"""Events of a ModelVersion's life that no release and no promotion speaks of, and of data that had to go."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from millrace.ledger.event import Digest, Event, Text


class Moved(Event):
    """Somebody took a version out of what may be released, or let it in again."""

    kind: ClassVar[str] = "lifecycle"

    version: int
    to: Literal["quarantined", "retired", "candidate"]
    reason: Text
    by: Text = Field(description="Who did it: an account of the machine where the command ran, or a task.")

    @property
    def subject(self) -> str:
        """The version."""
        return f"v{self.version}"


class Touched(BaseModel):
    """A Snapshot that holds rows of subjects."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Text
    partition: Text
    snapshot: Digest
    rows: int = Field(description="How many of its rows are theirs.")


class Erasure(Event):
    """Subjects were withdrawn: which Snapshots and versions they touch. The keys themselves are never in it."""

    kind: ClassVar[str] = "erasure"

    keys: Digest = Field(description="Of the sorted keys.")
    columns: tuple[Text, ...] = Field(description="The columns that name a subject.")
    count: int = Field(description="How many subjects.")
    reason: Text
    by: Text
    snapshots: tuple[Touched, ...]
    versions: tuple[int, ...] = Field(description="Trained on rows of theirs.")
    removed: bool = Field(description="Whether the Snapshots' bytes were taken away.")

    @property
    def subject(self) -> str:
        """The keys, by their digest."""
        return self.keys.removeprefix("sha256:")
