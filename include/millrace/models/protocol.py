"""Engine: what predicts by a model's weights, and how one is found from the spec model of the learner they are of.

A learner's spec model (ours in `millrace.spec.learner`, others from the entry-point group `millrace.learners`) names in
the class variable `predicts` what predicts, as `module:class`; of one that names none, what trains predicts, too.
It is imported when a model of that kind is opened, never when a spec is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from millrace.contract import Means
from millrace.core.errors import ContractError, MillraceError
from millrace.core.imports import named
from millrace.models.device import Device
from millrace.models.metrics import Floats
from millrace.rules.labels import Task
from millrace.spec.compute import CUSTOM_CODE, PROCESS


@dataclass(frozen=True)
class Column:
    """A column of a Matrix. Codes of a `category` run from 0 (null or never seen) to `levels`."""

    name: str
    kind: Literal["number", "category"]
    levels: int = 0


@dataclass(frozen=True)
class Matrix:
    """Encoded rows: `values` (rows, columns) float64, NaN where a number is missing; `label` (rows,) in training;
    `weight` (rows,), mean 1, in a training whose rows do not all count alike."""

    columns: tuple[Column, ...]
    values: Floats
    label: Floats = field(default_factory=lambda: np.empty(0))
    weight: Floats = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[Any]) -> Matrix:
        """The rows of a mask or an index."""
        label, weight = (part[rows] if len(part) else part for part in (self.label, self.weight))
        return Matrix(self.columns, self.values[rows], label, weight)

    def of_known_class(self) -> Matrix:
        """The rows whose label a loss can be measured against: without the classes (-1) that training never had."""
        known = self.label >= 0
        return self if known.all() else self.take(known)


Predictor = Callable[[Matrix], Floats]


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


class Engine(Protocol):
    """What predicts by the weights of one kind of learner."""

    file: ClassVar[str]
    """Name of the weights file; its ending says the format, `.ubj`, `.safetensors` or `.onnx`."""
    media_type: ClassVar[str]

    def predictor(self, weights: bytes, columns: tuple[Column, ...], params: Any, settings: Settings) -> Predictor:
        """What predicts by these weights, read once, for any number of calls with rows of these columns: probability of
        label 1 (binary) or the value (regression) of each row, shape (rows,); probability of each class (multiclass),
        shape (rows, classes). Always on the CPU, which is where models serve."""


def permit_code(means: Means, what: str = "the model's own code (trainer.py)") -> None:
    """Raise ContractError unless a request's means let custom code be executed: in a pod, or where the environment
    allows the task's process."""
    if means.profile == PROCESS and means.limits.get(CUSTOM_CODE) != PROCESS:
        raise ContractError(
            f"{what} may not be executed in the task's process here",
            given=means.profile,
            allowed="a compute profile of pods, or an environment with 'custom_code: process'",
            next_step="Give this job a compute profile in the environment's file (docs/trainer.md)",
        )


def engine_of(params: BaseModel, code: Code | None = None) -> Engine:
    """Import what predicts by a learner's weights; with the code that it executes, for one that does.

    Raises MillraceError when it is not there.
    """
    engine: Engine = imported(params, "predicts" if hasattr(params, "predicts") else "engine", code)
    return engine


def imported(params: BaseModel, by: str, code: Code | None) -> Any:
    """An object of the class that a learner's spec model names `by` a class variable. Raises MillraceError when it is
    not there."""
    path = getattr(params, by, None)
    kind = getattr(params, "kind", type(params).__name__)
    if not isinstance(path, str) or path.count(":") != 1:
        raise MillraceError(f"learner '{kind}' names no engine", given=path, allowed=f"{by} = 'module:class'")
    try:
        engine = named(path)
    except ImportError as err:
        raise MillraceError(
            f"the engine of learner '{kind}' cannot be imported: {err}",
            given=path,
            next_step="Install the package that brings this learner where jobs run",
        ) from err
    return engine() if code is None else engine(code)
