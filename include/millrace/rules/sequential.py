"""Evidence that may be looked at at any time: a stop after any look is wrong no more often than stated. Pure.

What is watched are units (a user, an entity, a request that names none), each with one value in [0, 1]: the share of
its requests that failed, were slow, or fell into a class of predictions. Requests of one unit hang together; taken for
units they ring false alarms. Counts hold all that the evidence needs, so those of several servers are added up.

`interval` is a confidence sequence from the mixture martingale of Robbins (Ann. Math. Stat. 41, 1970): the likelihood
ratio of the values' mean against p, averaged over a Beta prior, is a non-negative supermartingale for every sequence
in [0, 1] whose conditional mean is p, as (q/p)^x ((1-q)/(1-p))^(1-x) is convex in x. By Ville's inequality it exceeds
1/alpha at some time with probability alpha at most. `Bets` is the hedged capital of Waudby-Smith and Ramdas (JRSS-B 86,
2024, section 4), which knows the spread of what it saw and so is shorter for paired differences, where a mean lies far
from the ends; it depends on their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

PRIOR = (0.5, 4.5)
"""Beta prior of a share that is small where all is well, such as errors: it costs little where a share is large."""
FLAT = (0.5, 0.5)
"""Beta prior of a share of which nothing is known."""
GRID = 400
"""Means that `Bets` tells apart."""
_HALVINGS = 50

Judgement = Literal["harm", "no harm", "open"]


@dataclass(frozen=True)
class Counts:
    """Units that were seen, and the sum of their values in [0, 1]."""

    units: float = 0
    total: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.total <= self.units:
            raise ValueError(f"values of {self.units} units in [0, 1] cannot add up to {self.total}")

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.units + other.units, self.total + other.total)

    @property
    def mean(self) -> float:
        """Mean of the values; one half where none was seen."""
        return self.total / self.units if self.units else 0.5


def interval(seen: Counts, alpha: float, prior: tuple[float, float] = FLAT) -> tuple[float, float]:
    """Bounds of the mean that hold at all times at once, each look included, with probability 1 - alpha."""
    if not seen.units:
        return 0.0, 1.0
    limit, mean = math.log(1 / alpha), seen.mean

    def beyond(p: float) -> bool:
        return _evidence(seen, p, prior) > limit

    low = _edge(beyond, 0.0, mean) if mean > 0 else 0.0
    high = _edge(beyond, 1.0, mean) if mean < 1 else 1.0
    return low, high


def against(seen: Counts, share: float, prior: tuple[float, float] = FLAT) -> float:
    """Log of the evidence against a stated mean; more than log(1 / alpha) refutes it."""
    return _evidence(seen, share, prior)


def harm(new: Counts, old: Counts, alpha: float, margin: float = 0.0, prior: tuple[float, float] = PRIOR) -> Judgement:
    """Whether the mean of what is new exceeds that of what is old by more than a margin.

    'harm' is wrong with probability alpha at most over all looks, and so is 'no harm'.
    """
    new_low, new_high = interval(new, alpha / 2, prior)
    old_low, old_high = interval(old, alpha / 2, prior)
    if new_low > old_high + margin:
        return "harm"
    return "no harm" if new_high < old_low + margin else "open"


def differ(new: Counts, old: Counts, alpha: float, margin: float = 0.0, prior: tuple[float, float] = FLAT) -> bool:
    """Whether two means lie further apart than a margin, in either direction."""
    new_low, new_high = interval(new, alpha / 2, prior)
    old_low, old_high = interval(old, alpha / 2, prior)
    return new_low > old_high + margin or old_low > new_high + margin


def skewed(new: int, old: int, share: float, alpha: float) -> bool:
    """Whether units were not split as planned, of which `share` should have met what is new: then who met it is no
    chance, and nothing else that was seen can be compared."""
    return against(Counts(new + old, new), share) > math.log(1 / alpha)


class Bets:
    """A confidence sequence of the mean of values in [low, high], one after another, such as each day's difference of
    two models' losses. Their conditional mean must not change.

    `low` and `high` bound what can be; `interval` what is believed.
    """

    def __init__(self, alpha: float, low: float = -1.0, high: float = 1.0) -> None:
        if not low < high:
            raise ValueError(f"no value lies between {low} and {high}")
        self.alpha, self.low, self.high = alpha, low, high
        self.seen = 0
        self._sum, self._squares = 0.5, 0.25
        self._means = [(n + 0.5) / GRID for n in range(GRID)]
        self._up, self._down = [0.0] * GRID, [0.0] * GRID
        self._first, self._last = 0, GRID - 1

    def add(self, values: Iterable[float]) -> Bets:
        """Take further values. Raises ValueError for one that cannot be."""
        for value in values:
            if not self.low <= value <= self.high:
                raise ValueError(f"{value} does not lie in [{self.low}, {self.high}]")
            self._bet((value - self.low) / (self.high - self.low))
        return self

    def _bet(self, x: float) -> None:
        """One step of the capital against every mean of the grid that is still believed; what was refuted stays so."""
        self.seen += 1
        spread = self._squares / self.seen
        stake = math.sqrt(2 * math.log(2 / self.alpha) / (spread * self.seen * math.log(1 + self.seen)))
        limit = math.log(2 / self.alpha)
        for n in range(self._first, self._last + 1):
            mean = self._means[n]
            self._up[n] += math.log1p(min(stake, 0.5 / mean) * (x - mean))
            self._down[n] += math.log1p(-min(stake, 0.5 / (1 - mean)) * (x - mean))
        while self._first <= self._last and max(self._up[self._first], self._down[self._first]) > limit:
            self._first += 1
        while self._last >= self._first and max(self._up[self._last], self._down[self._last]) > limit:
            self._last -= 1
        self._sum += x
        self._squares += (x - self._sum / (self.seen + 1)) ** 2

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds of the mean that hold at all times at once with probability 1 - alpha."""
        width = self.high - self.low
        return self.low + width * self._first / GRID, self.low + width * (self._last + 1) / GRID


def _evidence(seen: Counts, p: float, prior: tuple[float, float]) -> float:
    """Log of the mixture martingale of a mean p at these counts."""
    a, b = prior
    yes, no = seen.total, seen.units - seen.total
    if (p <= 0 and yes > 0) or (p >= 1 and no > 0):
        return math.inf
    likelihood = (yes * math.log(p) if yes else 0.0) + (no * math.log1p(-p) if no else 0.0)
    return _beta(a + yes, b + no) - _beta(a, b) - likelihood


def _beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _edge(beyond: object, outside: float, inside: float) -> float:
    """Where evidence begins to refute, between a mean that may be refuted and one that is not."""
    assert callable(beyond)
    if not beyond(outside):
        return outside
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        if beyond(middle):
            outside = middle
        else:
            inside = middle
    return outside
