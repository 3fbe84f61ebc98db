"""Custom: a pipeline's own code as a learner; see `millrace.models.custom`."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import save

from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import Report, Weights
from millrace.models.custom import KINDS, CustomCode, determined, shown
from millrace.models.device import Device
from millrace.models.metrics import Point, row_losses
from millrace.models.protocol import Matrix, Settings
from millrace.spec.learner import CustomLearner


class Custom(CustomCode):
    """Calls `fit` of trainer.py. A training has no checkpoint: one that was interrupted begins again."""

    devices: ClassVar[tuple[Device, ...]] = ("cpu", "cuda")
    several: ClassVar[bool] = False

    def fit(
        self,
        train: Matrix,
        holdout: Matrix,
        params: CustomLearner,
        settings: Settings,
        checkpoints: Checkpoints,
        report: Report,
    ) -> Weights:
        """Train; see `Learner.fit`. The held out rows are measured here, once, and the code never sees them.

        Raises SpecError for text that is no trainer, CodeError for an exception in it and for weights or predictions
        that cannot be used.
        """
        report([])
        with self.blamed("fit"):
            function = self.function("fit", settings)
            with determined(settings):
                found = function(shown(train), copy.deepcopy(params.params), settings)
        data = save(self._kept(found))
        if settings.task == "multiclass":
            holdout = holdout.of_known_class()
        point, predict = {}, self.predictor(data, train.columns, params, settings)
        for side, rows in (("train", train), ("holdout", holdout)):
            if len(rows):
                point[side] = math.fsum(row_losses(settings.task, rows.label, predict(rows))) / len(rows)
        curve: list[Point] = [(1, point)]
        report(curve)
        return Weights(data, curve)

    def _kept(self, weights: Any) -> dict[str, Any]:
        """Weights as they are saved, sorted by name. Raises CodeError for what is no array of finite numbers."""
        asked = "a dict of numpy arrays by name"
        if not isinstance(weights, dict) or not weights:
            raise self.wrong("fit", "fit returned no weights", given=type(weights).__name__, allowed=asked)
        kept = {}
        for name, value in weights.items():
            if not isinstance(name, str) or name == "__metadata__":
                raise self.wrong("fit", "a name of weights is not usable", given=name, allowed=asked)
            if not isinstance(value, np.ndarray | np.generic):
                raise self.wrong("fit", f"weights '{name}' are no numpy array", given=type(value).__name__,
                                  allowed=asked)  # fmt: skip
            array = np.asarray(value)
            if array.dtype.kind not in KINDS or array.dtype.itemsize > 8:
                raise self.wrong("fit", f"weights '{name}' are not numbers that can be saved", given=str(array.dtype),
                                  allowed="booleans, integers and floats of at most 64 bits")  # fmt: skip
            if not np.isfinite(array).all():
                raise self.wrong("fit", f"weights '{name}' hold {_count(array)} of {array.size} values that are NaN "
                                  "or infinite", next_step="A missing number in the rows is NaN: fill it, or leave "
                                  "its row out")  # fmt: skip
            kept[name] = array.astype(array.dtype.newbyteorder("="), order="C")
        return dict(sorted(kept.items()))


def _count(array: Any) -> int:
    return int((~np.isfinite(array)).sum())
