"""Outcomes: whether two versions that predicted the same rows differ by what came of it. Pure. Of those that
answered units of their own see `experiment`.

A figure for each block of time, since rows of one block hang together, judged at any time by a confidence sequence of
their mean (`sequential.Bets`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from millrace.rules.paired import Loss, paired_losses
from millrace.rules.rollout import Verdict
from millrace.rules.sequential import Bets
from millrace.spec.serving import Outcomes


def paired(losses: Iterable[Loss], new: int, old: int, rule: Outcomes) -> Verdict:
    """Whether a version is no worse, by the losses of both on the requests that both answered.

    The figure of a block is the difference of the mean losses as a share of the larger one, from -1 (the new version
    has no loss) to 1. It is no worse once the interval of their mean lies below the tolerance, worse once above.
    """
    values = [_excess(each.new, each.old) for each in paired_losses(losses, new=new, old=old).values()]
    interval, words = _interval(values, rule.alpha, rule.blocks, -1.0, 1.0)
    said = f"loss above the champion's {words}, tolerated {rule.tolerance:g}"
    if interval is None:
        return Verdict(None, said)
    if interval[1] <= rule.tolerance:
        return Verdict(True, f"no worse: {said}")
    if interval[0] > rule.tolerance:
        return Verdict(False, f"worse: {said}")
    return Verdict(None, said)


def _interval(
    values: Sequence[float], alpha: float, least: int, low: float, high: float
) -> tuple[tuple[float, float] | None, str]:
    """Bounds of the mean of a figure per block, None before there are enough of them; and how to say it."""
    if len(values) < least or not values:
        return None, f"unknown: {len(values)} of at least {max(least, 1)} blocks of time have outcomes"
    bounds = Bets(alpha, low, high).add(values).interval
    mean = sum(values) / len(values)
    return bounds, f"{mean:+.3g} [{bounds[0]:+.3g}, {bounds[1]:+.3g}] over {len(values)} blocks of time"


def _excess(new: float, old: float) -> float:
    """How much larger one loss is than another, as a share of the larger one; losses are 0 or more."""
    if not (math.isfinite(new) and math.isfinite(old)) or min(new, old) < 0:
        raise ValueError(f"losses of {new} and {old} cannot be compared")
    larger = max(new, old)
    return (new - old) / larger if larger else 0.0
