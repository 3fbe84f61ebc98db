"""Two versions by the outcomes of what they answered: a figure for each block of time, as `sequential.Bets` takes them.

Rows of a block hang together, and so do requests of a unit: values of a block are made one, and those of a unit before.
Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

Request = tuple[str, int]
"""Id of a request, and number of the row in it."""


@dataclass(frozen=True)
class Loss:
    """What one version's answer to a row of a request turned out to cost, in a block of time whose keys sort by it."""

    request: Request
    version: int | None
    block: str
    value: float
    unit: str | None = None


@dataclass(frozen=True)
class Pair:
    """Mean loss of two versions in a block, over the requests that both answered."""

    new: float
    old: float

    @property
    def difference(self) -> float:
        """How much more the new version loses."""
        return self.new - self.old


@dataclass(frozen=True)
class Arms:
    """Mean outcome of the units of each arm in a block, and how many units there were."""

    new: float
    old: float
    new_units: int
    old_units: int

    @property
    def difference(self) -> float:
        """How much more the new arm has."""
        return self.new - self.old


def paired_losses(losses: Iterable[Loss], *, new: int, old: int) -> dict[str, Pair]:
    """Block -> mean losses of `new` and `old` over the requests which both answered, by time.

    As a shadow beside its champion does. A request that a version answered in several roles counts once;
    a block in which no request has both is left out. Raises ValueError for one version with itself.
    """
    if new == old:
        raise ValueError(f"version {new} is not compared with itself")
    found: dict[tuple[str, Request], dict[int, float]] = defaultdict(dict)
    for each in losses:
        if each.version in (new, old):
            mine = found[each.block, each.request]
            mine[each.version] = min(each.value, mine.get(each.version, math.inf))
    blocks: dict[str, list[dict[int, float]]] = defaultdict(list)
    for (block, _), both in found.items():
        if len(both) == 2:
            blocks[block].append(both)
    return {
        block: Pair(*(math.fsum(both[version] for both in pairs) / len(pairs) for version in (new, old)))
        for block, pairs in sorted(blocks.items())
    }


def arm_outcomes(outcomes: Iterable[Loss], *, new: int, old: int) -> dict[str, Arms]:
    """Block -> mean over the units of each arm of the unit's own mean, by time; `value` is the outcome's metric.

    As an A/B test judges its arms: a unit counts once a block, however often it asks. Where a unit met both versions in
    a block it counts in neither arm, and a row without a unit is one by its request. A block without both arms is left
    out. Raises ValueError for one version with itself.
    """
    if new == old:
        raise ValueError(f"version {new} is not compared with itself")
    found: dict[tuple[str, str | Request], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in outcomes:
        if each.version in (new, old):
            found[each.block, each.unit if each.unit is not None else each.request][each.version].append(each.value)
    blocks: dict[str, dict[int, list[float]]] = defaultdict(lambda: {new: [], old: []})
    for (block, _), mine in found.items():
        if len(mine) == 1:
            ((version, values),) = mine.items()
            blocks[block][version].append(math.fsum(values) / len(values))
    judged = {}
    for block, arms in sorted(blocks.items()):
        if arms[new] and arms[old]:
            means = {version: math.fsum(values) / len(values) for version, values in arms.items()}
            judged[block] = Arms(means[new], means[old], len(arms[new]), len(arms[old]))
    return judged
