"""Guards: what servers have counted of two versions, and whether it shows that the new one does harm. Pure.

Each server counts for itself, under each generation of the plan; what it has counted is one JSON object. Counts hold
names of units, not numbers of requests: a unit that met a version on three servers counts once. No side holds more than
MOST names: before there are more, all sides let go of the same half of the names, and take none of that half any more.
What is left is a sample of the units, which no event has to do with (a 2 ** -level of them).

A version is compared with the one that answers beside it, step by step: a unit that met the old one while the new one
had 5 % of the units lies above those, and meets the new one at 25 % with a chance of 20 / 95; one that met the new one
before meets it again, which says nothing. A version that answers nobody (a shadow), or everybody (after its promotion),
is held to a stated rate of errors; its predictions in shadow are compared with the champion's on the same units. The
chance of a false stop is shared evenly by the guards that are on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from pydantic import BaseModel, ConfigDict, Field

from millrace.rules.sequential import Tally, above, excess, lack
from millrace.spec.serving import Guards

MOST = 4096
"""Units of a version that a server holds by name, for each thing that is counted."""
SLOW_TIMES = 5
"""How many times the rate of errors may be slow, where nothing stands beside a version."""
BINS = 10
BETS = tuple((n + 0.5) / 16 for n in range(16))
"""Shares of the largest stake that is put on a bin that predictions of pairs went to."""


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
    level: int = Field(default=0, ge=0, description="Of the sample: a 2 ** -level of the units is held by name.")
    sides: dict[int, Side] = Field(default_factory=dict, description="By version.")


@dataclass
class Met:
    """Units that met a version under one generation. `answered` and `dropped` are requests."""

    answered: int = 0
    dropped: int = 0
    errors: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    predictions: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """All that are held by name."""
        return self.predictions.keys() | self.errors | self.slow

    @property
    def units(self) -> int:
        """How many, as far as they are held by name."""
        return len(self.names)

    def add(self, other: Side | Met, level: int = 0) -> None:
        """Take what else was counted of the same version, of the units in the sample of a level."""
        self.answered += other.answered
        self.dropped += other.dropped
        self.errors.update(unit for unit in other.errors if sampled(unit, level))
        self.slow.update(unit for unit in other.slow if sampled(unit, level))
        for unit, where in other.predictions.items():
            if unit not in self.predictions and sampled(unit, level):
                self.predictions[unit] = where

    def only(self, names: Collection[str]) -> Met:
        """Units of these names."""
        return Met(errors=self.errors & set(names), slow=self.slow & set(names),
                   predictions={unit: where for unit, where in self.predictions.items() if unit in names})  # fmt: skip


@dataclass(frozen=True)
class Generation:
    """All servers' counts under one generation, or of units in it that have the same past: the chance with which one
    of them meets the challenger, and what each version met."""

    number: int
    share: float
    sides: Mapping[int, Met]
    level: int = 0

    @property
    def split(self) -> bool:
        """Whether two versions answered."""
        return 0 < self.share < 1

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


def sampled(name: str, level: int) -> bool:
    """Whether a unit belongs to the sample of a level. Those of a level are among those of the one before."""
    return level == 0 or int(name, 16) % (1 << level) == 0


def merge(counts: Iterable[Counts]) -> list[Generation]:
    """Add up what servers have counted, by generation: a unit that several of them met counts once."""
    by: dict[int, list[Counts]] = {}
    for each in counts:
        by.setdefault(each.generation, []).append(each)
    found = []
    for number in sorted(by):
        level = max(each.level for each in by[number])
        sides: dict[int, Met] = {}
        for each in by[number]:
            for version, side in each.sides.items():
                sides.setdefault(version, Met()).add(side, level)
        found.append(Generation(number, max(each.share for each in by[number]), sides, level))
    return found


def judge(generations: Sequence[Generation], new: int, old: int | None, guards: Guards) -> list[Finding]:
    """What each guard that is on says of version `new`, beside version `old`; the first that shows harm stops it."""
    on = [name for name, is_on in (("errors", guards.errors), ("slow", guards.slow_ms is not None),
                                   ("predictions", guards.predictions)) if is_on]  # fmt: skip
    if not on:
        return []
    # errors and slow answers are looked at in two ways, beside another version and against a rate
    needed = math.log(sum(1 if name == "predictions" else 2 for name in on) / guards.alpha)
    if level := sum(each.level for each in generations):
        needed += math.log(20 * level * (level + 1))  # all samples together add a twentieth to the chance
    beside = [] if old is None else _splits(generations, new, old)
    alone = [each for each in generations if old is None or not each.split]
    shadowing = [each for each in alone if old is not None and each.of(old).names]
    found = []
    for name in on:
        if name == "predictions":
            if old is not None:
                found.append(_predictions(beside, _pairs(shadowing, new, old), new, old, guards, needed))
            continue
        rate = guards.rate if name == "errors" else min(SLOW_TIMES * guards.rate, 0.9)
        if any(each.split for each in generations) and old is not None:
            tallies = [Tally(g.share, len(getattr(g.of(new), name)), len(getattr(g.of(old), name))) for g in beside]
            found.append(Finding(name, excess(tallies, guards.tolerated), needed, sum(t.new for t in tallies),
                                 sum(t.old for t in tallies)))  # fmt: skip
        if alone:
            answering = [each for each in alone if each not in shadowing]
            found.append(_alone(name, [_together(shadowing, new), _together(answering, new)], rate, needed))
    return found


def _splits(generations: Sequence[Generation], new: int, old: int) -> list[Generation]:
    """The generations in which both answered, of each the units that it could still put on either side."""
    above: dict[str, float] = {}  # of a unit that met the old version: the share that it lies above
    below: set[str] = set()
    found = []
    for share, some in groupby((each for each in generations if each.split), lambda each: each.share):
        same = list(some)
        mine, other = _together(same, new), _together(same, old)
        past: dict[float, set[str]] = {}
        for unit in (mine.names | other.names) - below:
            past.setdefault(above.get(unit, 0.0), set()).add(unit)
        for least, units in past.items():
            if least < share:
                found.append(Generation(same[0].number, (share - least) / (1 - least),
                                        {new: mine.only(units), old: other.only(units)}))  # fmt: skip
        below |= mine.names
        above.update((unit, max(share, above.get(unit, 0.0))) for unit in other.names)
    return found


def _together(generations: Sequence[Generation], version: int) -> Met:
    """What a version met under several generations, each unit once."""
    met, level = Met(), max((each.level for each in generations), default=0)
    for each in generations:
        met.add(each.of(version), level)
    return met


def _alone(guard: str, met: Sequence[Met], rate: float, needed: float) -> Finding:
    """Whether too many units have an event: as a shadow, or as the one that answers. Each has half of the evidence, so
    that what it did well as a shadow does not speak for it later."""
    logs = []
    for each in met:
        events = len(getattr(each, guard))
        logs.append(above(events, max(events, each.units), rate))
    return Finding(guard, _mean(logs), needed, sum(len(getattr(each, guard)) for each in met), None)


def _pairs(generations: Sequence[Generation], new: int, old: int) -> list[tuple[int, int]]:
    """Bins of the predictions of both versions for the same units, each unit once."""
    mine, other = _together(generations, new).predictions, _together(generations, old).predictions
    return [(mine[unit], other[unit]) for unit in mine.keys() & other.keys()]


def _predictions(
    beside: Sequence[Generation], pairs: Sequence[tuple[int, int]], new: int, old: int, guards: Guards, needed: float
) -> Finding:
    """Whether predictions fall into a bin more or less often than the other version's: of units that were split, by
    side; of those that met both (a shadow), by who of the two is in the bin."""
    logs, moved, stayed = [], 0, 0
    times = guards.distribution
    sides = [(each.share, Counter(each.of(new).predictions.values()), Counter(each.of(old).predictions.values()))
             for each in beside]  # fmt: skip
    both = Counter(pairs)
    for where in range(BINS):
        tallies = [Tally(share, mine[where], other[where]) for share, mine, other in sides]
        here = both[where, where]
        came = sum(count for (a, b), count in both.items() if a == where != b)
        went = sum(count for (a, b), count in both.items() if b == where != a)
        moved, stayed = moved + sum(t.new for t in tallies) + came, stayed + sum(t.old for t in tallies) + went
        logs += [excess(tallies, times), _oftener(came, went, here, times),
                 lack(tallies, 1 / times), _oftener(went, came, here, times)]  # fmt: skip
    return Finding("predictions", _mean(logs), needed, moved, stayed)


def _oftener(mine: int, other: int, both: int, times: float) -> float:
    """Log of the evidence that one of a pair is in a bin more than `times` as often as its other, from how many pairs
    have it, its other, or both there. Bets on the mean of what one has less `times` what its other has: 0 at most where
    it is not, so that the capital is a supermartingale however the two hang together."""
    stakes = [bet / max(times, 1) for bet in BETS]
    return _mean([mine * math.log(1 + stake) + other * math.log(1 - stake * times)
                  + both * math.log(1 - stake * (times - 1)) for stake in stakes])  # fmt: skip


def _mean(logs: Sequence[float]) -> float:
    """Log of the mean of what is given as logs."""
    largest = max(logs)
    return largest + math.log(sum(math.exp(each - largest) for each in logs) / len(logs))
