"""duel: the challenger against the champion, or a constant, on frozen rows: whole, by slices, calibration and money."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

from millrace.contract import Check
from millrace.core.errors import DataError
from millrace.evaluation.checks import duel_parts
from millrace.evaluation.checks.frozen import Frozen, freeze
from millrace.evaluation.checks.subject import Judged, Subject
from millrace.models.metrics import LOSS, Floats, rounded
from millrace.rules import duel as rules
from millrace.rules.blocks import Blocks, estimate, summed
from millrace.rules.duel import Duel, Terms
from millrace.rules.labels import Task
from millrace.spec.duel import DuelCheck


def run(asked: DuelCheck, subject: Subject) -> Judged:
    """Fight the duel. One that is refused is not passed, and says why and who was to meet whom."""
    who: dict[str, Any] = {
        "challenger": getattr(subject.model, "digest", None),
        "champion": subject.champion.digest if subject.champion else None,
        "against": "champion" if subject.champion else "constant",
        "half_life": getattr(getattr(subject.model, "card", None), "half_life", None),
    }
    try:
        frozen = freeze(subject)
    except DataError as err:
        check = Check(name=asked.name, passed=False, message=f"there was no duel: {err}")
        return Judged((check,), {asked.type: {**who, "difference": None, "result": "refused", "why": str(err)}})
    task: Task = subject.model.card.task
    terms = Terms(asked.tolerance, asked.better, asked.difference)
    if frozen.against == "constant":
        terms = replace(terms, better=True)
    result = rules.duel(frozen.challenger.losses, frozen.champion.losses, frozen.blocks, terms)
    facts = who | _facts(result, terms, frozen)
    if result.result in ("not finite", "few blocks"):
        return Judged((_whole(asked, task, result, terms, frozen, ""),), {asked.type: facts})
    in_money, facts["money"] = _money(asked, task, frozen, subject.model.card.label)
    checks = [_whole(asked, task, result, terms, frozen, in_money)]
    for part in (_slices(asked, frozen), _calibration(asked, task, frozen)):
        checks += part.checks
        facts |= part.facts
    return Judged(tuple(checks), {asked.type: facts})


def _whole(asked: DuelCheck, task: Task, result: Duel, terms: Terms, frozen: Frozen, in_money: str) -> Check:
    against = "the champion's" if frozen.against == "champion" else "that of the best constant (there is no champion)"
    said = (
        f"mean {LOSS[task].replace('_', ' ')} is {result.difference:+.5f}{_around(result.low, result.high)} against "
        f"{against} on {result.rows} frozen rows in {result.blocks} blocks"
    )
    bar = "must end below 0" if terms.better else f"may end at {terms.bar:+g} at most"
    power = "" if result.seen is None else f"a duel of this size shows a gain of {result.seen:.5f} or more"
    why = {
        "passed": f"; the interval {bar}",
        "worse": f"; the interval {bar}: it is worse",
        "undecided": f"; the interval {bar}: that is not shown, and {power}",
        "no power": f"; the interval {bar}, and the blocks are too few for the stated power: {power}, "
        f"{terms.difference or 0:g} was asked for. Train on a longer window, or hold out a larger share",
        "few blocks": f"; fewer than {rules.FEWEST} blocks are not judged",
        "not finite": "; a loss is not a number",
    }[result.result]
    return Check(name=asked.name, passed=result.passed, message=f"{said}{in_money}{why}")


def _slices(asked: DuelCheck, frozen: Frozen) -> Judged:
    """One Check of each column, of the calendar, and of the newest blocks: no slice is shown to regress."""
    paired = frozen.challenger.losses - frozen.champion.losses
    tolerance = asked.tolerance if asked.slices.tolerance is None else asked.slices.tolerance
    parts: dict[str, Blocks] = {}
    by: dict[str, list[str]] = defaultdict(list)
    for maker, name, rows in duel_parts.slices(asked.slices, frozen):
        parts[name] = summed(frozen.blocks[rows], paired[rows])
        by[maker].append(name)
    found = rules.regressions(parts, tolerance, minimum_rows=asked.slices.minimum_rows)
    checks = []
    for maker, names in by.items():
        wrong = [name for name in names if found[name].regressed]
        small = sum(found[name].regressed is None for name in names)
        shown = wrong or [max(names, key=lambda name: found[name].difference)]
        listed = ", ".join(f"{n} {found[n].difference:+.5f}{_around(found[n].low, found[n].high)}" for n in shown)
        text = (
            f"it is worse by more than {tolerance:g} on {listed}"
            if wrong
            else f"it is not shown to be worse by more than {tolerance:g} on any of {len(names)} (largest: {listed})"
        )
        few = f"; {small} too small to be judged" if small else ""
        checks.append(Check(name=f"{asked.name}.{maker}", passed=not wrong, message=f"{text}{few}"))
    facts = {
        name: {**_numbers(difference=each.difference, low=each.low, high=each.high), "rows": each.rows,
               "blocks": each.blocks, "regressed": each.regressed}
        for name, each in found.items()
    }  # fmt: skip
    return Judged(tuple(checks), {"slices": facts})


def _calibration(asked: DuelCheck, task: Task, frozen: Frozen) -> Judged:
    """The rise of the expected calibration error, paired as the losses are."""
    if task == "regression":
        return Judged((), {"calibration": None})
    mine, theirs = (duel_parts.miscalibration(task, side) for side in (frozen.challenger, frozen.champion))
    found, low, high = _paired(mine - theirs, frozen)
    facts = {"calibration": _numbers(challenger=float(mine.mean()), champion=float(theirs.mean()),
                                     difference=found, low=low, high=high)}  # fmt: skip
    if asked.calibration is None or frozen.against == "constant":  # a constant is calibrated, and knows nothing
        return Judged((), facts)
    text = (
        f"expected calibration error is {mine.mean():.4f}, the champion's {theirs.mean():.4f}: "
        f"{found:+.4f}{_around(low, high)}; a rise by more than {asked.calibration:g} may not be shown"
    )
    return Judged((Check(name=f"{asked.name}.calibration", passed=low <= asked.calibration, message=text),), facts)


def _money(asked: DuelCheck, task: Task, frozen: Frozen, label: str) -> tuple[str, dict[str, Any] | None]:
    """The difference in money by the declared costs, in words and as facts."""
    costs = asked.costs
    if costs is None:
        return "", None
    mine, theirs = (
        duel_parts.money(costs, task, side, frozen.rows[label]) for side in (frozen.challenger, frozen.champion)
    )
    found, low, high = (1000 * value for value in _paired(mine - theirs, frozen))
    text = f"; {found:+.2f} {costs.currency} in 1,000 rows (95 %: {low:+.2f} to {high:+.2f})"
    return text, {"currency": costs.currency, "rows": 1000, **_numbers(difference=found, low=low, high=high)}


def _paired(values: Floats, frozen: Frozen) -> tuple[float, float, float]:
    made = estimate(summed(frozen.blocks, values), rules.WEIGHT)
    return (made.mean, *made.ends(rules.LEVEL))


def _facts(result: Duel, terms: Terms, frozen: Frozen) -> dict[str, Any]:
    """A Duel as an outcome carries it."""
    names = np.unique(frozen.blocks)
    return {
        "result": result.result,
        **_numbers(difference=result.difference, low=result.low, high=result.high, seen=result.seen),
        "tolerance": terms.tolerance,
        "better": terms.better,
        "asked": terms.difference,
        "rows": result.rows,
        "blocks": result.blocks,
        "first": str(names[0]),
        "last": str(names[-1]),
    }


def _numbers(**values: float | None) -> dict[str, float | None]:
    return {
        name: rounded(value) if value is not None and math.isfinite(value) else None for name, value in values.items()
    }


def _around(low: float | None, high: float | None) -> str:
    return "" if low is None else f" (95 %: {low:+.5f} to {high:+.5f})"
