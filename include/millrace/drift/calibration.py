"""Thresholds: how far a window of this size strays from the reference while nothing changes.

Both sides are resampled from the reference's blocks: a window of as many blocks as the real one has, and a reference of
as many as it has itself, so that the noise of both is in the distance. Neighbouring blocks are drawn together, in runs
of a day's hours, a week's days or a month's weeks (the circular block bootstrap of Politis & Romano 1992), since one
day is like the next and a week has its shape. Where the reference has scattered blocks only (the model's predictions on
held out days), single blocks are drawn, and fewer of them by what neighbouring blocks of the window share.

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
"""Blocks of a run."""
SAMPLES = 2000
LEAST_BLOCKS = 10
"""Fewest blocks of a reference from which a threshold is resampled."""
FLOOR = 0.02
"""No threshold lies below: a smaller distance matters to nobody, however surely it is there."""
STILL = 0.1
"""Threshold where the reference does not vary at all between resamples: Evidently's own."""


@dataclass(frozen=True)
class Draw:
    """How often each block stands in each resample, shape (samples, blocks): of the window and of the reference."""

    window: Floats
    reference: Floats


def draw(blocks: int, window: float, run: int, seed: int, samples: int = SAMPLES) -> Draw:
    """Draw `window` and `blocks` blocks out of `blocks`, in runs of at most `run`."""
    random = np.random.Generator(np.random.PCG64(seed))
    sides = []
    for count in (max(1, round(window)), blocks):
        length = max(1, min(run, count, blocks // 4))
        starts = random.integers(0, blocks, size=(samples, -(-count // length)))
        places = (starts[:, :, None] + np.arange(length)).reshape(samples, -1)[:, :count] % blocks
        flat = (places + np.arange(samples)[:, None] * blocks).ravel()
        sides.append(np.bincount(flat, minlength=samples * blocks).reshape(samples, blocks).astype(np.float64))
    return Draw(*sides)


def resampled(item: Item, drawn: Draw, seed: int) -> tuple[Floats, Floats]:
    """Distances of the item in each resample, and whether its window was constant there; shape (samples,) each."""
    window, reference = drawn.window @ item.blocks, drawn.reference @ item.blocks
    rows, size = window.sum(axis=1), float(item.after.sum())
    typical = float(rows.mean())
    window = window / np.maximum(rows, 1)[:, None]
    if size < 0.95 * typical:  # the window has fewer rows a block: what that adds to its noise
        random = np.random.Generator(np.random.PCG64(seed + 1))
        thin = max(1, round(1 / (1 / size - 1 / typical)))
        window = random.multinomial(thin, window / np.maximum(window.sum(axis=1), 1e-300)[:, None]) / thin
    reference = reference / np.maximum(reference.sum(axis=1), 1)[:, None]
    whole = item.before / item.before.sum()
    norm = norm_of(whole, item.points) if item.points is not None else 1.0
    return item.distance(reference, window, norm), (window > 0).sum(axis=1) == 1


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
    return [round(max(float(t), FLOOR), 6) for t in found]


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
