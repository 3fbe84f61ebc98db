"""Synthetic streams of days for tests of drift: a level that each day shares and that remembers the day before."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.drift.check import DriftResult, Given, check
from millrace.drift.sketch import PREDICTION, Sketch, make

EVIL = "<script>alert(1)</script>"
FEATURES = ["amount", "count", "city", "vip"]


def days(seed: int, count: int = 60, per_day: int = 100, *, level: float = 0.4, memory: float = 0.4,
         shift: float = 0.0, cities: tuple[str, ...] = ("Rome", "Oslo", "Bern"), first: date = date(2024, 1, 1),
         gaps: float = 0.0) -> tuple[pa.Table, Any]:  # fmt: skip
    """Rows of `count` days with their block keys. `level`: spread of the days' own level in `amount`."""
    rng = np.random.default_rng(seed)
    effect, value = np.empty(count), rng.normal()
    for day in range(count):
        value = memory * value + np.sqrt(1 - memory**2) * rng.normal()
        effect[day] = level * value
    day = np.repeat(np.arange(count), per_day)
    rows = len(day)
    amount = 10 + 2 * (rng.normal(size=rows) + effect[day] + shift)
    table = pa.table(
        {
            "amount": pa.array(amount, mask=rng.random(rows) < gaps),
            "count": rng.integers(0, 5, rows),
            "city": [cities[n] for n in rng.integers(0, len(cities), rows)],
            "vip": pa.array(rng.random(rows) < 0.2),
            "late": (rng.random(rows) < 0.3).astype(np.int64),
        }
    )
    return table, np.array([(first + timedelta(days=int(d))).isoformat() for d in range(count)])[day]


def everything(column: str) -> bool:
    """All columns are public."""
    return True


def sketch(table: pa.Table, keys: Any, *, importance: dict[str, float] | None = None, public: Any = everything,
           features: list[str] = FEATURES) -> Sketch:  # fmt: skip
    """The sketch of a training set whose model predicts from `amount`; every fifth day was held out."""
    held = np.isin(keys, np.unique(keys)[::5])
    predictions = predicted(table.filter(pa.array(held)))
    return make(table, keys, block="day", features=features, label="late", predictions=(predictions, keys[held]),
                importance=importance or dict.fromkeys(features, 1.0), public=public)  # fmt: skip


def predicted(table: pa.Table) -> Any:
    """A model's answers."""
    amount = table[table.column_names[0]].to_numpy()
    return 1 / (1 + np.exp(-np.clip(np.nan_to_num(amount - 10), -50, 50)))


def compare(reference: Sketch, table: pa.Table, keys: Any, *, columns: list[str] | None = None,
            rate: float = 0.01, minimum_rows: int = 500) -> DriftResult:  # fmt: skip
    """Check features, label and prediction of a window."""
    given = [Given(c, table[c], keys) for c in columns or [*reference.names, "late"]]
    if columns is None:
        given.append(Given(PREDICTION, pa.chunked_array([pa.array(predicted(table))]), keys))
    return check(reference, given, rate=rate, minimum_rows=minimum_rows, seed=7)
