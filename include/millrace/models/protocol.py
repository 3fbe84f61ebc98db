"""Learner: what every learner does, and how one is found from its spec model.

A spec model (ours in `millrace.spec.pipeline`, others from the entry-point group `millrace.learners`) names its
engine in the class variable `engine`, as `module:class`. It is imported when it is used, never when a spec is read.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from millrace.contract import Means
from millrace.core.errors import ContractError, DataError, MillraceError
from millrace.models.checkpoints import Checkpoints, Point
from millrace.models.device import Device
from millrace.models.metrics import Floats
from millrace.rules.labels import Task
from millrace.spec.compute import CUSTOM_CODE, PROCESS

Report = Callable[[list[Point]], None]


@dataclass(frozen=True)
class Column:
    """A column of a Matrix. Codes of a `category` run from 0 (null or never seen) to `levels`."""

    name: str
    kind: Literal["number", "category"]
    levels: int = 0


@dataclass(frozen=True)
class Matrix:
    """Encoded rows: `values` (rows, columns) float64, NaN where a number is missing; `label` (rows,) in training."""

    columns: tuple[Column, ...]
    values: Floats
    label: Floats = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[Any]) -> Matrix:
        """The rows of a mask or an index."""
        return Matrix(self.columns, self.values[rows], self.label[rows] if len(self.label) else self.label)

    def of_known_class(self) -> Matrix:
        """The rows whose label a loss can be measured against: without the classes (-1) that training never had."""
        known = self.label >= 0
        return self if known.all() else self.take(known)


Predictor = Callable[[Matrix], Floats]


@dataclass(frozen=True)
class Weights:
    """A trained model's bytes, in the engine's native format, and its learning curve."""

    data: bytes
    curve: list[Point]


@dataclass(frozen=True)
class Settings:
    """What a training depends on beside the data and the learner's own parameters. `classes`: how many a multiclass
    label has, 0 for another task. `device` and `gpus` are what the request's means gave it; on the CPU the bytes are
    the same everywhere, on a GPU they are close (docs/gpu.md)."""

    task: Task
    seed: int
    threads: int
    classes: int = 0
    device: Device = "cpu"
    gpus: int = 0


@dataclass(frozen=True)
class Code:
    """A pipeline's own code, which its learner executes: text, and the name that messages give the file."""

    text: str
    name: str


class Learner(Protocol):
    """A learner's engine. Bytes depend on data, params and settings alone; each segment uses `seed + segment`."""

    file: ClassVar[str]
    """Name of the weights file; its ending says the format, `.ubj` or `.safetensors`."""
    media_type: ClassVar[str]
    devices: ClassVar[tuple[Device, ...]] = ("cpu",)
    """What it can train on. A learner that leaves this out trains on the CPU."""
    several: ClassVar[bool] = False
    """Whether it trains on several GPUs together."""

    def fit(
        self, train: Matrix, holdout: Matrix, params: Any, settings: Settings, checkpoints: Checkpoints, report: Report
    ) -> Weights:
        """Train in `params.segments` fixed segments, with a checkpoint after each; go on from the last complete one.

        `holdout` is only measured, for the learning curve: nothing may be chosen by it. `report` gets every point of
        the curve once, those of restored segments too and first. An engine that wants to keep more than whole segments
        when it must leave runs inside `leaving.watched` and raises `leaving.Interrupted`.
        """

    def predictor(self, weights: bytes, columns: tuple[Column, ...], params: Any, settings: Settings) -> Predictor:
        """What predicts by these weights, read once, for any number of calls with rows of these columns: probability of
        label 1 (binary) or the value (regression) of each row, shape (rows,); probability of each class (multiclass),
        shape (rows, classes). Always on the CPU, which is where models serve."""


def permit_code(means: Means) -> None:
    """Raise ContractError unless a request's means let custom code be executed: in a pod, or where the environment
    allows the task's process."""
    if means.profile == PROCESS and means.limits.get(CUSTOM_CODE) != PROCESS:
        raise ContractError(
            "the model's own code (trainer.py) may not be executed in the task's process here",
            given=means.profile,
            allowed="a compute profile of pods, or an environment with 'custom_code: process'",
            next_step="Give this job a compute profile in the environment's file (docs/trainer.md)",
        )


def engine_of(params: BaseModel, code: Code | None = None) -> Learner:
    """Import the engine that a learner's spec model names; with the code that it executes, for one that does.

    Raises MillraceError when it is not there.
    """
    path = getattr(params, "engine", None)
    kind = getattr(params, "kind", type(params).__name__)
    if not isinstance(path, str) or path.count(":") != 1:
        raise MillraceError(f"learner '{kind}' names no engine", given=path, allowed="engine = 'module:class'")
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as err:
        raise MillraceError(
            f"the engine of learner '{kind}' cannot be imported: {err}",
            given=path,
            next_step="Install the package that brings this learner where jobs run",
        ) from err
    engine: Learner = found() if code is None else found(code)
    return engine


def segment_bounds(total: int, segments: int) -> list[tuple[int, int]]:
    """Cut `total` rounds or epochs into `segments` parts (first, after last); fewer where there are fewer rounds."""
    cuts = [total * i // segments for i in range(segments + 1)]
    return [(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]


def check_finite(points: list[Point]) -> None:
    """Raise DataError when a loss is not a number: the training has diverged and cannot recover."""
    for step, values in points:
        for side, value in values.items():
            if not math.isfinite(value):
                raise DataError(
                    f"the training diverged: the {side} loss is not a number after {step} rounds or epochs",
                    next_step="Lower the learner's learning_rate, or bring the label of a regression nearer to 1",
                )
