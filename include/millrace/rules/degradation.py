"""Has the champion become worse than it was on its own holdout? A one-sided test on losses per block of time. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

Blocks = Mapping[str, Sequence[float]]
"""Block key -> (sum of losses, rows). Keys sort by time."""

MINIMUM_BLOCKS = 5


@dataclass(frozen=True)
class Degradation:
    """`degraded` is None where there are too few blocks to say."""

    mean: float
    reference: float
    excess: float
    bound: float | None
    degraded: bool | None


def degradation(window: Blocks, reference: Blocks, false_alarm_rate: float) -> Degradation:
    """Compare the mean loss of a window with that of the reference.

    `bound` is the lower end of a one-sided confidence interval of the excess at `1 - false_alarm_rate`; degraded is
    when it lies above zero. Blocks, not rows, are the observations: rows of one day share its weather and its jams.
    The variance of a mean of unequal blocks is that of a ratio (Cochran, Sampling Techniques, 1977, 6.3), widened for
    the dependence of neighbouring blocks by (1 + r) / (1 - r) with r the lag-one autocorrelation, corrected for its
    small-sample bias (Kendall 1954). Student's quantile is Abramowitz & Stegun 26.7.5.
    """
    mean, ours = _mean(window), _mean(reference)
    excess = mean - ours
    if len(window) < MINIMUM_BLOCKS or len(reference) < MINIMUM_BLOCKS:
        return Degradation(mean, ours, excess, None, None)
    first, freedom_a = _variance(window)
    second, freedom_b = _variance(reference)
    total = first + second
    if total == 0:
        return Degradation(mean, ours, excess, excess, excess > 0)
    freedom = total**2 / (first**2 / freedom_a + second**2 / freedom_b)
    bound = excess - student(1 - false_alarm_rate, freedom) * math.sqrt(total)
    return Degradation(mean, ours, excess, bound, bound > 0)


def student(probability: float, freedom: float) -> float:
    """Quantile of Student's t, good to three digits from four degrees of freedom on."""
    z = NormalDist().inv_cdf(probability)
    v = max(freedom, 2.0)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def _mean(blocks: Blocks) -> float:
    rows = sum(b[1] for b in blocks.values())
    return sum(b[0] for b in blocks.values()) / rows if rows else float("nan")


def _variance(blocks: Blocks) -> tuple[float, float]:
    """Variance of the mean, and the degrees of freedom that dependence leaves."""
    keys = sorted(blocks)
    count, rows, mean = len(keys), sum(b[1] for b in blocks.values()), _mean(blocks)
    residuals = [blocks[k][0] - mean * blocks[k][1] for k in keys]
    plain = count / (count - 1) * sum(r * r for r in residuals) / rows**2
    deviations = [r / blocks[k][1] for r, k in zip(residuals, keys, strict=True)]
    r = _autocorrelation(deviations)
    widened = plain * (1 + r) / (1 - r)
    return widened, max(1.0, (count - 1) * (1 - r) / (1 + r))


def _autocorrelation(values: list[float]) -> float:
    """Lag one, corrected for bias; never below zero (a narrower interval is not earned), never above 0.8."""
    count = len(values)
    centre = sum(values) / count
    spread = sum((v - centre) ** 2 for v in values)
    if spread == 0:
        return 0.0
    raw = sum((a - centre) * (b - centre) for a, b in zip(values, values[1:], strict=False)) / spread
    return min(max(raw + (1 + 3 * max(raw, 0.0)) / count, 0.0), 0.8)
