"""Synthetic two-year streams of days, and the replay of a policy of retraining over one of them, month by month."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.drift.check import DriftResult, Given, check
from millrace.drift.sketch import PREDICTION, Sketch, make
from millrace.rules.degradation import degradation
from millrace.rules.governor import decide
from millrace.rules.window import Window
from millrace.spec import Partitioning
from millrace.spec.monitoring import MonitoringSpec

MONTHS, HISTORY, DAYS, ROWS = 24, 6, 30, 120
"""Months of a stream, of the first training, days a month, rows a day."""
NUMBERS, TEXTS = ("a", "b", "c", "d", "e"), ("f", "g")
CHANGE = 12
"""Month at which the drifting streams change."""
CUT = Partitioning("month", "UTC")
KINDS = ("still, days resampled", "still, days that remember", "two seasonal years", "sudden", "gradual", "recurring")


@dataclass
class Stream:
    """Rows of 24 months. `changes` says in which of the windows after the first training something differs."""

    kind: str
    seed: int

    @cached_property
    def data(self) -> tuple[pa.Table, Any, Any]:
        """Table, block key and month of each row."""
        rng = np.random.default_rng(self.seed)
        count = MONTHS * DAYS
        day = np.repeat(np.arange(count), ROWS)
        rows, month = len(day), np.repeat(np.arange(count), ROWS) // DAYS
        effects = np.empty((count, 6))
        value = rng.normal(size=6)
        for d in range(count):
            value = 0.4 * value + np.sqrt(1 - 0.16) * rng.normal(size=6)
            effects[d] = 0.3 * value
        if self.kind == KINDS[0]:
            effects = effects[: 12 * DAYS][rng.integers(0, 12 * DAYS, count)]
        numbers = rng.normal(size=(rows, 5)) + effects[day, :5]
        texts = np.array(list("pqrstu"))[np.clip(np.floor(rng.normal(size=(rows, 2)) + 3), 0, 5).astype(int)]
        if self.kind == KINDS[2]:
            season = np.sin(2 * np.pi * day / 365)
            numbers[:, 0] += season
            numbers[:, 1] += 0.5 * season
        if self.kind == "sudden":
            numbers[:, 0] += 0.8 * (month >= CHANGE)
        weight = np.tile([1.0, 0.7, 0.4, 0.0, 0.0], (rows, 1))
        turned = self._turned(month)
        weight[:, 1] = 0.7 - 1.4 * turned
        weight[:, 3] = 0.8 * turned
        level = (numbers * weight).sum(axis=1) + 0.5 * (texts[:, 0] == "s") + effects[day, 5] - 0.8
        if self.kind == KINDS[2]:
            level += 0.5 * season * numbers[:, 2]
        late = (rng.random(rows) < 1 / (1 + np.exp(-level))).astype(float)
        columns = {name: numbers[:, n] for n, name in enumerate(NUMBERS)}
        table = pa.table({**columns, "f": pa.array(texts[:, 0]), "g": pa.array(texts[:, 1]), "late": late})
        keys = np.array([(date(2020, 1, 1) + timedelta(days=int(d))).isoformat() for d in range(count)])[day]
        return table, keys, month

    def _turned(self, month: Any) -> Any:
        """How far the concept has turned, 0 to 1."""
        if self.kind == "sudden":
            return (month >= CHANGE).astype(float)
        if self.kind == "gradual":
            return np.clip((month - CHANGE + 4) / 8, 0, 1)
        if self.kind == "recurring":
            return ((month - CHANGE) // 3 % 2 == 0).astype(float) * (month >= CHANGE)
        return np.zeros(len(month))

    def months(self, first: int, last: int) -> tuple[pa.Table, Any]:
        """Rows of the months first to last, both included."""
        table, keys, month = self.data
        here = (month >= first) & (month <= last)
        return table.filter(pa.array(here)), keys[here]


class World:
    """A stream with the models trained at the end of each month on up to twelve months, made when asked for."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._models: dict[int, Any] = {}
        self._losses: dict[tuple[int, int], Any] = {}

    def model(self, until: int) -> Any:
        """Booster, loss per held out block, sketch."""
        if until not in self._models:
            self._models[until] = self._train(until)
        return self._models[until]

    def blocks(self, until: int, month: int) -> dict[str, tuple[float, int]]:
        """Loss per day of a month under the model trained to `until`."""
        if (until, month) not in self._losses:
            table, keys = self.stream.months(month, month)
            self._losses[until, month] = _blocks(_loss(table, self._predict(self.model(until)[0], table)), keys)
        return self._losses[until, month]

    def loss(self, until: int, month: int) -> float:
        """Mean loss of a month."""
        sums = np.array(list(self.blocks(until, month).values()))
        return float(sums[:, 0].sum() / sums[:, 1].sum())

    def check(self, until: int, month: int, rate: float = 0.01) -> DriftResult:
        """The drift check of a month."""
        booster, _, sketch = self.model(until)
        table, keys = self.stream.months(month, month)
        given = [Given(c, table[c], keys) for c in table.column_names]
        prediction = np.round(self._predict(booster, table), 6)
        given.append(Given(PREDICTION, pa.chunked_array([pa.array(prediction)]), keys))
        return check(sketch, given, rate=rate, minimum_rows=1000, seed=7)

    def _train(self, until: int) -> Any:
        import xgboost as xgb

        table, keys = self.stream.months(max(0, until - 11), until)
        held = np.array([hash_of(k) < 0.2 for k in np.unique(keys)])[np.unique(keys, return_inverse=True)[1]]
        values, label = _matrix(table), table["late"].to_numpy()
        params = {"objective": "binary:logistic", "max_depth": 4, "eta": 0.15, "nthread": 1, "verbosity": 0}
        booster = xgb.train(params, xgb.DMatrix(values[~held], label=label[~held]), 60)
        gain = booster.get_score(importance_type="total_gain")
        names = [*NUMBERS, *TEXTS]
        test = table.filter(pa.array(held))
        guess = self._predict(booster, test)
        sketch: Sketch = make(
            table, keys, block="day", features=names, label="late", predictions=(guess, keys[held]),
            importance={n: float(gain.get(f"f{k}", 0.0)) for k, n in enumerate(names)}, public=lambda column: True,
        )  # fmt: skip
        return booster, _blocks(_loss(test, guess), keys[held]), sketch

    def _predict(self, booster: Any, table: pa.Table) -> Any:
        return np.asarray(booster.inplace_predict(_matrix(table)), dtype=np.float64)


