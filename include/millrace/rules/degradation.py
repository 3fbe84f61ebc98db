"""Has the champion become worse than it was on its own holdout? A one-sided test on losses per block of time. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from millrace.rules.blocks import MINIMUM_BLOCKS, WEIGHT, Blocks, mean, student, variance


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
    How much a window remembers is drawn towards `blocks.MEMORY`; the reference, of blocks held out here and there, is
    believed. The quantile is Student's with the fewer degrees of freedom of both sides. Fewer than `MINIMUM_BLOCKS` of
    a window or of a reference never alarm.
    """
    found, ours = mean(window), mean(reference)
    excess = found - ours
    if len(window) < MINIMUM_BLOCKS or len(reference) < MINIMUM_BLOCKS:
        return Degradation(found, ours, excess, None, None)
    first, freedom_a = variance(window, WEIGHT)
    second, freedom_b = variance(reference)
    total = first + second
    if total == 0:
        return Degradation(found, ours, excess, excess, excess > 0)
    bound = excess - student(1 - false_alarm_rate, min(freedom_a, freedom_b)) * math.sqrt(total)
    return Degradation(found, ours, excess, bound, bound > 0)
