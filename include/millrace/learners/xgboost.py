"""XGBoost: trains gradient-boosted trees."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import xgboost as xgb

from millrace.core import interruption
from millrace.core.errors import MillraceError
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import Report, Weights, check_finite, segment_bounds
from millrace.models.device import Device, NoGPU
from millrace.models.metrics import Point
from millrace.models.protocol import Matrix, Settings
from millrace.models.xgboost import Trees
from millrace.spec.learner import XGBoostLearner

_OBJECTIVE = {
    "binary": ("binary:logistic", "logloss"),
    "multiclass": ("multi:softprob", "mlogloss"),
    "regression": ("reg:squarederror", "rmse"),
}


@contextmanager
def _memory() -> Iterator[None]:
    """XGBoost's own error for a lack of memory becomes a MemoryError."""
    try:
        yield
    except xgb.core.XGBoostError as err:
        if any(words in str(err) for words in ("out of memory", "bad_alloc", "MemoryAllocation")):
            raise MemoryError("XGBoost ran out of memory") from err
        raise


class XGBoost(Trees):
    """Histogram trees. Sampling draws anew from `seed + segment`, and every segment starts from stored bytes.

    Asked to leave, a training without sampling keeps every round it has; one with sampling can only go on from whole
    segments, so it ends the present one first where its pace lets it, and loses its rounds otherwise.
    """

    devices: ClassVar[tuple[Device, ...]] = ("cpu", "cuda")
    several: ClassVar[bool] = False

    @_memory()
    def fit(
        self,
        train: Matrix,
        holdout: Matrix,
        params: XGBoostLearner,
        settings: Settings,
        checkpoints: Checkpoints,
        report: Report,
    ) -> Weights:
        """Train; see `Learner.fit`. Raises NoGPU, MillraceError for a build without GPU, MemoryError."""
        native = _native(params, settings)
        metric = native["eval_metric"]
        if settings.task == "multiclass":
            holdout = holdout.of_known_class()
        weight = train.weight if len(train.weight) else None
        seen = xgb.QuantileDMatrix(train.values, label=train.label, weight=weight, nthread=settings.threads)
        held = xgb.QuantileDMatrix(holdout.values, label=holdout.label, nthread=settings.threads, ref=seen)
        last = checkpoints.last()
        data, curve, started = (last.data, last.curve, last.part) if last else (b"", [], 0)
        report(curve)
        with interruption.watched():
            for segment, (first, stop) in enumerate(segment_bounds(params.rounds, params.segments), start=1):
                if last and segment <= last.segment:
                    continue
                first, started = max(first, started), 0
                whole = params.subsample < 1 or params.colsample_bytree < 1
                watch = _Watch(stop - first, whole, settings.device)
                measured: dict[str, dict[str, list[float]]] = {}
                booster = xgb.train(
                    {**native, "seed": settings.seed + segment},
                    seen,
                    stop - first,
                    # Always through bytes: a resumed training then does exactly what an undisturbed one does.
                    xgb_model=xgb.Booster(model_file=bytearray(data)) if data else None,
                    evals=[(seen, "train"), (held, "holdout")],
                    evals_result=measured,
                    verbose_eval=False,
                    callbacks=[watch],
                )
                points: list[Point] = [
                    (first + i + 1, {side: _loss(metric, values[metric][i]) for side, values in measured.items()})
                    for i in range(watch.done)
                ]
                check_finite(points)
                if watch.done < stop - first:
                    if not watch.whole:
                        curve = [*curve, *points]
                        checkpoints.save(segment - 1, bytes(booster.save_raw("ubj")), curve, part=curve[-1][0])
                    raise _interrupted(curve, params.rounds)
                data, curve = bytes(booster.save_raw("ubj")), [*curve, *points]
                checkpoints.save(segment, data, curve)
                report(points)
                if interruption.asked() and stop < params.rounds:
                    raise _interrupted(curve, params.rounds)
        return Weights(data, curve)


class _Watch(xgb.callback.TrainingCallback):
    """Counts rounds, and stops when the process was asked to leave: a `whole` segment only where it cannot be ended
    in time at its pace so far. Raises NoGPU where XGBoost took the CPU instead, which it does with a warning only."""

    def __init__(self, rounds: int, whole: bool, device: Device) -> None:
        super().__init__()
        self.rounds, self.whole, self.device = rounds, whole, device
        self.done, self.began = 0, time.monotonic()

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """True ends the training after this round."""
        self.done += 1
        if self.device == "cuda" and self.done == 1 and _device_of(model) == "cpu":
            raise NoGPU(
                "XGBoost finds no GPU that it can use", next_step="Does the node's driver fit the image's CUDA?"
            )
        if not interruption.asked():
            return False
        pace = (time.monotonic() - self.began) / self.done
        return not self.whole or pace * (self.rounds - self.done) > interruption.seconds_left()


def _native(params: XGBoostLearner, settings: Settings) -> dict[str, Any]:
    """XGBoost's own parameters. Raises MillraceError for a GPU with a build that knows none."""
    objective, metric = _OBJECTIVE[settings.task]
    if settings.device == "cuda" and not xgb.build_info().get("USE_CUDA"):
        raise MillraceError(
            "this build of XGBoost knows no GPU", next_step="Use an image with the package xgboost, not xgboost-cpu"
        )
    native = {
        "objective": objective,
        "eval_metric": metric,
        "tree_method": "hist",
        "device": settings.device,
        "nthread": settings.threads,
        "verbosity": 0,
        **params.model_dump(exclude={"kind", "rounds", "segments"}),
    }
    return {**native, "num_class": settings.classes} if settings.task == "multiclass" else native


def _device_of(booster: Any) -> str:
    return str(json.loads(booster.save_config())["learner"]["generic_param"]["device"])


def _interrupted(curve: list[Point], rounds: int) -> interruption.Interrupted:
    done = curve[-1][0] if curve else 0
    return interruption.Interrupted(f"asked to leave during training; {done} of {rounds} rounds are kept")


def _loss(metric: str, value: float) -> float:
    """Mean loss of the row: XGBoost reports the root of the mean squared error."""
    return value**2 if metric == "rmse" else value
