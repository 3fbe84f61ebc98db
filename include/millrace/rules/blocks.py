"""Mean loss over blocks of time, and its variance: rows of one block, and neighbouring blocks, are alike. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Blocks = Mapping[str, Sequence[float]]
"""Block key -> (sum of losses, rows). Keys sort by time."""

MINIMUM_BLOCKS = 5
"""Fewest blocks that are judged."""
MEMORY, WEIGHT = 0.6, 20
"""Lag-one autocorrelation that a window's blocks are taken to have, and how many blocks' worth of evidence that is.

A few blocks cannot tell how much they remember, and to guess too little is to be too sure; docs/drift.md and
docs/duel.md have the rates.
"""


@dataclass(frozen=True)
class Estimate:
    """A mean over `blocks` blocks, its standard error, the degrees of freedom that this is known by, and how skewed the
    blocks are."""

    mean: float
    error: float
    freedom: float
    skewness: float
    blocks: int

    def ends(self, probability: float) -> tuple[float, float]:
        """Ends of an interval, each of which the truth lies within with this probability, more than a half.

        Where few blocks lie far out on one side, mean and error are small together, and an interval by Student's t ends
        too early on that side and too late on the other (Johnson, Modified t tests, 1978). It is made longer in full
        and shorter by half: what few blocks say of their skewness is a guess.
        """
        if not self.error:
            return self.mean, self.mean
        t = student(probability, self.freedom)
        shift = self.skewness * (1 + 2 * t * t) / (6 * math.sqrt(self.blocks))
        low, high = (t + (each if each > 0 else each / 2) for each in (-shift, shift))
        return self.mean - low * self.error, self.mean + high * self.error


def estimate(blocks: Blocks, weight: int) -> Estimate:
    """Mean of at least three blocks with its error; see `variance` for `weight`."""
    found, freedom = variance(blocks, weight)
    centre, count = mean(blocks), len(blocks)
    residuals = [b[0] - centre * b[1] for _, b in sorted(blocks.items())]
    spread = math.hypot(*residuals) / math.sqrt(count)
    third = math.fsum((r / spread) ** 3 for r in residuals) / count if spread else 0.0
    skewness = third * math.sqrt(count * (count - 1)) / (count - 2)
    return Estimate(centre, math.sqrt(found), freedom, skewness, count)


def summed(keys: NDArray[np.str_], values: NDArray[np.float64]) -> dict[str, tuple[float, int]]:
    """Sum of values and rows of each block, exact and therefore the same in whatever order the rows stand."""
    import numpy as np

    names, index = np.unique(keys, return_inverse=True)
    order = np.argsort(index.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(index.ravel(), minlength=len(names)))
    parts = np.split(values[order], ends[:-1]) if len(names) else []
    return {str(name): (math.fsum(part), len(part)) for name, part in zip(names, parts, strict=True)}


def resample_counts(blocks: int, *, seed: int, samples: int) -> NDArray[np.float64]:
    """How often each of `blocks` blocks is drawn in each bootstrap sample, shape (samples, blocks)."""
    import numpy as np

    draws = np.random.Generator(np.random.PCG64(seed)).integers(0, blocks, size=(samples, blocks))
    flat = (draws + np.arange(samples)[:, None] * blocks).ravel()
    return np.bincount(flat, minlength=samples * blocks).reshape(samples, blocks).astype(np.float64)


def mean(blocks: Blocks) -> float:
    """Sum of losses over rows; NaN without rows."""
    rows = sum(b[1] for b in blocks.values())
    return sum(b[0] for b in blocks.values()) / rows if rows else float("nan")


def variance(blocks: Blocks, weight: int = 0) -> tuple[float, float]:
    """Variance of the mean and its degrees of freedom; `MEMORY` counts as `weight` blocks' evidence of memory.

    The variance of a mean of unequal blocks is that of a ratio (Cochran, Sampling Techniques, 1977, 6.3), widened for
    what neighbouring blocks remember as in a first-order autoregression of their number. Needs two blocks.
    """
    keys = sorted(blocks)
    count, rows, centre = len(keys), sum(b[1] for b in blocks.values()), mean(blocks)
    residuals = [blocks[k][0] - centre * blocks[k][1] for k in keys]
    plain = count / (count - 1) * sum(r * r for r in residuals) / rows**2
    seen = _autocorrelation([r / blocks[k][1] for r, k in zip(residuals, keys, strict=True)])
    widening, freedom = remembering(count, (count * seen + weight * MEMORY) / (count + weight))
    return plain * widening, freedom


def student(probability: float, freedom: float) -> float:
    """Quantile of Student's t above the median, to three digits from two degrees of freedom on (Hill 1970, ACM 396)."""
    n, tails = freedom, 2 * (1 - probability)
    a = 1 / (n - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    y = (d * tails) ** (2 / n)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(tails / 2)
        y = x * x
        c += 0.3 * (n - 4.5) * (x + 0.6) if n < 5 else 0
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = math.expm1(a * ((((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x) ** 2)
    else:
        y = ((1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1) * (n + 1) / (
            n + 2
        ) + 1 / y
    return math.sqrt(n * y)


def remembering(count: int, memory: float) -> tuple[float, float]:
    """How far the usual variance of a mean of `count` blocks falls short in an autoregression, and its freedom.

    Expectation and variance of the sample variance are those of a quadratic form in the correlations memory^|i - j|;
    freedom is Satterthwaite's. (1, count - 1) without memory.
    """
    r = memory
    sums = [(1 + r - r ** (i + 1) - r ** (count - i)) / (1 - r) for i in range(count)]  # rows of the correlations
    inflation = sum(sums) / count
    squares = count + 2 * sum((count - k) * r ** (2 * k) for k in range(1, count))
    expected = count - inflation
    freedom = expected**2 / (squares - 2 * sum(s * s for s in sums) / count + inflation**2)
    return inflation * (count - 1) / expected, freedom


def tail(deviation: float, freedom: float) -> float:
    """Probability that Student's t lies above this, by bisection of `student`; at least 1e-12."""
    if deviation < 0:
        return 1 - tail(-deviation, freedom)
    low, high = math.log(1e-12), math.log(0.5)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if student(1 - math.exp(middle), freedom) > deviation else (low, middle)
    return math.exp(high)


def _autocorrelation(values: list[float]) -> float:
    """Lag one, corrected for bias (Kendall 1954); never below zero: a narrower interval is not earned."""
    count = len(values)
    centre = sum(values) / count
    spread = sum((v - centre) ** 2 for v in values)
    if spread == 0:
        return 0.0
    raw = sum((a - centre) * (b - centre) for a, b in zip(values, values[1:], strict=False)) / spread
    return min(max(raw + (1 + 3 * max(raw, 0.0)) / count, 0.0), 0.95)
