"""Experiment: two versions that answered units of their own, by a metric that the answer itself may change. Pure.

Each day has one figure: the mean over the new version's units less that over the champion's. A confidence sequence of
its mean (`sequential.Bets`) may be looked at at any time. `report` says all that is known, `Report.verdict` what
follows, and `days_needed` how long it takes to see an effect.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from statistics import NormalDist, fmean, stdev
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millrace.rules.paired import Loss, Request, arm_outcomes
from millrace.rules.rollout import Verdict
from millrace.rules.sequential import GRID, Bets, Tally, shift, shown
from millrace.spec.serving import ABRollout

RATIO_ALPHA = 0.001
"""Chance of finding units split otherwise than planned where they are not, over all looks."""
LONGEST_DAYS = 3650
"""Days that are looked ahead."""
Interval = tuple[float, float]


class Figures(BaseModel):
    """What one version's units came to: the mean over days of the mean over a day's units."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int
    units: int = Field(description="Units with outcomes, each once.")
    mean: float | None
    interval: Interval | None


class Report(BaseModel):
    """An experiment as it stands. Intervals hold at all looks at once, each with probability 1 - alpha."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    metric: str
    new: Figures
    old: Figures
    days: int = Field(description="Days on which both versions have outcomes.")
    difference: float | None
    interval: Interval | None
    spread: float | None = Field(description="Standard deviation of a day's difference; null: of fewer than two days.")
    alpha: float
    minimum_effect: float
    power: float
    days_needed: int | None = Field(description="To see the minimum effect with that power; null: unknown, or never.")
    units_a_day: float
    days_allowed: int = Field(description="From the beginning of the stage to `longest`.")
    days_past: float
    share: float = Field(description="Of the units that the new version was to answer.")
    split: bool = Field(description="Whether units with outcomes are split as planned, as far as chance explains.")
    outside: int = Field(description="Values outside low to high, which counted as the nearer of both.")
    values: int

    @property
    def better(self) -> bool | None:
        """True once the interval lies above 0, False once it lies below the minimum effect. Nothing is said of units
        that are not split as planned: who is seen is then no chance, and no figure of them compares."""
        if self.interval is None or not self.split:
            return None
        if self.interval[1] < self.minimum_effect:
            return False
        return True if self.interval[0] > 0 else None

    @property
    def verdict(self) -> Verdict:
        """What follows, with the report."""
        word = {True: "better: ", False: "not better: ", None: ""}[self.better]
        return Verdict(self.better, word + next(lines(self)), self.model_dump(mode="json"))


def report(outcomes: Iterable[Loss], new: int, old: int, rule: ABRollout, *, began: datetime, now: datetime) -> Report:
    """What is known of an experiment that began at a time; `value` of an outcome is the metric.

    Values outside low to high count as the nearer of both, so that one of them cannot decide. Raises ValueError for a
    value that is no number.
    """
    known = [each for each in outcomes if each.version in (new, old)]
    if any(not math.isfinite(each.value) for each in known):
        raise ValueError(f"values of {rule.metric} are no numbers")
    inside = [replace(each, value=min(max(each.value, rule.low), rule.high)) for each in known]
    days = list(arm_outcomes(inside, new=new, old=old).values())
    units = _units(inside, new, old)
    differences = [day.difference for day in days]
    spread = stdev(differences) if len(days) > 1 else None
    return Report(
        metric=rule.metric,
        new=_figures(new, units[new], [day.new for day in days], rule),
        old=_figures(old, units[old], [day.old for day in days], rule),
        days=len(days),
        difference=fmean(differences) if days else None,
        interval=_interval(differences, rule.alpha, rule.low - rule.high, rule.high - rule.low),
        spread=spread,
        alpha=rule.alpha,
        minimum_effect=rule.minimum_effect,
        power=rule.power,
        days_needed=None if spread is None else days_needed(rule, spread),
        units_a_day=fmean(day.new_units + day.old_units for day in days) if days else 0.0,
        days_allowed=_days(rule, began),
        days_past=max(0.0, (now - began).total_seconds() / 86400),
        share=rule.share,
        split=not shown(shift([Tally(rule.share, units[new], units[old])]), RATIO_ALPHA),
        outside=sum(one.value != other.value for one, other in zip(known, inside, strict=True)),
        values=len(known),
    )


def days_needed(rule: ABRollout, spread: float) -> int | None:
    """After how many days of figures the interval lies above 0 with the rule's power, where the minimum effect is true
    and a day's difference has this standard deviation; None: not within ten years.

    The log of the capital that `Bets` (Waudby-Smith and Ramdas, JRSS-B 86, 2024, section 4.2) wins against 0 is a sum
    over days, taken as normal: each day brings log(1 + stake effect) - stake^2 spread^2 / 2, with variance
    stake^2 spread^2. It has to reach log(2 / alpha). With a spread of 0 it is a bound: no experiment takes fewer.
    """
    width = 2 * (rule.high - rule.low)
    zero = 0.5 + 0.5 / GRID  # the last mean that must be refuted before the interval lies above 0
    effect, spread = rule.minimum_effect / width - 0.5 / GRID, spread / width
    if effect <= 0:
        return None
    limit, z = math.log(2 / rule.alpha), NormalDist().inv_cdf(rule.power)
    capital = variance = 0.0
    for day in range(1, LONGEST_DAYS + 1):
        squares = 0.25 + (day - 1) * spread**2
        stake = min(math.sqrt(2 * limit / (squares * math.log(1 + day))), 0.5 / zero)
        capital += math.log1p(stake * effect) - (stake * spread) ** 2 / 2
        variance += (stake * spread) ** 2
        if capital - z * math.sqrt(variance) >= limit:
            return day
    return None


def lines(of: Report) -> Iterator[str]:
    """A report for a person: the figure that decides, then what it rests on."""
    if of.interval is None or of.difference is None:
        yield f"{of.metric} more than the champion's is unknown: no day has outcomes of both versions"
    else:
        yield (
            f"{of.metric} more than the champion's by {of.difference:+.3g} [{of.interval[0]:+.3g}, "
            f"{of.interval[1]:+.3g}] over {of.days} days, worth promoting for from {of.minimum_effect:g}"
        )
    for arm, name in ((of.new, "new version"), (of.old, "champion")):
        interval = "" if arm.interval is None else f" [{arm.interval[0]:.3g}, {arm.interval[1]:.3g}]"
        mean = "no mean yet" if arm.mean is None else f"mean {arm.mean:.3g}{interval}"
        yield f"{name}, {arm.version}: {arm.units} units with outcomes, {mean}"
    yield f"rule: {_rule(of)}"
    yield f"power: {_power(of)}"
    seen, total = of.new.units, of.new.units + of.old.units
    if total:
        said = "as planned" if of.split else "NOT AS PLANNED: who is seen is no chance, and nothing is decided by it"
        yield f"split: {seen / total:.1%} of {total} units met the new version, {of.share:.1%} planned; {said}"
    if of.outside:
        yield (
            f"WARNING: {of.outside} of {of.values} values lie outside low to high and counted as the nearer of both; "
            "is the metric what 'low' and 'high' say?"
        )


def told(seen: Mapping[str, Any]) -> list[str]:
    """The lines of the experiment in what is kept of a rollout's stage; none where there was none."""
    return list(lines(Report.model_validate(seen["experiment"]))) if "experiment" in seen else []


