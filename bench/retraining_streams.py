"""Ten kinds of stream, months of days, and a ridge regression on them that is fitted from sums of each day."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

MONTHS, HISTORY, DAYS, ROWS, WIDTH = 30, 6, 30, 60, 8
"""Months of a stream and of the first training, days a month, rows a day, columns with the constant one."""
KINDS = (
    "still", "still, weak memory", "still, strong memory", "still, hard months", "still, inputs move",
    "sudden", "gradual", "wandering", "recurring", "seasonal",
)  # fmt: skip
STILL = KINDS[:5]
"""Kinds whose concept stays: there is nothing to gain but what more rows teach."""
HELD = 0.2
"""Share of days that no model is trained on, as the holdout has it."""
PENALTY = 1.0
HALF_LIFE = 3.0


@dataclass
class Stream:
    """A regression whose noise has variance 1. Each day has an effect of its own on every coefficient.

    How far the concept moves is drawn per stream: a move costs a model that stays behind between 2 and 20 % of its
    loss.
    """

    kind: str
    seed: int

    @cached_property
    def sums(self) -> tuple[Any, Any, Any]:
        """Of each day: X'X (days, WIDTH, WIDTH), X'y (days, WIDTH), y'y (days,)."""
        rng = np.random.default_rng([self.seed, KINDS.index(self.kind)])
        days = MONTHS * DAYS
        month = np.arange(days) // DAYS
        memory = {"still": 0.0, "still, strong memory": 0.8}.get(self.kind, 0.4)
        effects = _remembering(rng, days, WIDTH, memory) * np.r_[0.2, np.full(WIDTH - 1, 0.1)]
        coefficients = rng.normal(size=WIDTH) + self._moves(rng, np.arange(days) / DAYS) + effects
        inputs = rng.normal(size=(days, ROWS, WIDTH))
        inputs[:, :, 0] = 1.0
        if self.kind == "still, inputs move":
            inputs[:, :, 1:] += (np.cumsum(rng.normal(size=(MONTHS, WIDTH - 1)), axis=0) * 0.3)[month][:, None]
        noise = np.ones(days)
        if self.kind == "still, hard months":
            noise = np.exp(0.2 * rng.normal(size=MONTHS))[month]
        label = np.einsum("drc,dc->dr", inputs, coefficients) + noise[:, None] * rng.normal(size=(days, ROWS))
        return inputs.transpose(0, 2, 1) @ inputs, np.einsum("drc,dr->dc", inputs, label), (label**2).sum(axis=1)

    def _moves(self, rng: np.random.Generator, time: Any) -> Any:
        """What is added to the coefficients at each time in months, shape (days, WIDTH)."""
        way = rng.normal(size=WIDTH)
        way *= np.sqrt(np.exp(rng.uniform(np.log(0.02), np.log(0.2)))) / np.linalg.norm(way)
        start = rng.integers(HISTORY + 2, MONTHS - 6)
        if self.kind == "sudden":
            return np.outer(time >= start, way)
        if self.kind == "gradual":
            return np.outer(np.clip((time - start + 4) / 10, 0, 1), 1.5 * way)
        if self.kind == "wandering":
            steps = rng.normal(size=(MONTHS, WIDTH)) * np.linalg.norm(way) / np.sqrt(WIDTH) / 2
            return np.cumsum(steps, axis=0)[time.astype(int)]
        if self.kind == "recurring":
            return np.outer((time >= start - 6) & ((time - start) // 4 % 2 == 0), 1.2 * way)
        if self.kind == "seasonal":
            other = np.roll(way, 3)
            return np.outer(np.sin(2 * np.pi * time / 12), way) + np.outer(np.cos(2 * np.pi * time / 12), other)
        return np.zeros((len(time), WIDTH))


def _remembering(rng: np.random.Generator, days: int, width: int, memory: float) -> Any:
    """First-order autoregressions of variance 1, shape (days, width)."""
    level = rng.normal(size=(days, width))
    for day in range(1, days):
        level[day] = memory * level[day - 1] + np.sqrt(1 - memory**2) * level[day]
    return level


class Ridge:
    """Models of a stream, each fitted once. A model is (last month, whether recent months count for more)."""

    def __init__(self, stream: Stream) -> None:
        self.squares, self.products, self.labels = stream.sums
        rng = np.random.default_rng(stream.seed + 1_000_003)
        self.trains = rng.random(MONTHS * DAYS) >= HELD
        self.month = np.arange(MONTHS * DAYS) // DAYS
        self._models: dict[Any, Any] = {}
        self._losses: dict[Any, Any] = {}

    def model(self, until: int, recent: bool) -> Any:
        """Coefficients after the months up to `until`."""
        if (until, recent) not in self._models:
            self._models[until, recent] = self._fit(self.trains & (self.month <= until), until, recent)
        return self._models[until, recent]

    def losses(self, until: int, recent: bool, month: int) -> Any:
        """Sum of squared errors of each day of a month."""
        key = until, recent, month
        if key not in self._losses:
            self._losses[key] = self._errors(self.model(until, recent), self.month == month)
        return self._losses[key]

    def held(self, until: int, recent: bool) -> Any:
        """Sum of squared errors of each held out day up to `until`."""
        return self._errors(self.model(until, recent), ~self.trains & (self.month <= until))

    def probe(self, month: int, recent: bool, run: int) -> Any:
        """Sum of squared errors of each day of `month` under two probes, each trained on the months before and every
        other run of `run` days of the month, and measured on the days that it did not see."""
        key = "probe", month, recent, run
        if key not in self._losses:
            now = self.month == month
            turn = np.arange(len(now)) // run % 2 == 0
            found = np.empty(DAYS)
            for side in (turn, ~turn):
                weights = self._fit(self.trains & (self.month < month) | (now & side), month, recent)
                found[~side[now]] = self._errors(weights, now & ~side)
            self._losses[key] = found
        return self._losses[key]

    def _fit(self, days: Any, until: int, recent: bool) -> Any:
        weight = np.exp2((self.month[days] - until) / HALF_LIFE) if recent else np.ones(days.sum())
        squares = np.tensordot(weight, self.squares[days], 1) + PENALTY * np.eye(WIDTH)
        return np.linalg.solve(squares, weight @ self.products[days])

    def _errors(self, weights: Any, days: Any) -> Any:
        quadratic = np.einsum("dij,i,j->d", self.squares[days], weights, weights)
        return self.labels[days] - 2 * self.products[days] @ weights + quadratic
