"""duel: the challenger against the champion on the rows that both models held out."""

from __future__ import annotations

import math
from typing import Any

from millrace.contract import Check
from millrace.core.errors import DataError
from millrace.evaluation.checks.subject import Judged, Subject
from millrace.models.encoding import labels
from millrace.models.metrics import LOSS, rounded, row_losses
from millrace.rules.duel import Duel, duel
from millrace.spec.evaluation import DuelCheck


def run(asked: DuelCheck, subject: Subject) -> Judged:
    """Fight the Duel. One that cannot be fought is not passed."""
    import pyarrow as pa

    assert subject.champion is not None  # `needs_champion`
    mine, theirs, measured = subject.model.card, subject.champion.card, subject.measured
    if (mine.task, mine.label) != (theirs.task, theirs.label):
        return _no_duel(f"the champion predicts '{theirs.label}' ({theirs.task}), another label")
    held, _ = theirs.holdout.mask(measured.rows[mine.event_time])
    if not held.any():
        return _no_duel("no row was held out by both models; the spec's holdout has changed")
    frozen = measured.rows.filter(pa.array(held))
    try:
        prediction = subject.champion.predict(frozen)
        label = labels(frozen, theirs.label, theirs.task, theirs.classes)  # its own classes, where they differ
    except DataError as err:
        return _no_duel(f"the champion cannot score these rows: {err}")
    result = duel(
        measured.losses[held],
        row_losses(mine.task, label, prediction),
        measured.blocks[held],
        tolerance=asked.tolerance,
        seed=subject.seed,
    )
    interval = "" if result.low is None else f" (95 %: {result.low:+.5f} to {result.high:+.5f})"
    check = Check(
        name=asked.name,
        passed=result.passed,
        message=f"mean {LOSS[mine.task].replace('_', ' ')} is {result.difference:+.5f}{interval} against "
        f"the champion's on {result.rows} frozen rows; it may be at most {result.tolerance:+g}",
    )
    return Judged((check,), {asked.type: _facts(result)})


def _facts(result: Duel) -> dict[str, Any]:
    """A Duel as an outcome carries it."""

    def number(value: float | None) -> float | None:
        return rounded(value) if value is not None and math.isfinite(value) else None

    return {
        "difference": number(result.difference),
        "low": number(result.low),
        "high": number(result.high),
        "rows": result.rows,
    }


def _no_duel(why: str) -> Judged:
    return Judged((Check(name="duel", passed=False, message=f"there was no Duel: {why}"),))
