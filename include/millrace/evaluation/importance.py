"""Permutation importance: how much worse a model gets when one feature's values are shuffled. Any learner."""

from __future__ import annotations

import numpy as np

from millrace.models.metrics import row_losses
from millrace.models.protocol import Matrix, Predictor
from millrace.rules.labels import Task

ROWS = 4000
"""Most rows it is measured on."""


def importance(predict: Predictor, rows: Matrix, task: Task, *, seed: int) -> dict[str, float]:
    """Rise of the mean loss per feature, largest first; about zero for a feature that the model does not use.

    `rows` are held out rows with their label; a fixed sample of at most `ROWS` is taken.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    if len(rows) > ROWS:
        rows = rows.take(np.sort(random.choice(len(rows), ROWS, replace=False)))
    base = row_losses(task, rows.label, predict(rows)).mean()
    rises = {}
    for position, column in enumerate(rows.columns):
        values = rows.values.copy()
        values[:, position] = values[random.permutation(len(rows)), position]
        rises[column.name] = float(row_losses(task, rows.label, predict(Matrix(rows.columns, values))).mean() - base)
    return dict(sorted(rises.items(), key=lambda item: -item[1]))
