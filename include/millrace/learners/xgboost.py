"""XGBoost: gradient-boosted trees, kept as UBJ, which holds no code."""

from __future__ import annotations

import os
from typing import Any, ClassVar

# Threads that spin while they wait make two threads on busy cores fifteen times slower; read when libgomp loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import xgboost as xgb

from millrace.learners.checkpoints import Checkpoints
from millrace.learners.losses import Floats
from millrace.learners.protocol import Matrix, Report, Settings, Weights, check_finite, segment_bounds
from millrace.spec.learner import XGBoostLearner

_OBJECTIVE = {
    "binary": ("binary:logistic", "logloss"),
    "multiclass": ("multi:softprob", "mlogloss"),
    "regression": ("reg:squarederror", "rmse"),
}


class XGBoost:
    """Histogram trees. Sampling draws anew from `seed + segment`, and every segment starts from stored bytes."""

    file: ClassVar[str] = "weights.ubj"
    media_type: ClassVar[str] = "application/ubjson"

    def fit(
        self,
        train: Matrix,
        holdout: Matrix,
        params: XGBoostLearner,
        settings: Settings,
        checkpoints: Checkpoints,
        report: Report,
    ) -> Weights:
        """Train; see `Learner.fit`."""
        objective, metric = _OBJECTIVE[settings.task]
        native: dict[str, Any] = {
            "objective": objective,
            "eval_metric": metric,
            "tree_method": "hist",
            "device": "cpu",
            "nthread": settings.threads,
            "verbosity": 0,
            **params.model_dump(exclude={"kind", "rounds", "segments"}),
        }
        if settings.task == "multiclass":
            native["num_class"] = settings.classes
            holdout = holdout.of_known_class()
        seen = xgb.QuantileDMatrix(train.values, label=train.label, nthread=settings.threads)
        held = xgb.QuantileDMatrix(holdout.values, label=holdout.label, nthread=settings.threads, ref=seen)
        last = checkpoints.last()
        data, curve = (last.data, last.curve) if last else (b"", [])
        report(curve)
        for segment, (first, stop) in enumerate(segment_bounds(params.rounds, params.segments), start=1):
            if last and segment <= last.segment:
                continue
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
            )
            data = bytes(booster.save_raw("ubj"))
            points = [
                (first + i + 1, {side: _loss(metric, values[metric][i]) for side, values in measured.items()})
                for i in range(stop - first)
            ]
            check_finite(points)
            curve = [*curve, *points]
            checkpoints.save(segment, data, curve)
            report(points)
        return Weights(data, curve)

    def predict(self, weights: bytes, rows: Matrix, params: XGBoostLearner, settings: Settings) -> Floats:
        """Predict; see `Learner.predict`."""
        booster = xgb.Booster({"nthread": settings.threads}, model_file=bytearray(weights))
        return np.asarray(booster.inplace_predict(rows.values), dtype=np.float64)


def _loss(metric: str, value: float) -> float:
    """Mean loss of the row: XGBoost reports the root of the mean squared error."""
    return value**2 if metric == "rmse" else value
