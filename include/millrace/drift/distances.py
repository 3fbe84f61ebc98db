"""Distances of binned distributions, named and scaled as Evidently does, over many resamples at once."""

from __future__ import annotations

import numpy as np

from millrace.drift.sketch import Floats

NUMBERS, CATEGORIES = "wasserstein", "jensenshannon"
LEAST_NORM = 0.001
"""What Evidently divides by where the standard deviation is smaller."""


def wasserstein(before: Floats, after: Floats, points: Floats, norm: float) -> Floats:
    """First Wasserstein distance over the reference's standard deviation (Evidently's `wasserstein`).

    `before` and `after` are shares over `points` (sorted), shape (.., bins): the area between two step functions.
    """
    gaps = np.abs(np.cumsum(before - after, axis=-1))[..., :-1]
    return np.asarray((gaps * np.diff(points)).sum(axis=-1) / norm)


def jensenshannon(before: Floats, after: Floats) -> Floats:
    """Jensen-Shannon distance, natural logarithm (Evidently's `jensenshannon`); shares, shape (.., bins)."""
    middle = (before + after) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(p > 0, p * np.log(p / middle), 0.0).sum(axis=-1) for p in (before, after)]
    return np.asarray(np.sqrt(np.maximum(parts[0] + parts[1], 0.0) / 2))


def norm_of(shares: Floats, points: Floats) -> float:
    """Standard deviation of a binned distribution; Evidently's least where all of it is one value."""
    if (shares > 0).sum() < 2:
        return LEAST_NORM
    mean = float(shares @ points)
    return float(np.sqrt(shares @ (points - mean) ** 2))


def whole(counts: Floats, most: int) -> Floats:
    """Counts scaled down to `most` rows in whole numbers (largest remainder), or as they are if they are no more."""
    total = counts.sum()
    if total <= most:
        return counts
    exact = counts * (most / total)
    down = np.floor(exact)
    order = np.argsort(-(exact - down), kind="stable")
    down[order[: int(round(most - down.sum()))]] += 1
    return np.asarray(down)
