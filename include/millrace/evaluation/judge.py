"""Evaluation: what a model does on the rows it held out, and the checks that make the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from millrace.contract import Check, Metric
from millrace.core.errors import DataError
from millrace.models.encoding import labels
from millrace.models.files import Model
from millrace.models.metrics import LOSS, Floats, block_bootstrap, block_sums, metrics, rounded, row_losses
from millrace.rules.duel import Duel, duel
from millrace.spec.training import EvaluationSpec, Threshold

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Measured:
    """The held out rows with their label and block, and the model's losses there, shape (rows,); its metrics."""

    rows: pa.Table
    label: Floats
    blocks: NDArray[np.str_]
    losses: Floats
    metrics: dict[str, Metric]
    undefined: tuple[str, ...]

    def block_sums(self) -> dict[str, tuple[float, int]]:
        """Sum of losses and rows of each held out block, for comparison with later windows; none if a loss is NaN."""
        if not np.isfinite(self.losses).all():
            return {}
        return {block: (rounded(total), rows) for block, (total, rows) in block_sums(self.blocks, self.losses).items()}


def measure(model: Model, table: pa.Table, *, seed: int) -> Measured:
    """Score the rows of a training set that the model held out. Raises DataError where there are none."""
    import pyarrow as pa

    card = model.card
    for name in (card.event_time, card.label):
        if name not in table.column_names:
            raise DataError(f"the training set lacks the column '{name}'", allowed=table.column_names)
    held, keys = card.holdout.divide(table[card.event_time])
    rows, blocks = table.filter(pa.array(held)), keys[held]
    label = labels(rows, card.label, card.task, card.classes)
    prediction = model.predict(rows)
    found = metrics(card.task, label, prediction)
    defined = {name: value for name, value in found.items() if math.isfinite(value)}
    intervals = block_bootstrap(card.task, label, prediction, blocks, seed=seed) if defined else {}
    return Measured(
        rows=rows,
        label=label,
        blocks=blocks,
        losses=row_losses(card.task, label, prediction),
        metrics={name: _metric(value, intervals.get(name), len(label)) for name, value in defined.items()},
        undefined=tuple(sorted(found.keys() - defined.keys())),
    )


def threshold_checks(thresholds: dict[str, Threshold], found: Measured) -> list[Check]:
    """One check per bound. A metric that is not a number, or that this task has not, fails."""
    checks = []
    for name, bounds in sorted(thresholds.items()):
        metric = found.metrics.get(name)
        for word, bound in (("at least", bounds.min), ("at most", bounds.max)):
            if bound is None:
                continue
            if metric is None:
                known = ", ".join(sorted(found.metrics)) or "none"
                why = "is not a number" if name in found.undefined else f"was not measured (measured: {known})"
                checks.append(Check(name=name, passed=False, message=f"{name} must be {word} {bound:g}, but it {why}"))
                continue
            passed = metric.value >= bound if word == "at least" else metric.value <= bound
            text = f"{name} is {_interval(metric)} on {metric.rows} held out rows; it must be {word} {bound:g}"
            checks.append(Check(name=name, passed=passed, message=text))
    return checks


def fight(
    challenger: Model, champion: Model, found: Measured, rules: EvaluationSpec, *, seed: int
) -> tuple[Duel | None, Check]:
    """The Duel on the rows that both models held out. A Duel that cannot be fought is not passed."""
    mine, theirs = challenger.card, champion.card
    if (mine.task, mine.label) != (theirs.task, theirs.label):
        return None, _no_duel(f"the champion predicts '{theirs.label}' ({theirs.task}), another label")
    held, _ = theirs.holdout.mask(found.rows[mine.event_time])
    if not held.any():
        return None, _no_duel("no row was held out by both models; the spec's holdout has changed")
    frozen = found.rows.filter(_mask(held))
    try:
        prediction = champion.predict(frozen)
        label = labels(frozen, theirs.label, theirs.task, theirs.classes)  # its own classes, where they differ
    except DataError as err:
        return None, _no_duel(f"the champion cannot score these rows: {err}")
    result = duel(
        found.losses[held],
        row_losses(mine.task, label, prediction),
        found.blocks[held],
        tolerance=rules.duel_tolerance,
        seed=seed,
    )
    interval = "" if result.low is None else f" (95 %: {result.low:+.5f} to {result.high:+.5f})"
    return result, Check(
        name="duel",
        passed=result.passed,
        message=f"mean {LOSS[mine.task].replace('_', ' ')} is {result.difference:+.5f}{interval} against "
        f"the champion's on {result.rows} frozen rows; it may be at most {result.tolerance:+g}",
    )


def facts_of(result: Duel) -> dict[str, Any]:
    """A Duel as an outcome carries it."""

    def number(value: float | None) -> float | None:
        return rounded(value) if value is not None and math.isfinite(value) else None

    return {
        "difference": number(result.difference),
        "low": number(result.low),
        "high": number(result.high),
        "rows": result.rows,
    }


def _metric(value: float, interval: tuple[float, float] | None, rows: int) -> Metric:
    low, high = (rounded(interval[0]), rounded(interval[1])) if interval else (None, None)
    return Metric(value=rounded(value), low=low, high=high, rows=rows)


def _interval(metric: Metric) -> str:
    around = "" if metric.low is None else f" (95 %: {metric.low:.4f} to {metric.high:.4f})"
    return f"{metric.value:.4f}{around}"


def _no_duel(why: str) -> Check:
    return Check(name="duel", passed=False, message=f"there was no Duel: {why}")


def _mask(held: NDArray[np.bool_]) -> pa.Array:
    import pyarrow as pa

    return pa.array(held)
