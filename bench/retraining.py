"""Rules of retraining on ten kinds of stream: how often each retrains, and what it recovers of what is to gain.

`python -m bench.retraining [STREAMS] [FIRST SEED]` prints the table of docs/drift.md. The rule was chosen on seeds 0 to
19; those of the table are others. `retraining_forms` measures the forms of a probe, `drift_flights` the flights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.retraining_streams import DAYS, HISTORY, KINDS, MONTHS, ROWS, STILL, Ridge, Stream
from millrace.rules import gain as rule
from millrace.rules.blocks import Blocks, student
from millrace.rules.degradation import degradation
from millrace.rules.gain import Gain

WINDOWS = range(HISTORY, MONTHS)
COST = 0.005
STREAMS, UNSEEN = 200, 1000
Model = tuple[int, bool]
"""Last month it was trained on, and whether recent months count for more."""


class World:
    """A stream with its models; answers what a rule may ask."""

    def __init__(self, stream: Stream) -> None:
        self.ridge = Ridge(stream)
        self._gains: dict[Any, Gain] = {}

    def loss(self, model: Model, month: int) -> float:
        """Mean loss of a month."""
        return float(self.ridge.losses(*model, month).sum()) / DAYS / ROWS

    def mean(self, models: Sequence[Model]) -> float:
        """Mean loss over all windows with one model for each."""
        return float(np.mean([self.loss(model, month) for model, month in zip(models, WINDOWS, strict=True)]))

    def gain(self, model: Model, month: int, *, recency: bool, run: int) -> Gain:
        """What a retraining after `month` would win on it; with `recency` by the better weights."""
        key = model, month, recency, run
        if key not in self._gains:
            held = self.ridge.held(*model)
            probe, recent = blocks(self.ridge.probe(month, recent=False, run=run)), False
            if recency:
                other = blocks(self.ridge.probe(month, recent=True, run=run))
                if rule.surely_better(other, probe):
                    probe, recent = other, True
            unit = float(held.sum()) / len(held) / ROWS
            found = rule.gain(blocks(self.ridge.losses(*model, month)), probe, unit, recent=recent)
            assert found is not None
            self._gains[key] = found
        return self._gains[key]

    def degraded(self, model: Model, month: int) -> bool:
        """The performance test."""
        seen = degradation(blocks(self.ridge.losses(*model, month)), blocks(self.ridge.held(*model)), 0.01)
        return bool(seen.degraded)


@dataclass(frozen=True)
class Rule:
    """`due` is asked with the gains under this champion and those before, and whether the champion is degraded."""

    due: Callable[[Sequence[Gain], Sequence[Gain], Callable[[], bool]], bool]
    recency: bool = False
    run: int = 1


def plain(gains: Sequence[Gain], *_: Any) -> bool:
    """The lower bound of this partition's gain, at 1 %, exceeds the cost."""
    return bound(gains[-1:], 0.01) > COST


def foregone(gains: Sequence[Gain], *_: Any) -> bool:
    """The lower bound at 5 % of what the last m partitions would have won together exceeds the cost, for some m."""
    return any(bound(gains[-m:], 0.05) > COST for m in range(1, len(gains) + 1))


def ours(gains: Sequence[Gain], before: Sequence[Gain], *_: Any) -> bool:
    """The rule in use."""
    return rule.worth(gains, before, COST).due


def bound(gains: Sequence[Gain], rate: float) -> float:
    """Lower bound of a sum of gains."""
    variance = sum(g.error**2 for g in gains)
    freedom = variance**2 / sum(g.error**4 / g.freedom for g in gains)
    return sum(g.mean for g in gains) - student(1 - rate, freedom) * float(np.sqrt(variance))


RULES = {
    "today's: degraded, or six months old": Rule(lambda gains, _, degraded: len(gains) >= 6 or degraded()),
    "plain": Rule(plain),
    "foregone gain": Rule(foregone),
    "foregone gain, recency": Rule(foregone, recency=True),
    "ours without recency": Rule(ours, run=DAYS // rule.RUNS),
    "ours without runs": Rule(ours, recency=True),
    "ours": Rule(ours, recency=True, run=DAYS // rule.RUNS),
}


def replay(world: World, how: Rule) -> list[Model]:
    """The model in use in each window."""
    model, used = (HISTORY - 1, False), []
    mine: list[Gain] = []
    before: list[Gain] = []
    for month in WINDOWS:
        used.append(model)
        here = model
        mine.append(world.gain(here, month, recency=how.recency, run=how.run))
        if how.due(mine, before, lambda here=here, month=month: world.degraded(here, month)):  # type: ignore[misc]
            before, model, mine = [*before, *mine], (month, mine[-1].recent), []
    return used


def calendar(count: int, *, recent: bool) -> list[Model]:
    """The model in use in each window with `count` retrainings spread evenly."""
    at = [HISTORY - 1 + round((n + 1) * len(WINDOWS) / (count + 1)) for n in range(count)]
    made = [(month, recent) for month in at]
    return [max([m for m in made if m[0] < month], default=(HISTORY - 1, False)) for month in WINDOWS]


def measure(streams: int, first: int) -> dict[str, dict[str, Any]]:
    """Per kind and rule, and for `monthly`: mean number of retrainings; loss less than the first model's, of the rule
    and of calendars of equal count on all history and with recency."""
    found: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for kind in KINDS:
        for seed in range(first, first + streams):
            world = World(Stream(kind, seed))
            frozen = world.mean(calendar(0, recent=False))
            monthly = [(month - 1, False) for month in WINDOWS]
            found[kind].setdefault("monthly", []).append((len(WINDOWS) - 1, frozen - world.mean(monthly), 0, 0))
            for name, how in RULES.items():
                used = replay(world, how)
                count = len(set(used)) - 1
                even = [frozen - world.mean(calendar(count, recent=recent)) for recent in (False, True)]
                found[kind].setdefault(name, []).append((count, frozen - world.mean(used), *even))
    return {kind: {name: np.mean(lines, axis=0) for name, lines in rules.items()} for kind, rules in found.items()}


def table(found: dict[str, dict[str, Any]]) -> str:
    """Retrainings in 100 windows of each kind; where something moves also what is recovered of monthly retraining."""
    lines = [f"| rule | {' | '.join(KINDS)} | all that move | calendar of equal count: all history, recency |"]
    lines.append("|---" * (len(KINDS) + 3) + "|")
    moving = [kind for kind in KINDS if kind not in STILL]
    for name in RULES:
        cells, totals = [], []
        for kind in KINDS:
            count, *won = found[kind][name]
            rate, shares = 100 * count / len(WINDOWS), np.array(won) / found[kind]["monthly"][1]
            cells.append(f"{rate:.1f}" if kind in STILL else f"{rate:.0f}: {shares[0]:.0%}")
            if kind in moving:
                totals.append([rate, *shares])
        rate, own, even, recent = np.mean(totals, axis=0)
        lines.append(f"| {name} | {' | '.join(cells)} | {rate:.0f}: {own:.0%} | {even:.0%}, {recent:.0%} |")
    return "\n".join(lines)


def main(words: list[str]) -> int:
    """Print the table."""
    began = time.monotonic()
    given = [int(word) for word in words]
    print(table(measure(*[*given, *(STREAMS, UNSEEN)[len(given) :]])))
    print(f"({time.monotonic() - began:.0f} s)")
    return 0


def blocks(losses: Any) -> Blocks:
    """Sums of losses of days as rules take them."""
    return {f"{day:04d}": (float(loss), ROWS) for day, loss in enumerate(losses)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
