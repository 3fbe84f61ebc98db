"""Evidence that may be looked at at any time: a stop after any look is wrong no more often than stated. Pure.

*Guards* (`excess`, `shift`) watch events of units: a unit (a user, an entity, a request that names none) fails for the
first time, is slow, gets a prediction of some class. Units were split at random, a known share of them met what is new.
Where it does no harm, an event falls to it with that share, whatever the rate of events is and however it moves: an
outage that hits both sides says nothing. The likelihood ratio of the sides of all events against that share, averaged
over how many times as often events come to what is new, is a non-negative supermartingale; by Ville's inequality it
exceeds 1 / alpha at some time with probability alpha at most. `above` is the same of units that have nothing beside
them. Tallies hold all that it needs, so those of several
servers and of several steps of a rollout are put in one list, in any order. Requests of one unit hang together: counted
one by one they ring false alarms.

*Bets* is a confidence sequence of a mean, such as each day's difference of two models' losses: the hedged capital of
Waudby-Smith and Ramdas (JRSS-B 86, 2024, section 4), which learns the spread of what it sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TIMES = tuple(1.15 * (1000 / 1.15) ** (n / 15) for n in range(16))
"""How many times as often events may come to what is new: from hardly more to nearly always."""
GRID = 400
"""Means that `Bets` tells apart."""


@dataclass(frozen=True)
class Tally:
    """Events of units that met what is new, and of those that met what is old, while a `share` in (0, 1) of all units
    met what is new."""

    share: float
    new: int
    old: int

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"a share of units lies between 0 and 1, not at {self.share}")
        if self.new < 0 or self.old < 0:
            raise ValueError(f"{min(self.new, self.old)} events cannot be")


def excess(tallies: Iterable[Tally], ratio: float = 1.0) -> float:
    """Log of the evidence that events come to what is new more than `ratio` times as often as to what is old.

    -inf to inf; `log(1 / alpha)` shows it at level alpha, at whichever look it is reached first.
    """
    return _mean(_evidence(list(tallies), ratio, ratio * times) for times in TIMES)


def lack(tallies: Iterable[Tally], ratio: float = 1.0) -> float:
    """Log of the evidence that events come to what is new less than `ratio` times as often: with a ratio above 1 that
    it does no more harm than that, with 1 that it does good."""
    return _mean(_evidence(list(tallies), ratio, ratio / times) for times in TIMES)


def shift(tallies: Iterable[Tally]) -> float:
    """Log of the evidence that events come more often or less often to what is new. Of all units as events it says
    whether they were split as planned: where not, who met what is new is no chance, and nothing can be compared."""
    known = list(tallies)
    return _mean((excess(known), lack(known)))


def above(events: int, units: int, rate: float) -> float:
    """Log of the evidence that more than a `rate` in (0, 1) of units have an event, where nothing stands beside them to
    compare with. The same mean of likelihood ratios, against units that have one with that chance each."""
    if not 0 < rate < 1 or not 0 <= events <= units:
        raise ValueError(f"{events} events of {units} units cannot come at a rate of {rate}")
    logs = []
    for times in TIMES:
        other = rate * times / (rate * times + 1 - rate)  # the odds grow as many times, so that it stays a chance
        logs.append(events * math.log(other / rate) + (units - events) * math.log((1 - other) / (1 - rate)))
    return _mean(logs)


def shown(evidence: float, alpha: float) -> bool:
    """Whether evidence suffices at a level."""
    return evidence >= math.log(1 / alpha)


def _evidence(tallies: list[Tally], ratio: float, times: float) -> float:
    """Log likelihood ratio of events that come `times` as often to what is new against `ratio` times."""
    total = 0.0
    for each in tallies:
        said, other = (each.share * t / (each.share * t + 1 - each.share) for t in (ratio, times))
        total += each.new * math.log(other / said) + each.old * math.log((1 - other) / (1 - said))
    return total


def _mean(logs: Iterable[float]) -> float:
    """Log of the mean of what is given as logs."""
    known = list(logs)
    largest = max(known)
    return largest + math.log(sum(math.exp(each - largest) for each in known) / len(known))


class Bets:
    """A confidence sequence of the mean of values in [low, high] that come one after another, in time's order.

    Their mean, given those before, must be the same at each time: values of a day are first made one, as its rows hang
    together. `interval` holds the mean at all times at once with probability 1 - alpha.
    """

    def __init__(self, alpha: float, low: float = -1.0, high: float = 1.0) -> None:
        if not low < high:
            raise ValueError(f"no value lies between {low} and {high}")
        self.alpha, self.low, self.high, self.seen = alpha, low, high, 0
        self._sum, self._squares = 0.5, 0.25
        self._means = [(n + 0.5) / GRID for n in range(GRID)]
        self._above, self._below = [0.0] * GRID, [0.0] * GRID
        self._first, self._last = 0, GRID - 1

    def add(self, values: Iterable[float]) -> Bets:
        """Take further values. Raises ValueError for one that cannot be."""
        for value in values:
            if not self.low <= value <= self.high:
                raise ValueError(f"{value} does not lie in [{self.low}, {self.high}]")
            self._bet((value - self.low) / (self.high - self.low))
        return self

    def _bet(self, x: float) -> None:
        """One step of the capital against every mean that is still believed; what was refuted stays so."""
        self.seen += 1
        limit = math.log(2 / self.alpha)
        spread = self._squares / self.seen  # of what came before
        stake = math.sqrt(2 * limit / (spread * self.seen * math.log(1 + self.seen)))
        for n in range(self._first, self._last + 1):
            mean = self._means[n]
            self._above[n] += math.log1p(min(stake, 0.5 / mean) * (x - mean))
            self._below[n] += math.log1p(-min(stake, 0.5 / (1 - mean)) * (x - mean))
        while self._first <= self._last and self._refuted(self._first, limit):
            self._first += 1
        while self._last >= self._first and self._refuted(self._last, limit):
            self._last -= 1
        self._sum += x
        self._squares += (x - self._sum / (self.seen + 1)) ** 2

    def _refuted(self, n: int, limit: float) -> bool:
        return max(self._above[n], self._below[n]) > limit

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds of the mean; nothing is between them where the values cannot have one mean."""
        width = (self.high - self.low) / GRID
        return self.low + width * self._first, self.low + width * (self._last + 1)
