"""Learner: what trains, and how one is found from its spec model, which names it in the class variable `engine`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from millrace.core.errors import DataError
from millrace.learners.checkpoints import Checkpoints
from millrace.models.device import Device
from millrace.models.metrics import Point
from millrace.models.protocol import Code, Engine, Matrix, Settings, imported

Report = Callable[[list[Point]], None]


@dataclass(frozen=True)
class Weights:
    """A trained model's bytes, in the engine's native format, and its learning curve."""

    data: bytes
    curve: list[Point]


class Learner(Engine, Protocol):
    """A learner. Bytes depend on data, params and settings alone; each segment uses `seed + segment`.

    It predicts, too, as the engine does that opens its models.
    """

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
        when it must leave runs inside `interruption.watched` and raises `interruption.Interrupted`.
        """


def learner_of(params: BaseModel, code: Code | None = None) -> Learner:
    """Import the learner that a spec model names; with the code that it executes, for one that does.

    Raises MillraceError when it is not there.
    """
    learner: Learner = imported(params, "engine", code)
    return learner


def segment_bounds(total: int, segments: int) -> list[tuple[int, int]]:
    """Divide `total` rounds or epochs into `segments` parts (first, after last); fewer where there are fewer rounds."""
    bounds = [total * i // segments for i in range(segments + 1)]
    return [(a, b) for a, b in zip(bounds, bounds[1:], strict=False) if b > a]


def check_finite(points: list[Point]) -> None:
    """Raise DataError when a loss is not a number: the training has diverged and cannot recover."""
    for step, values in points:
        for side, value in values.items():
            if not math.isfinite(value):
                raise DataError(
                    f"the training diverged: the {side} loss is not a number after {step} rounds or epochs",
                    next_step="Lower the learner's learning_rate, or bring the label of a regression nearer to 1",
                )
