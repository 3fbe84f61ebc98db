"""Intervals of ratios of sums over rows, by resampling whole blocks of time: what happened to a day happened to all its
rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from millrace.models.metrics import Floats
from millrace.rules.blocks import resample_counts

SAMPLES = 400


class Blocks:
    """The blocks of rows, and the resamples that are drawn of them: the same for all that is asked of one check."""

    def __init__(self, keys: NDArray[np.str_], *, seed: int) -> None:
        names, index = np.unique(keys, return_inverse=True)
        self.number, self._index = len(names), index.ravel()
        self._counts = resample_counts(self.number, seed=seed, samples=SAMPLES) if self.number > 1 else None

    def sums(self, values: Floats) -> Floats:
        """Sum of each block, shape (blocks,) of values of shape (rows,), (blocks, k) of (rows, k)."""
        if values.ndim == 1:
            return np.bincount(self._index, weights=values, minlength=self.number).astype(np.float64)
        return np.stack([self.sums(column) for column in values.T], axis=1)

    def sums_of(self, values: Floats, groups: NDArray[np.int64], number: int) -> Floats:
        """Sum of each block and group, shape (blocks, number); `groups` is each row's."""
        flat = np.bincount(self._index * number + groups, weights=values, minlength=self.number * number)
        return flat.reshape(self.number, number).astype(np.float64)

    def interval(self, sums: Floats, statistic: Callable[[Floats], Floats]) -> tuple[float | None, float | None]:
        """95 % interval of a statistic of sums. `statistic` takes sums of each resample, shape (samples, ..), and gives
        (samples,). None where there is one block, or no resample in which the statistic is a number."""
        if self._counts is None:
            return None, None
        drawn = np.tensordot(self._counts, sums, axes=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = statistic(drawn)
        kept = values[np.isfinite(values)]
        if not len(kept):
            return None, None
        low, high = np.quantile(kept, [0.025, 0.975])
        return float(low), float(high)

    def mean(self, values: Floats) -> tuple[float | None, float | None]:
        """Interval of the mean over rows."""
        both = np.column_stack([values, np.ones(len(values))])
        return self.interval(self.sums(both), lambda drawn: drawn[:, 0] / drawn[:, 1])
