"""Plans: the traffic plan of each pipeline, the vetoes of guards against it, and what servers have counted under it.

The ledger decides a plan and numbers it; the object here is a copy that servers read, which never goes back in
generation. What is in force is the plan less its vetoes: a guard's veto needs the store alone, and no ledger.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from millrace.contract import Artifact
from millrace.core.canonical import canonical_json
from millrace.core.errors import Conflict, Corrupt, NotFound
from millrace.spec.serving import ServingSpec
from millrace.store import layout
from millrace.store.interface import ObjectStore

ATTEMPTS = 50
Role = Literal["champion", "challenger"]


class Arm(BaseModel):
    """A version that a plan sends requests to. `deployment` is the document that says what it needs to answer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Role
    version: int
    model: str = Field(description="Digest of the model, its identity.")
    deployment: Artifact
    share: float = Field(ge=0, le=1, description="Of the units that it answers, or of the requests that it shadows.")


class Toggles(BaseModel):
    """What a person has switched, beside the arms."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stopped: bool = Field(default=False, description="No model answers: the constant of the fallback, or 503.")
    version: int | None = Field(default=None, description="One of the plan's versions answers everything.")


class TrafficPlan(BaseModel):
    """Which versions of a pipeline answer which share of its units. Unknown fields are those of a newer writer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pipeline: str
    generation: int = Field(ge=1, description="Counts the plans of the pipeline, from 1.")
    since: int = Field(ge=1, description="Generation that the present rollout began with: its vetoes count from there.")
    salt: str = Field(min_length=1, description="Key of the hash that assigns units; one through a rollout.")
    arms: tuple[Arm, ...] = Field(
        max_length=2, description="The champion, and what takes over from it; none: no model."
    )
    shadow: Arm | None = Field(default=None, description="Predicts what the champion is asked; nobody is told.")
    former: Arm | None = Field(default=None, description="The champion before, kept warm to go back to.")
    serving: ServingSpec
    toggles: Toggles = Toggles()
    watched: bool = Field(default=True, description="Whether guards look: during a rollout, and its watch.")
    reason: str = ""

    @model_validator(mode="after")
    def _shares(self) -> TrafficPlan:
        if self.arms and abs(sum(arm.share for arm in self.arms) - 1.0) > 1e-9:
            raise ValueError(f"the shares of the arms are {[arm.share for arm in self.arms]}, which are not 1 together")
        if [arm.role for arm in self.arms] not in ([], ["champion"], ["champion", "challenger"]):
            raise ValueError("arms are the champion, or the champion and then the challenger")
        if self.since > self.generation:
            raise ValueError(f"the rollout began with generation {self.since}, after {self.generation}")
        return self

    @property
    def versions(self) -> tuple[Arm, ...]:
        """All that a server keeps ready, each version once."""
        known = {arm.version: arm for arm in (*self.arms, self.shadow, self.former) if arm is not None}
        return tuple(known.values())

    def less(self, vetoed: frozenset[int]) -> TrafficPlan:
        """What is in force when guards have spoken against versions: what a vetoed challenger or shadow had is the
        champion's, and what a vetoed champion had the former's; where there is none, no version answers."""
        arms = [arm for arm in self.arms if arm.version not in vetoed]
        if not arms and self.former is not None and self.former.version not in vetoed:
            arms = [self.former]
        share = sum(arm.share for arm in self.arms)
        if len(arms) == 1:
            arms = [arms[0].model_copy(update={"role": "champion", "share": share or 1.0})]
        shadow = None if self.shadow is None or self.shadow.version in vetoed else self.shadow
        return self.model_copy(update={"arms": tuple(arms), "shadow": shadow})


