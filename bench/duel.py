"""How often a Duel passes, by blocks of the frozen slice and by how much they remember.

`python -m bench.duel` prints the tables of docs/duel.md. A block's paired difference has a level that remembers the
block before it in the slice (first-order autoregression) with a standard deviation of 1, and 600 to 1,200 rows.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

import numpy as np

from millrace.rules.blocks import Blocks
from millrace.rules.duel import FEWEST, Terms, judge, regressions

BLOCKS, MEMORIES = (FEWEST, 12, 20, 40, 80), (0.0, 0.2, 0.4, 0.6)
DUELS, SEED = 4000, 1
REACH = {8: 3.0, 12: 1.9, 20: 1.15, 40: 0.63, 80: 0.39}
"""Blocks -> how far from its bar half of the duels of that size see a challenger, where blocks forget; in standard
deviations of a block. Where a gain is seen easily nearly all pass: the 80 % are asked where it is just seen."""
TERMS = Terms(tolerance=0.25)


def within_reach(blocks: int) -> Terms:
    """Terms whose difference duels of this size just see. With `better` they are the same duels: the bar is 0 then, and
    all of the reach is the difference."""
    return Terms(REACH[blocks] / 3, False, REACH[blocks] * 2 / 3)


def levels(rng: np.random.Generator, count: int, blocks: int, memory: float, *, skewed: bool = False) -> Any:
    """Mean difference of each block, shape (count, blocks); `skewed`: a few blocks, in which the challenger is
    much worse, lie far out (exponential, skewness 2)."""
    drawn = rng.standard_exponential(size=(count, blocks)) - 1 if skewed else rng.normal(size=(count, blocks))
    level = drawn.copy()
    for block in range(1, blocks):
        level[:, block] = memory * level[:, block - 1] + np.sqrt(1 - memory**2) * drawn[:, block]
    return level


def duels(
    blocks: int, memory: float, shift: float, terms: Terms = TERMS, *, count: int = DUELS, seed: int = SEED,
    skewed: bool = False,
) -> Counter[str]:  # fmt: skip
    """Results of `count` duels of a challenger whose mean loss is the champion's plus `shift`.

    `able` counts those that could see the difference, `able and passed` how many of these passed.
    """
    rng, found = np.random.default_rng([seed, blocks, int(memory * 100)]), Counter[str]()
    made = levels(rng, count, blocks, memory, skewed=skewed) + shift
    rows = rng.integers(600, 1200, size=made.shape)
    for level, size in zip(made.tolist(), rows.tolist(), strict=True):
        result = judge({f"{n:03d}": (a * b, b) for n, (a, b) in enumerate(zip(level, size, strict=True))}, terms)
        found[result.result] += 1
        if result.seen is not None and terms.difference is not None and result.seen <= terms.difference:
            found["able"] += 1
            found["able and passed"] += result.passed
    return found


def slices(
    count: int, blocks: int, memory: float, worse: float, *, duels: int, seed: int = SEED
) -> tuple[float, float]:
    """Share of duels in which a sound slice of `count` seems to regress, and in which the one that is `worse` does.

    All slices share their blocks' level, as carriers share a day's weather.
    """
    rng, wrong, right = np.random.default_rng([seed, count, blocks]), 0, 0
    for _ in range(duels):
        shared, own = levels(rng, 1, blocks, memory), levels(rng, count, blocks, memory)
        made = np.sqrt(0.3) * shared + np.sqrt(0.7) * own + TERMS.tolerance
        made[0] += worse
        given: dict[str, Blocks] = {
            str(n): {f"{block:03d}": (level * 100, 100) for block, level in enumerate(each)}
            for n, each in enumerate(made.tolist())
        }
        found = regressions(given, TERMS.tolerance, minimum_rows=1)
        right += found["0"].regressed is True
        wrong += any(each.regressed for name, each in found.items() if name != "0" or not worse)
    return wrong / duels, right / duels


def _table(head: str, cell: Any) -> str:
    lines = [f"| {head} | {' | '.join(f'remember {m:.1f}' for m in MEMORIES)} |", "|---|" + "---|" * len(MEMORIES)]
    lines += [f"| {n} | {' | '.join(cell(n, m) for m in MEMORIES)} |" for n in BLOCKS]
    return "\n".join(lines)


def _share(part: int, of: int) -> str:
    return f"{part / of:.1%}" if of >= DUELS / 20 else "-"


def table() -> str:
    """The tables of docs/duel.md."""

    def worse(blocks: int, memory: float) -> str:
        even, skewed = (duels(blocks, memory, TERMS.tolerance, skewed=s)["passed"] for s in (False, True))
        return f"{even / DUELS:.1%} ({skewed / DUELS:.1%})"

    def better(blocks: int, memory: float) -> str:
        terms = within_reach(blocks)
        found = duels(blocks, memory, -(terms.difference or 0), terms)
        share = _share(found["able and passed"], found["able"])
        return f"{share} ({found['passed'] / DUELS:.0%}, {found['no power'] / DUELS:.0%})"

    parts = [_table("worse by the tolerance", worse), _table("better by the difference", better)]
    lines = ["| slices | blocks | a sound one seems to regress | one worse by 1 is found |", "|---|---|---|---|"]
    for count, blocks in ((1, 8), (8, 20), (32, 20), (32, 60)):
        wrong, right = slices(count, blocks, 0.2, 0, duels=800)[0], slices(count, blocks, 0.2, 1, duels=800)[1]
        lines.append(f"| {count} | {blocks} | {wrong:.1%} | {right:.0%} |")
    return "\n\n".join([*parts, "\n".join(lines)])


if __name__ == "__main__":
    began = time.monotonic()
    print(table())
    sys.exit(print(f"({time.monotonic() - began:.0f} s)"))
