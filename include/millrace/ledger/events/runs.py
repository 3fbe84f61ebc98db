"""Events of a run: which jobs it did, and what a task of it refused to believe."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Artifact
from millrace.core.canonical import digest
from millrace.ledger.event import Digest, Event, Text


class JobInput(BaseModel):
    """What a job read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Text
    digest: Digest
    partition: str | None = None


class JobDone(Event):
    """A job of a run ended with an outcome: what it read, what it made, and its verdict where it gives one.

    Written by the task that took the job's result, so that the tasks after it need not believe what a task returned.
    """

    kind: ClassVar[str] = "job"

    run: Text = Field(description="`<dag id>/<run id>`.")
    job: Text
    request: Digest
    outcome: Digest
    scope: tuple[str, ...]
    inputs: tuple[JobInput, ...]
    outputs: dict[str, Artifact]
    passed: bool | None = Field(description="The outcome's verdict; null where the job judges nothing.")

    @property
    def subject(self) -> str:
        """Run and job: a run id may be longer than a subject."""
        return f"{run_key(self.run)}/{self.job}"

    def took(self, role: str) -> dict[str | None, str]:
        """Partition -> digest of the inputs of a role."""
        return {each.partition: each.digest for each in self.inputs if each.role == role}


class Denied(Event):
    """A task refused to go on, because what it was given was never decided so."""

    kind: ClassVar[str] = "denied"

    run: Text
    task: Text
    why: Text

    @property
    def subject(self) -> str:
        """Run and task."""
        return f"{run_key(self.run)}/{self.task}"[:200]


def run_key(run: str) -> str:
    """A run as part of a subject, which is shorter than its id may be."""
    return digest(run).removeprefix("sha256:")
