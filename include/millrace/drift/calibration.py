"""Thresholds: how far a window of this size strays from the reference while nothing changes.

What blocks of the reference have more or less than their share is resampled with random signs and sizes that
neighbouring blocks have in common, the dependent wild bootstrap (Shao 2010) with Bartlett's kernel: one day is like the
next, and a kernel of whole weeks leaves out what is only the shape of a week. Unlike drawing runs of blocks it is not
limited to the few runs that a short reference has. The noise of both sides is in the distance, the window's at its own
number of blocks and rows. The estimate of that noise is itself uncertain: it is widened by 1 / (1 - run / blocks) for
the bias, and by chi-square with 1.5 blocks / run degrees of freedom (Priestley 1981, 6.2) for the chance.

Part of what differs between blocks is that each has only so many rows: a multinomial's noise, of covariance
diag(p) - p p' over the rows. Where a window has fewer rows a block, what it has more of that is added. Where it has
more rows, nothing is taken away: thresholds are then somewhat high, and safe.

Where the reference has scattered blocks only (the model's predictions on held out days), they know nothing of their
neighbours; the window then counts as fewer blocks, by what its own neighbours share.

The rate holds for all items of a window together: thresholds are those of the single-step max-T method (Westfall &
Young 1993), the quantile of the largest standardised distance over all items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from millrace.drift.blocks import Block
from millrace.drift.distances import norm_of
from millrace.drift.items import Item
from millrace.drift.sketch import Floats

RUN: dict[Block, int] = {"hour": 24, "day": 7, "week": 4}
"""Blocks over which neighbours are taken to be alike: a day, a week, a month."""
SAMPLES = 2000
LEAST_BLOCKS = 10
"""Fewest blocks of a reference from which a threshold is resampled."""
FLOOR = 0.02
"""No threshold lies below: a smaller distance matters to nobody, however surely it is there."""
STILL = 0.1
"""Threshold where the reference does not vary at all between blocks: Evidently's own."""


@dataclass(frozen=True)
class Draw:
    """Factors of each block in each resample, shape (samples, blocks), and what widens them.

    `window` and `reference` have variance 1; `size` is the window's number of blocks, `freedom` that of the estimate.
    """

    window: Floats
    reference: Floats
    size: float
    freedom: float


def draw(blocks: int, size: float, run: int, seed: int, samples: int = SAMPLES) -> Draw:
    """Draw the factors for a reference of `blocks` blocks and a window of `size`; neighbours within `run` are alike."""
    random = np.random.Generator(np.random.PCG64(seed))
    longest = max(1, min(run, blocks // 4))
    sides = []
    for length in (max(1, min(longest, round(size))), longest):
        sums = np.cumsum(random.standard_normal((samples, blocks + length)), axis=1)
        sides.append((sums[:, length:] - sums[:, :-length]) / np.sqrt(length * (1 - length / blocks)))
    window, reference = sides
    return Draw(window, reference, size, 1.5 * blocks / longest)


def resampled(item: Item, drawn: Draw, seed: int) -> Floats:
    """Distances of the item in each resample, shape (samples,); every item of a check has a seed of its own."""
    random = np.random.Generator(np.random.PCG64(seed + 1))
    counts = item.blocks
    rows, blocks = float(counts.sum()), len(counts)
    shares = counts.sum(axis=0) / rows
    excess = (counts - counts.sum(axis=1, keepdims=True) * shares) / rows
    noise = drawn.window @ excess * np.sqrt(blocks / drawn.size) + drawn.reference @ excess
    noise /= np.sqrt(random.chisquare(drawn.freedom, size=(len(noise), 1)) / drawn.freedom)
    more = 1 / float(item.after.sum()) - blocks / (drawn.size * rows)
    if more > 0:  # the window has fewer rows a block than the reference
        plain = random.standard_normal(noise.shape) * np.sqrt(shares)
        noise += np.sqrt(more) * (plain - plain.sum(axis=1, keepdims=True) * shares)
    if item.points is not None:
        return item.distance(shares, shares + noise, norm_of(shares, item.points))
    after = np.maximum(shares + noise, 0.0)
    return item.distance(shares, after / after.sum(axis=1, keepdims=True), 1.0)


def constancy(item: Item, size: int) -> float:
    """Share of the reference's stretches of `size` blocks in which all rows have one value (or lie in one bin)."""
    blocks = len(item.blocks)
    length = min(max(1, size), blocks)
    sums = np.cumsum(np.concatenate([np.zeros((1, item.blocks.shape[1])), item.blocks]), axis=0)
    stretches = sums[length:] - sums[:-length]
    return float(((stretches > 0).sum(axis=1) == 1).mean())


def thresholds(distances: list[Floats], rate: float) -> list[float]:
    """One threshold per item, so that all together are passed at `rate`. `distances` are those of `resampled`."""
    if not distances:
        return []
    table = np.stack(distances, axis=1)
    mean, spread = table.mean(axis=0), table.std(axis=0)
    moving = spread > 1e-9
    standard = (table[:, moving] - mean[moving]) / spread[moving]
    limit = float(np.quantile(standard.max(axis=1), 1 - rate)) if moving.any() else 0.0
    found = np.where(moving, mean + limit * spread, STILL)
    return [max(float(f"{t:.4g}"), FLOOR) for t in found]


def effective(blocks: int, means: Floats) -> float:
    """Of how many independent blocks a window of neighbouring ones is worth: n (1 - r) / (1 + r), with r the lag-one
    autocorrelation of the blocks' means, between 0 and 0.8, corrected for its bias (Kendall 1954)."""
    if len(means) < 3:
        return float(blocks)
    away = means - means.mean()
    spread = float(away @ away)
    raw = float(away[1:] @ away[:-1]) / spread if spread else 0.0
    r = min(max(raw + (1 + 3 * max(raw, 0.0)) / len(means), 0.0), 0.8)
    return max(1.0, blocks * (1 - r) / (1 + r))
