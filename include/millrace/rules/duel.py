"""Duel: challenger and champion on the same frozen rows, compared row by row. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Duel:
    """The challenger's mean loss less the champion's (below zero: the challenger is better), with a 95 % interval.

    `low` and `high` are None where all rows lie in one block of time.
    """

    difference: float
    low: float | None
    high: float | None
    rows: int
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the challenger may take the champion's place; a difference that is not a number does not pass."""
        return self.difference <= self.tolerance


def duel(
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64],
    blocks: NDArray[np.str_],
    *,
    tolerance: float,
    seed: int,
    samples: int = 400,
) -> Duel:
    """Judge two models by their losses on the same rows, shape (rows,) each.

    The interval is that of the paired difference under a bootstrap of whole blocks: what a day did to both models
    alike drops out. Raises ValueError where the arrays differ in length or are empty.
    """
    import numpy as np

    if not len(challenger) == len(champion) == len(blocks) or not len(challenger):
        raise ValueError(f"a duel needs the same rows of both: {len(challenger)}, {len(champion)}, {len(blocks)}")
    paired = challenger - champion
    difference = math.fsum(paired) / len(paired) if np.isfinite(paired).all() else math.nan
    names, index = np.unique(blocks, return_inverse=True)
    low = high = None
    if len(names) > 1 and math.isfinite(difference):
        counts = resample_counts(len(names), seed=seed, samples=samples)
        sums = np.bincount(index.ravel(), weights=paired, minlength=len(names))
        rows = np.bincount(index.ravel(), minlength=len(names)).astype(np.float64)
        low, high = (float(q) for q in np.quantile((counts @ sums) / (counts @ rows), [0.025, 0.975]))
    return Duel(difference=difference, low=low, high=high, rows=len(paired), tolerance=tolerance)


def resample_counts(blocks: int, *, seed: int, samples: int) -> NDArray[np.float64]:
    """How often each of `blocks` blocks is drawn in each bootstrap sample, shape (samples, blocks)."""
    import numpy as np

    draws = np.random.Generator(np.random.PCG64(seed)).integers(0, blocks, size=(samples, blocks))
    flat = (draws + np.arange(samples)[:, None] * blocks).ravel()
    return np.bincount(flat, minlength=samples * blocks).reshape(samples, blocks).astype(np.float64)
