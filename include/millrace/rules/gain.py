"""What a retraining would win, by a probe of it, and whether that is worth its cost. Pure.

A probe is a model as a retraining would make it now, measured on blocks of the newest partition that it did not see.
Champion less probe, paired by block, is what a retraining wins: the partition's own difficulty drops out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from millrace.rules.blocks import MINIMUM_BLOCKS, WEIGHT, Blocks, estimate, student

STRICT, BELIEVED = 0.002, 0.10
"""Chance of a gain that is none at which a pipeline is retrained that has not gained before, and one that has.

These and what follows were chosen on the streams of bench/retraining.py, seeds 0 to 19.
"""
WINDOWS, PROVEN, SHARE, MOST = 12, 2.33, 0.5, 3.0
"""A pipeline has gained where its last `WINDOWS` windows, each with its gain less `SHARE` of the cost in standard
errors, at most `MOST` of them either way, together lie `PROVEN` standard errors above nothing."""
HALF_LIFE = 3.0
"""Partitions after which a row counts half in a probe, and a retraining, that gives recent rows more weight."""
RUNS = 6
"""Runs of blocks that a partition is cut into, which the two halves take in turn: a block is not judged by a probe that
saw the blocks beside it, which remember the same."""


@dataclass(frozen=True)
class Gain:
    """What a retraining wins on one partition, as a share of the champion's loss on its own holdout: mean over rows,
    its standard error with the degrees of freedom, and whether the probe that won it gives recent rows more weight."""

    mean: float
    error: float
    freedom: float
    recent: bool = False


@dataclass(frozen=True)
class Worth:
    """The gain foregone over the last `windows` partitions: `total`, and `bound`, which it exceeds but for a chance of
    `rate`. `due` where that bound exceeds the cost."""

    total: float
    bound: float
    windows: int
    rate: float
    due: bool


def gain(champion: Blocks, probe: Blocks, unit: float, *, recent: bool = False) -> Gain | None:
    """The gain over the blocks of one partition, whose losses `unit` makes shares; None where there are too few blocks,
    or no loss to be measured by.

    The standard error is that of `millrace.rules.blocks`: of a ratio, widened for what neighbouring blocks remember.
    """
    paired = {key: (champion[key][0] - probe[key][0], champion[key][1]) for key in champion}
    if len(paired) < MINIMUM_BLOCKS or not unit > 0:
        return None
    found = estimate(paired, WEIGHT)
    return Gain(found.mean / unit, found.error / unit, found.freedom, recent)


def surely_better(one: Blocks, other: Blocks) -> bool:
    """Whether the losses `one` lie two standard errors below the losses `other` of the same blocks."""
    found = gain(other, one, 1.0)
    return found is not None and found.mean > 2 * found.error


def worth(gains: Sequence[Gain], before: Sequence[Gain], cost: float) -> Worth:
    """Whether to retrain after the last of `gains`, all of the present champion's partitions in order of time.

    What each partition would have won adds up until, over the last m for some m, its lower bound exceeds `cost`, a
    share of one partition's loss: a small gain is waited for until it has cost as much as a retraining, a large one is
    taken at once. A pipeline that has gained `before`, under this champion or earlier ones, is believed sooner.
    """
    rate = BELIEVED if _has_gained([*before, *gains[:-1]][-WINDOWS:], cost) else STRICT
    sums = [_foregone(gains[-count:], rate) for count in range(1, len(gains) + 1)]
    best = max(sums, key=lambda found: found[1])
    return Worth(*best, rate, due=best[1] > cost)


def _foregone(gains: Sequence[Gain], rate: float) -> tuple[float, float, int]:
    """Total, lower bound and number of some partitions; freedom is Welch's and Satterthwaite's."""
    total, squares = math.fsum(g.mean for g in gains), [g.error**2 for g in gains]
    if not (variance := math.fsum(squares)):
        return total, total, len(gains)
    freedom = variance**2 / math.fsum(s * s / g.freedom for s, g in zip(squares, gains, strict=True))
    return total, total - student(1 - rate, freedom) * math.sqrt(variance), len(gains)


def _has_gained(gains: Sequence[Gain], cost: float) -> bool:
    scores = [(g.mean - SHARE * cost) / g.error for g in gains if g.error]
    return bool(scores) and math.fsum(max(-MOST, min(MOST, s)) for s in scores) / math.sqrt(len(scores)) > PROVEN