def hash_of(key: str) -> float:
    """A number in [0, 1) for a block, as the holdout rule has it."""
    import hashlib

    return int.from_bytes(hashlib.sha256(f"7:{key}".encode()).digest()[:8], "big") / 2**64


def _matrix(table: pa.Table) -> Any:
    texts = [np.frombuffer("".join(table[c].to_pylist()).encode(), dtype=np.uint8).astype(float) for c in TEXTS]
    return np.column_stack([*(table[c].to_numpy() for c in NUMBERS), *texts])


def _loss(table: pa.Table, guess: Any) -> Any:
    label, guess = table["late"].to_numpy(), np.clip(guess, 1e-7, 1 - 1e-7)
    return -np.where(label > 0.5, np.log(guess), np.log1p(-guess))


def _blocks(loss: Any, keys: Any) -> dict[str, tuple[float, int]]:
    names, index = np.unique(keys, return_inverse=True)
    sums, rows = np.bincount(index, weights=loss), np.bincount(index)
    return {str(n): (float(s), int(r)) for n, s, r in zip(names, sums, rows, strict=True)}


def month_key(month: int) -> str:
    """Partition key."""
    return f"{2020 + month // 12}-{month % 12 + 1:02d}"


def governed(world: World, spec: MonitoringSpec, *, outcomes: bool = True) -> list[int]:
    """Months after which the default rule retrains. Without outcomes only the drift checks are looked at."""
    trained, retrains, history = HISTORY - 1, [], []
    for month in range(HISTORY, MONTHS):
        drifted = None if outcomes else world.check(trained, month).share >= spec.drift_share
        judged = degradation(world.blocks(trained, month), world.model(trained)[1], spec.false_alarm_rate)
        now = Window(month_key(month), DAYS * ROWS, drifted, judged.degraded if outcomes else None,
                     judged.excess if outcomes else None, (), outcomes)  # fmt: skip
        last = month_key(retrains[-1]) if retrains else None
        answer = decide(spec, CUT, now, history, trained_to=month_key(trained), retrained=[last] if last else [])
        history.append(now)
        if answer.action == "retrain":
            retrains.append(month)
            trained, history = month, []
    return retrains


def calendar(count: int) -> list[int]:
    """`count` retrainings spread evenly over the windows."""
    windows = MONTHS - HISTORY
    return [HISTORY - 1 + round((n + 1) * windows / (count + 1)) for n in range(count)]


def mean_loss(loss: Callable[[int, int], float], first: int, months: range, retrains: list[int]) -> float:
    """Mean loss over the months with the model of the last retraining before each."""
    return float(np.mean([loss(max([r for r in retrains if r < m], default=first), m) for m in months]))
