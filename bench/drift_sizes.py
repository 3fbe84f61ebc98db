"""False alarms and power of the drift check where a window has other numbers of rows a day than the reference.

`python -m bench.drift_sizes` prints the table of docs/drift.md.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.drift.check import Given, check
from millrace.drift.sketch import Sketch, make

SIZES = ((500, 20), (100, 100), (20, 500))
"""Rows a day of the reference and of the window."""
LEVELS = ((0.0, 0.2), (0.3, 1.0))
"""Standard deviation of a day's own level, whose memory is 0.4, with the shift that is to be found; both in standard
deviations of a row."""
DAYS, WINDOWS = 60, (30, 7)
REFERENCES, EACH = 20, 3
RATE = 0.01
NAMES = ["a", "b", "c", "kind", "late"]


def rows(seed: int, days: int, per_day: int, *, level: float = 0.0, shift: float = 0.0) -> tuple[pa.Table, Any]:
    """Three numbers, a category and a label, with the day of each row; `shift` moves the number `a`."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(size=(days, 3))
    for d in range(1, days):
        effects[d] = 0.4 * effects[d - 1] + np.sqrt(1 - 0.4**2) * effects[d]
    day = np.repeat(np.arange(days), per_day)
    numbers = rng.normal(size=(len(day), 3)) + level * effects[day] + shift * np.array([1, 0, 0])
    words = np.array(list("pqrs"))[rng.integers(0, 4, len(day))]
    late = (rng.random(len(day)) < 0.3).astype(float)
    columns = [*numbers.T, words, late]
    dates = (np.datetime64("2024-01-01") + np.arange(days)).astype(str)
    return pa.table(dict(zip(NAMES, columns, strict=True))), dates[day]


def reference(seed: int, per_day: int, level: float = 0.0) -> Sketch:
    """The sketch of `DAYS` days; nothing is said of predictions here."""
    table, keys = rows(seed, DAYS, per_day, level=level)
    return make(table, keys, block="day", features=NAMES[:-1], label=NAMES[-1], predictions=(np.zeros(0), keys[:0]),
                importance=dict.fromkeys(NAMES[:-1], 1.0), public=lambda column: True)  # fmt: skip


def moved(sketch: Sketch, table: pa.Table, keys: Any) -> list[str]:
    """The columns that drift."""
    found = check(sketch, [Given(n, table[n], keys) for n in NAMES], rate=RATE, minimum_rows=100, seed=7)
    return [name for name in found.judged if found.drifted(name)]


def rates(sizes: tuple[int, int], days: int, level: float, shift: float, references: int = REFERENCES,
          each: int = EACH) -> tuple[float, float]:  # fmt: skip
    """Share of still windows in which any column drifts, and of shifted ones in which `a` does."""
    before, now = sizes
    alarms, found = [], []
    for n in range(references):
        sketch = reference(n, before, level)
        for m in range(each):
            seed = 1000 + n * each + m
            alarms.append(bool(moved(sketch, *rows(seed, days, now, level=level))))
            found.append("a" in moved(sketch, *rows(seed, days, now, level=level, shift=shift)))
    return float(np.mean(alarms)), float(np.mean(found))


def table() -> str:
    """The table of docs/drift.md."""
    head = [f"level {level}, shift {shift}" for level, shift in LEVELS]
    lines = [f"| rows a day: reference, window | days in the window | {' | '.join(head)} |", "|---|---|---|---|"]
    for before, now in SIZES:
        for days in WINDOWS:
            cells = []
            for level, shift in LEVELS:
                alarm, power = rates((before, now), days, level, shift)
                cells.append(f"{alarm:.1%} ({power:.0%})")
            lines.append(f"| {before}, {now} | {days} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    began = time.monotonic()
    print(table())
    sys.exit(print(f"({time.monotonic() - began:.0f} s)"))
