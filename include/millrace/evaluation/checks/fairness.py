"""fairness: a metric is alike in groups, as Fairlearn's MetricFrame compares them.

Every metric is a ratio of two sums over rows, so that its interval follows from sums of blocks; MetricFrame's own
bootstrap draws rows, which are not independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from millrace.core.errors import DataError
from millrace.evaluation.blocks import Blocks
from millrace.evaluation.checks.subject import Figure, Judged, Subject, figured
from millrace.evaluation.groups import Groups, groups_of
from millrace.models.metrics import Floats, rounded, usable
from millrace.spec.model_checks import FairnessCheck


@dataclass(frozen=True)
class _Measured:
    """A metric as Fairlearn takes it, `metric(truth, guess)`, and as sums: `above` over `below`, of each row."""

    metric: Callable[..., Any]
    truth: Floats
    guess: Floats
    above: Floats
    below: Floats
    root: bool = False

    def ratio(self, above: Floats, below: Floats) -> Floats:
        """The metric of sums; NaN where there is nothing to measure it on."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = above / below
        return np.sqrt(found) if self.root else found


def run(asked: FairnessCheck, subject: Subject) -> Judged:
    """Compare the groups of each column. Raises DataError where fewer than two groups have rows enough."""
    if not usable(subject.measured.prediction).all():
        raise DataError("predictions are not all numbers")
    measured = _measured(asked, subject)
    blocks = Blocks(subject.measured.blocks, seed=subject.seed)
    figures: list[Figure] = []
    facts: dict[str, Any] = {}
    for column in asked.columns:
        groups = groups_of(subject.measured.rows, column, subject.public)
        found, facts[column] = _compared(asked, measured, groups, blocks)
        figures += found
    return figured(asked.type, asked.name, figures, {"metric": asked.metric, "decision": asked.decision,
                                                     "minimum_rows": asked.minimum_rows, "groups": facts})  # fmt: skip


def _compared(
    asked: FairnessCheck, measured: _Measured, groups: Groups, blocks: Blocks
) -> tuple[list[Figure], list[dict[str, Any]]]:
    from fairlearn.metrics import MetricFrame

    places = len(groups.names)
    parts = (measured.above, measured.below)
    sums = np.column_stack([blocks.sums_of(part, groups.index, places) for part in parts])
    on = sums[:, places:].sum(axis=0)  # rows that the metric is measured on: of a true positive rate the positives
    large = on >= asked.minimum_rows
    if large.sum() < 2:
        raise DataError(
            f"{asked.metric} is measured on {asked.minimum_rows} rows in fewer than two groups of '{groups.column}'",
            given=f"{int(large.sum())} of {places} groups",
            next_step="Hold out more rows, or lower minimum_rows",
        )
    kept = large[groups.index]
    frame = MetricFrame(
        metrics=measured.metric, y_true=measured.truth[kept], y_pred=measured.guess[kept],
        sensitive_features=groups.index[kept],
    )  # fmt: skip
    values = {int(place): float(value) for place, value in frame.by_group.items()}

    def spread(drawn: Floats) -> Floats:
        return measured.ratio(drawn[:, :places][:, large], drawn[:, places:][:, large])

    what, rows = f"{asked.metric} between groups of {groups.column}", int(kept.sum())
    figures = []
    if asked.max_difference is not None:
        low, high = blocks.interval(sums, lambda drawn: np.ptp(spread(drawn), axis=1))
        figures.append(Figure(f"difference of {what}", float(frame.difference(method="between_groups")), low, high,
                              max=asked.max_difference, rows=rows))  # fmt: skip
    if asked.min_ratio is not None:
        if min(values.values()) < 0:
            raise DataError(f"{asked.metric} is below zero in a group of '{groups.column}', where a ratio says nothing",
                            next_step="Bound the difference instead")  # fmt: skip
        low, high = blocks.interval(sums, lambda drawn: spread(drawn).min(axis=1) / spread(drawn).max(axis=1))
        figures.append(Figure(f"ratio of {what}", float(frame.ratio(method="between_groups")), low, high,
                              min=asked.min_ratio, rows=rows))  # fmt: skip
    return figures, [
        {"group": name, "rows": int((groups.index == place).sum()), "measured_on": int(on[place]),
         "value": rounded(values[place], 8) if place in values and np.isfinite(values[place]) else None,
         "compared": bool(large[place])}
        for place, name in enumerate(groups.names)
    ]  # fmt: skip


def _measured(asked: FairnessCheck, subject: Subject) -> _Measured:
    from fairlearn import metrics as fair
    from sklearn.metrics import accuracy_score  # type: ignore[import-untyped]

    label, prediction = subject.measured.label, subject.measured.prediction
    ones, metric, decision = np.ones(len(label)), asked.metric, asked.decision or 0.5
    if metric in ("selection_rate", "true_positive_rate", "false_positive_rate"):
        taken = (prediction >= decision).astype(np.float64)
        below = {"selection_rate": ones, "true_positive_rate": label, "false_positive_rate": 1 - label}[metric]
        return _Measured(getattr(fair, metric), label, taken, taken * below, below)
    if metric == "accuracy":
        multiclass = prediction.ndim == 2
        taken = (prediction.argmax(axis=1) if multiclass else prediction >= decision).astype(np.float64)
        return _Measured(accuracy_score, label, taken, (taken == label).astype(np.float64), ones)
    if metric == "mean_prediction":
        return _Measured(fair.mean_prediction, label, prediction, prediction, ones)
    if metric == "log_loss":
        losses = subject.measured.losses
    else:
        losses = np.abs(label - prediction) ** (1 if metric == "mae" else 2)  # of brier and rmse the square
    root = metric == "rmse"
    return _Measured(_root_mean if root else fair.mean_prediction, label, losses, losses, ones, root)


def _root_mean(truth: Any, losses: Any) -> float:
    return float(np.sqrt(np.mean(losses)))
