"""Guards: what servers have counted of two versions, and whether it shows that the new one does harm. Pure.

Each server counts for itself, under each generation of the plan; what it has counted is one JSON object. Counts hold
names of units, not numbers of requests: a unit that met a version on three servers, or under two generations, counts
once. At most MOST units a side are held, the first ones, which are as good as any.

A version is compared with the one that answers beside it. One that answers nobody (a shadow), or everybody (after its
promotion), is held to a stated rate of errors; its predictions in shadow are compared with the champion's on the same
units. The chance of a false stop is shared evenly by the guards that are on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from millrace.rules.sequential import Tally, above, excess, lack
from millrace.spec.serving import Guards

MOST = 4096
"""Units of a version that a server holds by name, for each thing that is counted."""
SLOW_TIMES = 5
"""How many times the rate of errors may be slow, where nothing stands beside a version."""
BINS = 10


class Side(BaseModel):
    """What one version did under one generation. Units are named as `rules.traffic.name` does."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    answered: int = Field(default=0, description="Requests.")
    errors: tuple[str, ...] = Field(default=(), description="Units that met an error of the model.")
    slow: tuple[str, ...] = Field(default=(), description="Units that waited too long for it.")
    predictions: dict[str, int] = Field(default_factory=dict, description="Unit -> bin of its first prediction.")
    dropped: int = Field(default=0, description="Requests that a shadow did not predict, since it was too busy.")


class Counts(BaseModel):
    """What one server has counted under one generation. `share`: of the units, that the challenger answers; 0: none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    generation: int
    share: float
    sides: dict[int, Side] = Field(default_factory=dict, description="By version.")


@dataclass
class Met:
    """Units that met a version under one generation, each for the first time."""

    answered: int = 0
    dropped: int = 0
    errors: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    predictions: dict[str, int] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """How many, as far as they are held by name."""
        return len(self.predictions.keys() | self.errors)


@dataclass(frozen=True)
class Generation:
    """All servers' counts under one generation: the share of the challenger, and what each version met."""

    number: int
    share: float
    sides: Mapping[int, Met]

    def of(self, version: int) -> Met:
        """What a version met; nothing where it did not answer."""
        return self.sides.get(version) or Met()


@dataclass(frozen=True)
class Finding:
    """What a guard says of the new version. `events` and `units` are its own, `beside` those of the other version."""

    guard: str
    evidence: float
    needed: float
    events: int
    beside: int | None

    @property
    def harm(self) -> bool:
        """Whether it shows harm."""
        return self.evidence >= self.needed

    @property
    def words(self) -> str:
        """For a person."""
        beside = "" if self.beside is None else f" beside {self.beside} of the version before"
        return f"{self.guard}: {self.events}{beside}; evidence {self.evidence:.1f} of {self.needed:.1f} needed"


def merge(counts: Iterable[Counts]) -> list[Generation]:
    """Add up what servers have counted, by generation: a unit counts under the first in which it had the event."""
    by: dict[int, list[Counts]] = {}
    for each in counts:
        by.setdefault(each.generation, []).append(each)
    seen: dict[int, Met] = {}
    found = []
    for number in sorted(by):
        sides: dict[int, Met] = {}
        for each in by[number]:
            for version, side in each.sides.items():
                met, before = sides.setdefault(version, Met()), seen.setdefault(version, Met())
                met.answered += side.answered
                met.dropped += side.dropped
                met.errors |= set(side.errors) - before.errors
                met.slow |= set(side.slow) - before.slow
                for unit, where in side.predictions.items():
                    if unit not in before.predictions:
                        met.predictions.setdefault(unit, where)
        for version, met in sides.items():
            before = seen[version]
            before.errors |= met.errors
            before.slow |= met.slow
            before.predictions |= met.predictions
        found.append(Generation(number, max(each.share for each in by[number]), sides))
    return found


def judge(generations: Sequence[Generation], new: int, old: int | None, guards: Guards) -> list[Finding]:
    """What each guard that is on says of version `new`, beside version `old`; the first that shows harm stops it."""
    on = [name for name, is_on in (("errors", guards.errors), ("slow", guards.slow_ms is not None),
                                   ("predictions", guards.predictions)) if is_on]  # fmt: skip
    if not on:
        return []
    # errors and slow answers are looked at in two ways, beside another version and against a rate
    needed = math.log(sum(1 if name == "predictions" else 2 for name in on) / guards.alpha)
    beside = [g for g in generations if 0 < g.share < 1 and old is not None]
    alone = [g for g in generations if g not in beside]
    found = []
    for name in on:
        if name == "predictions":
            found.append(_predictions(generations, new, old, guards, needed))
            continue
        rate = guards.rate if name == "errors" else min(SLOW_TIMES * guards.rate, 0.9)
        if beside and old is not None:
            tallies = [Tally(g.share, len(getattr(g.of(new), name)), len(getattr(g.of(old), name))) for g in beside]
            found.append(Finding(name, excess(tallies, guards.tolerated), needed, sum(t.new for t in tallies),
                                 sum(t.old for t in tallies)))  # fmt: skip
        if alone:
            events = sum(len(getattr(g.of(new), name)) for g in alone)
            units = max(events, sum(g.of(new).units for g in alone))
            found.append(Finding(name, above(events, units, rate), needed, events, None))
    return found


def _predictions(
    generations: Sequence[Generation], new: int, old: int | None, guards: Guards, needed: float
) -> Finding:
    """Whether predictions fall into other bins than the other version's: of units that were split, by side; of those
    that met both (a shadow), of the ones where the two differ, which of them is in the bin."""
    logs, moved, stayed = [], 0, 0
    for where in range(BINS):
        tallies = []
        for each in generations:
            if old is None:
                continue
            mine, other = each.of(new).predictions, each.of(old).predictions
            if 0 < each.share < 1:
                tallies.append(Tally(each.share, _in(mine, where), _in(other, where)))
            else:
                both = [(mine[unit], other[unit]) for unit in mine.keys() & other.keys()]
                tallies.append(Tally(0.5, sum(a == where != b for a, b in both), sum(b == where != a for a, b in both)))
        moved, stayed = moved + sum(t.new for t in tallies), stayed + sum(t.old for t in tallies)
        logs += [excess(tallies, guards.distribution), lack(tallies, 1 / guards.distribution)]
    largest = max(logs)
    evidence = largest + math.log(sum(math.exp(each - largest) for each in logs) / len(logs))
    return Finding("predictions", evidence, needed, moved, stayed)


def _in(predictions: Mapping[str, int], where: int) -> int:
    return sum(each == where for each in predictions.values())
