"""What every model check is given, and what it gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from millrace.contract import Check, Means
from millrace.evaluation.measure import Measured
from millrace.models.files import Model
from millrace.models.metrics import Floats, rounded
from millrace.store import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class TrainingSet:
    """The Snapshot that a model was trained on, and rows of it: the champion's has its keys and event time only."""

    digest: str
    rows: pa.Table


@dataclass(frozen=True)
class Subject:
    """A challenger with what was measured of it, the champion where there is one, and the seed of what is drawn.

    `objects` and `place`: the store and the prefix of the challenger's files. `public` says of a column whether its
    values may be named. `means` are those of the request: what custom code may run. `weight` is that of each measured
    row, shape (rows,), where the challenger was trained with weights: what it is to do well on.
    """

    model: Model
    measured: Measured
    champion: Model | None
    seed: int
    objects: ObjectStore | None = None
    place: str = ""
    public: Callable[[str], bool] = lambda column: False
    means: Means = field(default_factory=Means)
    training_set: TrainingSet | None = None
    champion_training_set: TrainingSet | None = None
    weight: Floats | None = None


@dataclass(frozen=True)
class Judged:
    """What one model check says: Checks of the verdict, and facts of the outcome by the check's type.

    `files` are kept beside the evaluation document and belong to the outcome. `plots` (PNG), `times` and `notes` are
    observed: never digested, as they may differ from run to run.
    """

    checks: tuple[Check, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    plots: Mapping[str, bytes] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A number that a check bounds, with its 95 % interval by blocks where there is one, and the rows behind it.

    All checks give their numbers in this form, so that they can stand side by side without knowing the check.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    min: float | None = None
    max: float | None = None
    rows: int | None = None

    @property
    def passed(self) -> bool:
        """Whether the number lies within its bounds; one that is not a number does not."""
        return (
            math.isfinite(self.value)
            and (self.min is None or self.value >= self.min)
            and (self.max is None or self.value <= self.max)
        )

    def check(self, name: str) -> Check:
        """The Check of the verdict, in words."""
        bounds = [f"{word} {bound:g}" for word, bound in (("at least", self.min), ("at most", self.max))
                  if bound is not None]  # fmt: skip
        around = "" if self.low is None or self.high is None else f" (95 %: {self.low:.4g} to {self.high:.4g})"
        on = "" if self.rows is None else f" on {self.rows} rows"
        value = f"{self.value:.4g}" if math.isfinite(self.value) else "not a number"
        text = f"{name}: {self.name} is {value}{around}{on}; it must be {' and '.join(bounds)}"
        return Check(name=name, passed=self.passed, message=text)

    def fact(self) -> dict[str, Any]:
        """As an outcome carries it. Eight digits: the last of float32 sums differ between vector units."""

        def number(value: float | None) -> float | None:
            return rounded(value, 8) if value is not None and math.isfinite(value) else None

        return {"name": self.name, "value": number(self.value), "low": number(self.low), "high": number(self.high),
                "min": self.min, "max": self.max, "rows": self.rows, "passed": self.passed}  # fmt: skip


def figured(check_type: str, name: str, figures: list[Figure], facts: Mapping[str, Any] | None = None) -> Judged:
    """What a check says whose verdict is that of its figures; `facts` are its other facts."""
    said = {"name": name, "figures": [figure.fact() for figure in figures], **(facts or {})}
    return Judged(tuple(figure.check(name) for figure in figures), {check_type: said})
