"""Events of a ModelVersion's life that no release and no promotion speaks of."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from millrace.ledger.event import Event, Text


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
