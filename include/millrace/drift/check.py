"""The check of a window against a model's sketch: which columns moved, what it means to the model, and what is broken.

Nothing here reads training data, and nothing is random but by the seed: the same window gives the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.drift.blocks import index_of
from millrace.drift.calibration import LEAST_BLOCKS, RUN, STILL, Draw, constancy, draw, effective, resampled, thresholds
from millrace.drift.items import Item, Seen, names_of, see
from millrace.drift.sketch import ColumnSketch, Floats, Part, Sketch, is_number, numbers_of

CAUSES, SEGMENTS = 5, 2
"""Most columns named as causes, and segments of each."""


@dataclass(frozen=True)
class Given:
    """A column of the window with the key of each row's block, shape (rows,)."""

    name: str
    values: pa.ChunkedArray
    keys: NDArray[np.str_]


@dataclass(frozen=True)
class Judged:
    """An item with its score and threshold. `drifted` is None where too little is known to say."""

    item: Item
    score: float
    threshold: float
    drifted: bool | None

    def facts(self) -> dict[str, Any]:
        """As the outcome has it."""
        return {"score": round(self.score, 6), "threshold": self.threshold, "method": self.item.method,
                "drifted": self.drifted}  # fmt: skip


@dataclass(frozen=True)
class DriftResult:
    """What a check found. `judged`: column -> its items; `weights`: share of the model's attributions."""

    judged: dict[str, tuple[Judged, ...]]
    seen: dict[str, Seen]
    weights: dict[str, float]
    broken: dict[str, str]
    enough: bool

    def drifted(self, name: str) -> bool | None:
        """Whether a column drifted, in its values or in how many are missing."""
        answers = [j.drifted for j in self.judged.get(name, ())]
        return None if not answers or None in answers else any(answers)

    @property
    def share(self) -> float:
        """Share of the model's attributions that rests on columns that drifted."""
        return float(sum(weight for name, weight in self.weights.items() if self.drifted(name)))

    def columns(self) -> dict[str, dict[str, Any]]:
        """Facts of each feature: name -> score, threshold, method, drifted, weight, unexpected input."""
        return {name: self.column(name) for name in sorted(self.judged) if name in self.weights}

    def column(self, name: str) -> dict[str, Any]:
        """Facts of one column."""
        first, *rest = self.judged[name]
        facts = {**first.facts(), "drifted": self.drifted(name), **self.seen[name].facts()}
        if rest:
            facts["missing_drift"] = rest[0].facts()
        return facts | ({"weight": round(self.weights[name], 6)} if name in self.weights else {})

    def causes(self) -> list[dict[str, Any]]:
        """Drifted features, first what weighs most: its part of the model's attributions times how far it is past its
        threshold. `part` is that product's share of all; segments are those whose share of the rows changed most."""
        pulls = {
            name: weight * max(j.score / j.threshold for j in self.judged[name])
            for name, weight in self.weights.items()
            if self.drifted(name)
        }
        total = sum(pulls.values())
        ranked = sorted(pulls, key=lambda name: (-pulls[name], name))[:CAUSES]
        return [
            {
                "column": name,
                "part": round(pulls[name] / total, 4) if total else 0.0,
                "weight": round(self.weights[name], 4),
                "segments": _segments(max(self.judged[name], key=lambda j: j.score / j.threshold).item),
            }
            for name in ranked
        ]


def check(sketch: Sketch, columns: Iterable[Given], *, rate: float, minimum_rows: int, seed: int) -> DriftResult:
    """Judge the columns of a window against the sketch, at a false-alarm rate over all of them together.

    Nothing is judged with fewer than `minimum_rows` rows, or where the reference has too few blocks to resample.
    Raises DataError for a column that has changed its kind.
    """
    seen: dict[str, Seen] = {}
    tried: list[tuple[str, Item, Floats, bool]] = []
    constant: dict[str, float] = {}
    draws: dict[tuple[int, int], Draw] = {}
    enough = True
    for given in columns:
        part = next(p for p in sketch.parts if any(c.name == given.name for c in p.columns))
        sketched = next(c for c in part.columns if c.name == given.name)
        here = seen[given.name] = see(sketched, given.values)
        blocks = len(part.blocks)
        sure = here.rows >= minimum_rows and blocks >= LEAST_BLOCKS
        enough = enough and (sure or sketched.role != "feature")
        size = _window_blocks(sketch, part, given, sketched)
        key = (id(part), size)
        if here.items and key not in draws:
            draws[key] = draw(blocks, size, 1 if part.scattered else RUN[sketch.block], seed)
        for item in here.items:
            tried.append((given.name, item, resampled(item, draws[key], seed + len(tried)), sure))
            if item.what == "values":
                constant[given.name] = constancy(item, size)
    limits = iter(thresholds([distances for _, _, distances, sure in tried if sure], rate))
    judged: dict[str, list[Judged]] = {name: [] for name in seen}
    for name, item, _, sure in tried:
        limit, score = next(limits) if sure else STILL, item.score()
        judged[name].append(Judged(item, score, limit, score >= limit if sure else None))
    broken = {
        name: why for name, here in seen.items() if (why := _broken(here, constant.get(name), rate, minimum_rows))
    }
    return DriftResult({n: tuple(j) for n, j in judged.items() if j}, seen, _weights(sketch, seen), broken, enough)


def _window_blocks(sketch: Sketch, part: Part, given: Given, column: ColumnSketch) -> int:
    names, index = index_of(given.keys, sketch.block)
    if not part.scattered or not is_number(given.values.type):
        return max(1, len(names))
    values = np.nan_to_num(numbers_of(given.values))
    rows = np.bincount(index, minlength=len(names))
    means = np.bincount(index, weights=values, minlength=len(names)) / np.maximum(rows, 1)
    return max(1, round(effective(len(names), means)))


def _broken(here: Seen, constant: float | None, rate: float, minimum_rows: int) -> str | None:
    if here.column.role != "feature" or not here.rows:
        return None
    if here.constant and here.rows >= minimum_rows and (constant or 0.0) < rate:
        return "stuck at one value"
    return here.broken


def _weights(sketch: Sketch, seen: dict[str, Seen]) -> dict[str, float]:
    names = [name for name, here in seen.items() if here.column.role == "feature"]
    if not any(sketch.importance.values()):  # a model that uses nothing: all alike
        return dict.fromkeys(names, 1 / max(1, len(sketch.names)))
    return {name: sketch.importance.get(name, 0.0) for name in names}


def _segments(item: Item) -> list[dict[str, Any]]:
    before, after = (c / c.sum() for c in (item.before, item.after))
    names, change = list(names_of(item)), np.abs(after - before)
    return [
        {"segment": names[n], "before": round(float(before[n]), 4), "after": round(float(after[n]), 4)}
        for n in np.argsort(-change, kind="stable")[:SEGMENTS]
        if change[n] > 0
    ]
