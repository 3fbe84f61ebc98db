"""What a model does on the rows it held out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from millrace.contract import Metric
from millrace.core.errors import DataError
from millrace.models.encoding import labels
from millrace.models.files import Model
from millrace.models.metrics import Floats, block_bootstrap, block_sums, metrics, rounded, row_losses

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Measured:
    """The held out rows with their label and block, and the model's losses there, shape (rows,); its metrics, and its
    predictions as `Model.predict` gives them."""

    rows: pa.Table
    label: Floats
    prediction: Floats
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
        prediction=prediction,
        blocks=blocks,
        losses=row_losses(card.task, label, prediction),
        metrics={name: _metric(value, intervals.get(name), len(label)) for name, value in defined.items()},
        undefined=tuple(sorted(found.keys() - defined.keys())),
    )


def _metric(value: float, interval: tuple[float, float] | None, rows: int) -> Metric:
    low, high = (rounded(interval[0]), rounded(interval[1])) if interval else (None, None)
    return Metric(value=rounded(value), low=low, high=high, rows=rows)