def _rule(of: Report) -> str:
    either = f"the interval above 0 promotes, below {of.minimum_effect:g} the champion stays (alpha {of.alpha:g})"
    left = f"after {of.days_allowed} days, {of.days_past:.1f} of which have passed, it stays too"
    if of.better is not None:
        where = "above 0: promoted" if of.better else f"below {of.minimum_effect:g}: the champion stays"
        return f"the interval lies {where}"
    return f"{either}: {'neither yet' if of.split else 'not applied, since the split is not as planned'}; {left}"


def _power(of: Report) -> str:
    if of.spread is None:
        return "not known before two days have outcomes"
    what = f"{of.power:.0%} to see {of.minimum_effect:g} at a daily spread of {of.spread:.3g}"
    if of.days_needed is None:
        return f"{what}: not within ten years. Only a larger effect can be seen"
    needed = f"{of.days_needed} days, about {math.ceil(of.days_needed * of.units_a_day)} units counted once a day"
    if of.better is not None:
        return f"{what} takes {needed}"
    left = max(0, of.days_needed - of.days)
    late = " LONGER THAN 'longest' ALLOWS" if of.days_past + left > of.days_allowed else ""
    return f"{what} takes {needed}; {of.days} are there, about {left} more at {of.units_a_day:.0f} units a day{late}"


def _figures(version: int, units: int, means: list[float], rule: ABRollout) -> Figures:
    return Figures(version=version, units=units, mean=fmean(means) if means else None,
                   interval=_interval(means, rule.alpha, rule.low, rule.high))  # fmt: skip


def _interval(values: list[float], alpha: float, low: float, high: float) -> Interval | None:
    # what rounding leaves outside is no value of its own
    return Bets(alpha, low, high).add(min(max(each, low), high) for each in values).interval if values else None


def _units(outcomes: Iterable[Loss], new: int, old: int) -> dict[int, int]:
    """How many units each version has; one that met both is neither's, as in a day's mean."""
    met: dict[str | Request, set[int | None]] = {}
    for each in outcomes:
        met.setdefault(each.unit if each.unit is not None else each.request, set()).add(each.version)
    alone = [next(iter(versions)) for versions in met.values() if len(versions) == 1]
    return {version: alone.count(version) for version in (new, old)}


def _days(rule: ABRollout, began: datetime) -> int:
    return int((rule.longest.after(began) - began).total_seconds() // 86400)


__all__ = ["Figures", "Report", "days_needed", "lines", "report", "told"]
