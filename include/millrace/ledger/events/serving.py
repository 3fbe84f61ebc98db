"""Events of serving: the plans of traffic, the rollouts that they follow from, quarantines and what persons switch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Artifact
from millrace.ledger.event import Digest, Event, Text

How = Literal["person", "automatic", "guard"]


class ArmRecord(BaseModel):
    """A version that a plan sends requests to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["champion", "challenger"]
    version: int
    model: Digest
    deployment: Artifact = Field(description="The document that says what it needs to answer.")
    share: float = Field(ge=0, le=1, description="Of the units that it answers, or of the requests that it shadows.")


class Switched(BaseModel):
    """What persons have switched, beside the arms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stopped: bool = False
    version: int | None = None


class Planned(Event):
    """The traffic plan of a pipeline became this. Its subject is the generation, of which a pipeline has each once; the
    copy in the store says the same."""

    kind: ClassVar[str] = "plan"

    generation: int
    since: int = Field(description="Generation that the present rollout began with.")
    salt: Text = Field(description="Key of the hash that assigns units.")
    arms: tuple[ArmRecord, ...] = Field(description="The champion, and what takes over from it; none: no model.")
    shadow: ArmRecord | None
    former: ArmRecord | None
    serving: dict[str, Any] = Field(description="The spec's section, as the rollout began with it.")
    toggles: Switched = Switched()
    watched: bool = Field(description="Whether guards look: while a rollout is open, its watch included.")
    reason: str
    rollout: str | None = Field(description="Id of the rollout that it follows from.")
    by: Text

    @property
    def subject(self) -> str:
        """The generation."""
        return str(self.generation)

    @property
    def champion(self) -> ArmRecord | None:
        """Who answers what no other arm does; null: no model."""
        return self.arms[0] if self.arms else None

    @property
    def versions(self) -> tuple[ArmRecord, ...]:
        """All that it names."""
        return tuple(arm for arm in (*self.arms, self.shadow, self.former) if arm is not None)

    def in_store(self) -> dict[str, Any]:
        """What the copy in the store holds."""
        return self.model_dump(mode="json", exclude={"rollout", "by"})


class Rollout(Event):
    """A version takes over from the champion, step by step; how far it is, and who or what moved it there.

    Its `id` is that of the release request that it carries out.
    """

    kind: ClassVar[str] = "rollout"

    id: Text
    version: int
    model: Digest
    deployment: Artifact
    former: int | None = Field(description="Version of the champion that it is compared with; null: none.")
    since: int = Field(description="Generation of the first plan that it made.")
    shadow: float | None = Field(description="Share of the requests in shadow; null: it begins without.")
    steps: tuple[float, ...] = Field(description="Share of the units at each step.")
    state: Literal["shadow", "step", "full", "done", "rolled_back", "aborted", "superseded"]
    step: int = Field(default=0, description="Number of the step, from 1; 0 where it is at none.")
    planned: int = Field(description="Generation of the plan that the present state began with.")
    began: Text = Field(description="When the present state began, ISO 8601.")
    paused: bool = False
    hastened: bool = False
    how: How
    by: Text
    reason: str
    seen: dict[str, Any] = Field(description="The numbers that it was moved on.")

    @property
    def subject(self) -> str:
        """The rollout."""
        return self.id

    @property
    def stage(self) -> int:
        """Place in the order of all: 0 in shadow, then the steps, one after the last where it answers all."""
        return {"shadow": 0, "step": self.step}.get(self.state, len(self.steps) + 1)

    @property
    def open(self) -> bool:
        """Whether it goes on."""
        return self.state in ("shadow", "step", "full")


class Quarantined(Event):
    """A model, known by its digest, did harm: no version that is made of it is promoted until somebody lets it."""

    kind: ClassVar[str] = "quarantine"

    model: Digest
    version: int
    why: Text
    by: Text
    how: How
    rollout: str | None = Field(description="Id of the rollout that ended by it.")
    release: str | None = Field(description="Id of the release that brings the champion before back; null: none.")
    released: bool = Field(default=False, description="Whether somebody has let it go again.")

    @property
    def subject(self) -> str:
        """The model, by its digest."""
        return self.model.removeprefix("sha256:")


class Toggled(Event):
    """A person stopped the models of a pipeline, let one version answer everything, or took that back."""

    kind: ClassVar[str] = "toggle"

    stopped: bool
    version: int | None
    by: Text
    reason: Text

    @property
    def subject(self) -> str:
        """The traffic of the pipeline."""
        return "traffic"
