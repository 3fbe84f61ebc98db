"""robustness: what declared perturbations of the held out rows' features do to the loss and to predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from millrace.core.errors import DataError
from millrace.evaluation.blocks import Blocks
from millrace.evaluation.checks.subject import Figure, Judged, Subject, figured
from millrace.evaluation.perturbations import perturbed, place_of
from millrace.models.metrics import LOSS, Floats, row_losses, usable
from millrace.models.protocol import Matrix
from millrace.spec.model_checks import RobustnessCheck
from millrace.spec.perturbations import Monotonic

ROWS = 4000
"""Most rows along whose features predictions are followed."""
STEPS = 16
"""Values that a feature takes on the way, quantiles of the held out rows'."""
_ROUNDING = 1e-6
"""How far a prediction, or a share of one beyond 1, may move the other way of float32's own accord."""


def run(asked: RobustnessCheck, subject: Subject) -> Judged:
    """Try each perturbation by itself. Raises DataError for one that these rows and this model cannot have."""
    measured, model = subject.measured, subject.model
    if not usable(measured.prediction).all():
        raise DataError("predictions are not all numbers")
    rows = model.card.encoder.encode(measured.rows)
    blocks = Blocks(measured.blocks, seed=subject.seed)
    figures: list[Figure] = []
    for number, one in enumerate(asked.perturbations):
        random = np.random.Generator(np.random.PCG64([subject.seed, number]))
        if isinstance(one, Monotonic):
            figures += [_violations(one, name, rows, subject, random) for name in one.columns]
        else:
            figures += _effects(one, rows, perturbed(one, rows, random), subject, blocks)
    tried = [one.model_dump(mode="json") for one in asked.perturbations]
    return figured(asked.type, asked.name, figures, {"perturbations": tried})


def _effects(one: Any, rows: Matrix, changed: Matrix, subject: Subject, blocks: Blocks) -> list[Figure]:
    measured, task = subject.measured, subject.model.card.task
    prediction = subject.model.predictor(changed)
    what = f"under {one.kind} of {', '.join(one.columns)}"
    found: list[tuple[str, Floats, float]] = []
    if one.max_loss_rise is not None:
        rise = row_losses(task, measured.label, prediction) - measured.losses
        found.append((f"rise of the mean {LOSS[task].replace('_', ' ')} {what}", rise, one.max_loss_rise))
    if one.max_change is not None:
        moved = np.abs(prediction - measured.prediction)
        moved = moved.sum(axis=1) / 2 if moved.ndim == 2 else moved
        found.append((f"mean change of a prediction {what}", moved, one.max_change))
    return [Figure(name, float(values.mean()), *blocks.mean(values), max=bound, rows=len(rows))
            for name, values, bound in found]  # fmt: skip


def _violations(one: Monotonic, name: str, rows: Matrix, subject: Subject, random: np.random.Generator) -> Figure:
    """Share of rows whose prediction moves the wrong way at some step of one feature."""
    place, keys = place_of(rows, name, "number"), subject.measured.blocks
    if len(rows) > ROWS:
        chosen = np.sort(random.choice(len(rows), ROWS, replace=False))
        rows, keys = rows.take(chosen), keys[chosen]
    known = rows.values[:, place][np.isfinite(rows.values[:, place])]
    steps = np.unique(np.quantile(known, np.linspace(0, 1, STEPS))) if len(known) else known
    if len(steps) < 2:
        raise DataError(f"feature '{name}' does not vary in the held out rows, so no prediction can follow it")
    wrong = np.zeros(len(rows), dtype=bool)
    before: Floats | None = None
    for value in steps:
        values = rows.values.copy()
        values[:, place] = value
        now = subject.model.predictor(Matrix(rows.columns, values))
        if before is not None:
            fall = (before - now) if one.direction == "increasing" else (now - before)
            wrong |= fall > _ROUNDING * np.maximum(1, np.abs(before))
        before = now
    share = wrong.astype(np.float64)
    low, high = Blocks(keys, seed=subject.seed).mean(share)
    what = f"share of rows whose prediction is not {one.direction} in {name}"
    return Figure(what, float(share.mean()), low, high, max=one.max_violations, rows=len(rows))
