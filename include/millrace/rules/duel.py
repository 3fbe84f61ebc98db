"""Duel: challenger and champion on the same frozen rows, paired row by row and judged by blocks of time. Pure.

Stated rates (docs/duel.md; `python -m bench.duel`, and tests hold them), for blocks that remember up to 0.6: a model
that is worse by the tolerance passes in at most 5 % of duels; one that is better by `difference` passes in at least
80 % of those that can see so much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from millrace.rules.blocks import Blocks, Estimate, estimate, mean, student, summed, tail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST = 8
"""Fewest blocks that are judged: with fewer the rates are not held."""
LEVEL = 0.975
"""Of either end of the interval. Non-inferiority is shown one-sided at 2.5 %, as ICH E9 (1998, 5.5) has it; what blocks
remember beyond what is assumed takes from the reserve up to 5 %."""
POWER, SURE = 0.8, 0.9
"""Probability of seeing a gain, and how sure the error must be, which few blocks know badly, for that to be said."""
WEIGHT = 10
"""Evidence of memory, in blocks (`millrace.rules.blocks`). Half of a window's: held out blocks lie days apart."""
FAMILY = 0.05
"""Probability that slices, all together, seem to regress where none does."""

Result = Literal["passed", "worse", "undecided", "no power", "few blocks", "not finite"]


@dataclass(frozen=True)
class Terms:
    """What a challenger must show. All in units of the loss."""

    tolerance: float = 0.0
    better: bool = False
    difference: float | None = None

    @property
    def bar(self) -> float:
        """What the interval's upper end must stay below. `better` is below zero, not below `-difference`: a model that
        is better by just that would pass in one duel of forty."""
        return 0.0 if self.better else self.tolerance


@dataclass(frozen=True)
class Duel:
    """The challenger's mean loss less the champion's (below zero: the challenger is better), with a 95 % interval.

    `low`, `high` and `seen` are None with fewer than `FEWEST` blocks. `seen`: the least gain that passes in 80 % of
    duels with such blocks.
    """

    difference: float
    low: float | None
    high: float | None
    seen: float | None
    rows: int
    blocks: int
    result: Result

    @property
    def passed(self) -> bool:
        """Whether the challenger may take the champion's place."""
        return self.result == "passed"


def duel(
    challenger: NDArray[np.float64], champion: NDArray[np.float64], blocks: NDArray[np.str_], terms: Terms
) -> Duel:
    """Judge two models by their losses on the same rows, shape (rows,) each.

    What a day did to both models alike drops out of the paired differences; what it did to one of them makes all rows
    of the day differ alike, which is why blocks are the observations. Raises ValueError where the arrays differ in
    length or are empty.
    """
    import numpy as np

    if not len(challenger) == len(champion) == len(blocks) or not len(challenger):
        raise ValueError(f"a duel needs the same rows of both: {len(challenger)}, {len(champion)}, {len(blocks)}")
    with np.errstate(invalid="ignore"):
        paired = challenger - champion
    if not np.isfinite(paired).all():
        return Duel(math.nan, None, None, None, len(paired), len(np.unique(blocks)), "not finite")
    return judge(summed(blocks, paired), terms)


def judge(paired: Blocks, terms: Terms) -> Duel:
    """Judge sums of paired differences. A pass is a pass however little else could have been seen: its 5 % hold."""
    difference, rows = mean(paired), int(sum(b[1] for b in paired.values()))
    if len(paired) < FEWEST:
        return Duel(difference, None, None, None, rows, len(paired), "few blocks")
    found = estimate(paired, WEIGHT)
    low, high = found.ends(LEVEL)
    seen = max(0.0, gain_seen(found, terms.bar))
    result: Result = "undecided"
    if high <= terms.bar and (high < 0 or not terms.better):
        result = "passed"
    elif low > terms.bar:
        result = "worse"
    elif terms.difference is not None and seen > terms.difference:
        result = "no power"
    return Duel(difference, low, high, seen, rows, len(paired), result)


def gain_seen(found: Estimate, bar: float) -> float:
    """The least gain that passes with probability `POWER`, by an error that is surely large enough."""
    if not found.error:
        return -bar
    f = found.freedom  # the lower tail of chi-squared by Wilson and Hilferty, 1931
    spread = math.sqrt(2 / (9 * f))
    least = max(1 - spread**2 - student(SURE, 1e9) * spread, 0.05) ** 3
    reach = found.ends(LEVEL)[1] - found.mean + student(POWER, f) * found.error
    return reach / math.sqrt(least) - bar


@dataclass(frozen=True)
class Regression:
    """What a slice shows: its Duel's difference and interval, and whether its regression is shown.

    `regressed` is None where the slice is too small to be judged.
    """

    difference: float
    low: float | None
    high: float | None
    rows: int
    blocks: int
    regressed: bool | None


def regressions(slices: Mapping[str, Blocks], tolerance: float, *, minimum_rows: int) -> dict[str, Regression]:
    """In which slices the challenger is shown to be worse by more than the tolerance.

    The tests, by Student's t, are corrected together by Holm (1979): of challengers that regress nowhere at most
    `FAMILY` seem to, however slices overlap, which those of two columns do. To ask for shown non-inferiority in each
    slice instead would need no correction, and refuse nearly all: a slice of a twentieth of the rows has five times the
    error.
    """
    judged: dict[str, Estimate] = {}
    found: dict[str, Regression] = {}
    for name, blocks in slices.items():
        rows = int(sum(b[1] for b in blocks.values()))
        enough = rows >= minimum_rows and len(blocks) >= FEWEST
        low = high = None
        if enough:
            judged[name] = estimate(blocks, WEIGHT)
            low, high = judged[name].ends(LEVEL)
        found[name] = Regression(mean(blocks), low, high, rows, len(blocks), False if enough else None)
    chances = sorted((_chance(each, tolerance), name) for name, each in judged.items())
    for position, (chance, name) in enumerate(chances):
        if chance > FAMILY / (len(chances) - position):
            break
        found[name] = Regression(**{**vars(found[name]), "regressed": True})
    return found


def _chance(found: Estimate, tolerance: float) -> float:
    """How likely so much is where the slice is worse by the tolerance."""
    excess = found.mean - tolerance
    if not found.error:
        return 0.0 if excess > 0 else 1.0
    return tail(excess / found.error, found.freedom)
