"""What is in force of a pipeline: its plan less the vetoes, the versions that answer, and what is counted of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from millrace.online.on_demand import OnDemandView, Typed, request_fields
from millrace.rules.guards import BINS, MOST, Counts, Side, sampled
from millrace.rules.traffic import meets_new, name, point
from millrace.store.plans import Arm, TrafficPlan


@dataclass
class Counting:
    """What this server has counted of one version under one generation; see `rules.guards.Side`."""

    answered: int = 0
    dropped: int = 0
    errors: dict[str, None] = field(default_factory=dict)
    slow: dict[str, None] = field(default_factory=dict)
    predictions: dict[str, int] = field(default_factory=dict)

    def thin(self, level: int) -> None:
        """Let go of the names that are not in the sample of a level."""
        self.errors = {unit: None for unit in self.errors if sampled(unit, level)}
        self.slow = {unit: None for unit in self.slow if sampled(unit, level)}
        self.predictions = {unit: where for unit, where in self.predictions.items() if sampled(unit, level)}

    def side(self) -> Side:
        """As other servers read it."""
        return Side(
            answered=self.answered, dropped=self.dropped, errors=tuple(self.errors), slow=tuple(self.slow),
            predictions=dict(self.predictions),
        )  # fmt: skip


class Counter:
    """Counts for one pipeline under one generation of its plan. `changed` rises with each event that a guard may take
    for harm; `fresh` says that something was counted since it was last written."""

    def __init__(self, plan: TrafficPlan, bins: tuple[float, ...]) -> None:
        self.generation, self._bins = plan.generation, bins
        self.share = next((arm.share for arm in plan.arms if arm.role == "challenger"), 0.0)
        self.level = 0
        self._of: dict[int, Counting] = {arm.version: Counting() for arm in plan.versions}
        self.changed, self.fresh = 0, False

    def answered(self, version: int, unit: str, prediction: Any, slow: bool) -> None:
        """A unit got a prediction: a number, or probabilities of classes."""
        of = self._of.get(version)
        if of is None:
            return
        of.answered += 1
        self.fresh = True
        if self._room(of.predictions, unit):
            of.predictions[unit] = self._bin(prediction)
        if slow and self._room(of.slow, unit):
            of.slow[unit] = None
            self.changed += 1

    def failed(self, version: int, unit: str) -> None:
        """A unit met an error of the model."""
        of = self._of.get(version)
        if of is None:
            return
        of.answered += 1
        self.fresh = True
        if self._room(of.errors, unit):
            of.errors[unit] = None
            self.changed += 1

    def dropped(self, version: int, times: int = 1) -> None:
        """A shadow had no time for a request."""
        if (of := self._of.get(version)) is not None:
            of.dropped += times
            self.fresh = True

    def counts(self) -> Counts:
        """As they are written for other servers."""
        self.fresh = False
        while True:
            level = self.level
            sides = {version: of.side() for version, of in self._of.items() if of.answered or of.dropped}
            if level == self.level:  # or another thread has let go of names meanwhile
                return Counts(generation=self.generation, share=self.share, level=level, sides=sides)

    def _room(self, held: Mapping[str, object], unit: str) -> bool:
        """Whether a unit is to be held by name, too. Where there are too many, half of them go, on all sides."""
        if unit in held or not sampled(unit, self.level):
            return False
        if len(held) < MOST:
            return True
        self.level += 1
        for of in self._of.values():
            of.thin(self.level)
        return sampled(unit, self.level)

    def _bin(self, prediction: Any) -> int:
        if isinstance(prediction, float):
            return bisect_right(self._bins, prediction)
        likeliest = max(range(len(prediction)), key=prediction.__getitem__)
        return min(likeliest, BINS - 1)


@dataclass(frozen=True)
class InForce:
    """One pipeline as it is served now. `plan` is less its vetoes; `written` is the plan as it was decided."""

    plan: TrafficPlan
    written: TrafficPlan
    vetoed: frozenset[int]
    counter: Counter
    entity: tuple[str, ...]
    on_demand: tuple[OnDemandView, ...] = ()
    """ Of all versions. """
    request: tuple[Typed, ...] = field(init=False)
    """ What on-demand features take from a request beside the join keys. """
    names: frozenset[str] = field(init=False)
    """ What a request by entities may name. """
    inputs: tuple[str, ...] = field(init=False)
    """ Features that on-demand features are made from. """

    def __post_init__(self) -> None:
        request = request_fields(self.on_demand)
        inputs = dict.fromkeys(each.name for view in self.on_demand for each in view.inputs)
        object.__setattr__(self, "request", request)
        object.__setattr__(self, "names", frozenset((*self.entity, *(each.name for each in request))))
        object.__setattr__(self, "inputs", tuple(inputs))

    @property
    def watched(self) -> bool:
        """Whether guards look: then servers tell each other what they count."""
        return self.plan.watched and self.suspect is not None

    @property
    def suspect(self) -> tuple[int, int | None] | None:
        """The version that guards look at, and the one that it is compared with; None where there is nothing new."""
        arms, plan = self.plan.arms, self.plan
        if len(arms) > 1:
            return arms[1].version, arms[0].version
        if plan.shadow is not None:
            return plan.shadow.version, arms[0].version if arms else None
        if plan.former is not None and arms and arms[0].version != plan.former.version:
            return arms[0].version, plan.former.version
        return None

    @property
    def stopped(self) -> bool:
        """Whether a person has stopped the pipeline: no model answers."""
        return self.plan.toggles.stopped

    @cached_property
    def forced(self) -> Arm | None:
        """The version that a person lets answer everything, where it may answer."""
        number = self.plan.toggles.version
        return None if number is None else self.version(number)

    @cached_property
    def met(self) -> tuple[Arm | None, Arm | None]:
        """Whom units meet, and whom the second one's share of them meets instead; None: none. Requests and flags ask
        it alike: it says once what the plan, its vetoes and a person's switches come to."""
        if self.stopped:
            return None, None
        if self.forced is not None:
            return self.forced, None
        first, second = (*self.plan.arms, None, None)[:2]
        return first, second

    def arm(self, unit: str) -> Arm | None:
        """The version that a unit meets; None where none answers."""
        first, second = self.met
        if second is not None and meets_new(self.plan.salt, unit, second.share):
            return second
        return first

    def version(self, number: int) -> Arm | None:
        """An arm by its version, where it may answer."""
        if number in self.vetoed:
            return None
        return next((arm for arm in self.plan.versions if arm.version == number), None)

    def shadowed(self, unit: str) -> bool:
        """Whether a unit's requests are shadowed: drawn apart from what answers it."""
        shadow = self.plan.shadow
        return shadow is not None and (shadow.share >= 1 or point(f"shadow {self.plan.salt}", unit) < shadow.share)

    def kept(self, unit: str) -> bool:
        """Whether a unit's features are kept in the log."""
        share = self.plan.serving.log.inputs
        return share >= 1 or (share > 0 and point(f"inputs {self.plan.salt}", unit) < share)

    def named(self, unit: str) -> str:
        """What stands for a unit in what is counted."""
        return name(self.plan.salt, unit)


def unit_of(entity: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """An entity as a unit."""
    if len(keys) == 1:
        return str(entity.get(keys[0]))
    return "\x1f".join(str(entity.get(key)) for key in keys)