class Veto(BaseModel):
    """A guard's word against a version, with what it saw."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pipeline: str
    generation: int
    version: int
    guard: str
    why: str
    evidence: float | None = Field(default=None, description="Natural logarithm of the evidence.")
    server: str = ""
    at: str = Field(description="ISO 8601, UTC.")


class Plans:
    """The plans in an ObjectStore."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects

    def get(self, pipeline: str) -> TrafficPlan | None:
        """The plan, None before the first one. Raises Corrupt where the object cannot be read."""
        return self._read(pipeline)[0]

    def pipelines(self) -> list[str]:
        """All pipelines that have a plan, sorted."""
        return [layout.plan_of(o.key) for o in self.objects.list(layout.PLANS)]

    def follow(self, plan: TrafficPlan) -> TrafficPlan:
        """Write a plan unless one of a later generation stands; returns the one that stands then."""
        for _ in range(ATTEMPTS):
            try:
                stands, version = self._read(plan.pipeline)
            except Corrupt:  # mended by what the ledger says
                stands, version = None, self.objects.get_versioned(layout.plan(plan.pipeline))[1]
            if stands is not None and stands.generation >= plan.generation:
                return stands
            try:
                self.objects.put_if(layout.plan(plan.pipeline), canonical_json(plan), version)
            except Conflict:
                continue
            return plan
        raise Conflict(f"the plan kept changing for {ATTEMPTS} attempts", given=plan.pipeline)

    def veto(self, veto: Veto) -> Veto:
        """Write a veto; the first against a version under a generation stays. Returns the one that stands."""
        key = layout.veto(veto.pipeline, veto.generation, veto.version)
        try:
            self.objects.put_if(key, canonical_json(veto), None)
        except Conflict:
            return self._veto(key)
        return veto

    def vetoes(self, plan: TrafficPlan) -> list[Veto]:
        """The vetoes against versions of a plan since its rollout began. Raises Corrupt for one that cannot be read."""
        known = {arm.version for arm in plan.versions}
        keys = [o.key for o in self.objects.list(layout.vetoes(plan.pipeline))]
        wanted = [key for key in keys if (of := layout.veto_of(key))[0] >= plan.since and of[1] in known]
        return [self._veto(key) for key in wanted]

    def vetoed(self, plan: TrafficPlan) -> frozenset[int]:
        """The versions of a plan that guards have spoken against, from the names of the vetoes alone."""
        of = [layout.veto_of(o.key) for o in self.objects.list(layout.vetoes(plan.pipeline))]
        known = {arm.version for arm in plan.versions}
        return frozenset(version for generation, version in of if generation >= plan.since and version in known)

    def put_tally(self, pipeline: str, generation: int, server: str, tally: bytes) -> None:
        """Replace what a server has counted under a generation."""
        self.objects.put(layout.tally(pipeline, generation, server), tally)

    def tallies(self, pipeline: str, generation: int) -> dict[str, bytes]:
        """What all servers have counted under a generation, by server."""
        prefix = layout.tallies(pipeline, generation)
        found = {}
        for item in self.objects.list(prefix):
            try:
                found[item.key.removeprefix(prefix).removesuffix(".json")] = self.objects.get(item.key)
            except NotFound:
                continue
        return found

    def put_experiment(self, pipeline: str, since: int, report: bytes) -> None:
        """Replace how the experiment stands of the rollout that began with a generation, where it has changed."""
        if self.experiment(pipeline, since) != report:
            self.objects.put(layout.experiment(pipeline, since), report)

    def experiment(self, pipeline: str, since: int) -> bytes | None:
        """How that experiment stands, None where nobody has looked yet."""
        try:
            return self.objects.get(layout.experiment(pipeline, since))
        except NotFound:
            return None

    def _veto(self, key: str) -> Veto:
        try:
            return Veto.model_validate_json(self.objects.get(key))
        except ValidationError as err:
            raise Corrupt("a veto cannot be read", where=self.objects.url(key)) from err

    def _read(self, pipeline: str) -> tuple[TrafficPlan | None, str | None]:
        try:
            data, version = self.objects.get_versioned(layout.plan(pipeline))
        except NotFound:
            return None, None
        try:
            return TrafficPlan.model_validate_json(data), version
        except ValidationError as err:
            raise Corrupt("the plan cannot be read", where=self.objects.url(layout.plan(pipeline))) from err
