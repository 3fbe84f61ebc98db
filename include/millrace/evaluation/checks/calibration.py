"""calibration: predictions mean what they say.

Expected calibration error: the mean, over rows, of the distance between what was predicted and what came in bins of
equal row counts (Naeini et al. 2015; equal counts as in Nguyen & O'Connor 2015). Intercept and slope: Cox's
recalibration of a binary label (Van Calster et al. 2019), by a logistic regression of the label on the log-odds of the
prediction; of a regression, by least squares of the label on the prediction. Their intervals: one Newton step from the
fit of all rows for each resample of blocks (the k-step bootstrap, Davidson & MacKinnon 1999), exact for least squares.
"""

from __future__ import annotations

import numpy as np

from millrace.core.errors import DataError
from millrace.evaluation.blocks import Blocks
from millrace.evaluation.checks.subject import Figure, Judged, Subject, figured
from millrace.models.metrics import Floats, log_odds, usable
from millrace.spec.model_checks import CalibrationCheck

_STEPS = 50


def run(asked: CalibrationCheck, subject: Subject) -> Judged:
    """Raises DataError for predictions that are not numbers, and where no line can be fitted."""
    task, measured = subject.model.card.task, subject.measured
    label, prediction = measured.label, measured.prediction
    if not usable(prediction).all():
        raise DataError("predictions are not all numbers")
    blocks = Blocks(measured.blocks, seed=subject.seed)
    figures = []
    if asked.max_error is not None:
        right, sure = (label, prediction)
        if task == "multiclass":
            right, sure = (prediction.argmax(axis=1) == label).astype(np.float64), prediction.max(axis=1)
        figures.append(_expected_error(right, sure, blocks, asked))
    line = log_odds(prediction) if task == "binary" else prediction
    if asked.max_intercept is not None:
        figures.append(_coefficient("intercept at slope 1", np.ones((len(label), 1)), label, line, task, blocks,
                                    -asked.max_intercept, asked.max_intercept))  # fmt: skip
    if asked.min_slope is not None or asked.max_slope is not None:
        design = np.column_stack([line, np.ones(len(label))])
        figures.append(_coefficient("slope", design, label, np.zeros(len(label)), task, blocks, asked.min_slope,
                                    asked.max_slope))  # fmt: skip
    return figured(asked.type, asked.name, figures)


def _expected_error(label: Floats, prediction: Floats, blocks: Blocks, asked: CalibrationCheck) -> Figure:
    edges = np.quantile(prediction, np.arange(1, asked.bins) / asked.bins)
    bins = np.searchsorted(edges, prediction, side="right")  # equal predictions stay together
    gaps = blocks.sums_of(label - prediction, bins, asked.bins)
    sums = np.column_stack([gaps, blocks.sums(np.ones(len(label)))])

    def error(drawn: Floats) -> Floats:
        return np.asarray(np.abs(drawn[:, :-1]).sum(axis=1) / drawn[:, -1])

    low, high = blocks.interval(sums, error)
    value = float(error(sums.sum(axis=0, keepdims=True))[0])
    return Figure("expected calibration error", value, low, high, max=asked.max_error, rows=len(label))


def _coefficient(
    name: str, design: Floats, label: Floats, offset: Floats, task: str, blocks: Blocks,
    least: float | None, most: float | None,
) -> Figure:  # fmt: skip
    """The first coefficient of a regression of the label on `design`, shape (rows, k), beside a fixed `offset`."""
    fitted = np.zeros(design.shape[1])
    scores, weights = _derivatives(design, label, offset, task, fitted)
    for _ in range(_STEPS):
        try:
            step = np.linalg.solve((design * weights[:, None]).T @ design, scores.sum(axis=0))
        except np.linalg.LinAlgError as err:
            raise DataError(f"no {name} can be fitted: all predictions are alike") from err
        fitted = fitted + step
        scores, weights = _derivatives(design, label, offset, task, fitted)
        if np.abs(step).max() < 1e-10 * max(1.0, float(np.abs(fitted).max())):
            break
    else:
        raise DataError(f"no {name} can be fitted: predictions and labels are separated")
    size = design.shape[1]
    curvature = [weights * design[:, i] * design[:, j] for i in range(size) for j in range(size)]
    sums = blocks.sums(np.column_stack([scores, *curvature]))

    def again(drawn: Floats) -> Floats:
        hessian = drawn[:, size:].reshape(-1, size, size)
        whole = np.abs(np.linalg.det(hessian)) > 0
        steps = np.full(len(drawn), np.nan)
        steps[whole] = np.linalg.solve(hessian[whole], drawn[whole, :size, None])[:, 0, 0]
        return fitted[0] + steps

    low, high = blocks.interval(sums, again)
    return Figure(name, float(fitted[0]), low, high, min=least, max=most, rows=len(label))


def _derivatives(design: Floats, label: Floats, offset: Floats, task: str, at: Floats) -> tuple[Floats, Floats]:
    """Each row's score, shape (rows, k), and its weight in the curvature, shape (rows,)."""
    linear = offset + design @ at
    if task == "binary":
        expected = 1 / (1 + np.exp(-np.clip(linear, -500, 500)))
        return design * (label - expected)[:, None], expected * (1 - expected)
    return design * (label - linear)[:, None], np.ones(len(label))
