"""What predicts by gradient-boosted trees: XGBoost, kept as UBJ, which holds no code."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import xgboost as xgb

from millrace.core.errors import DataError
from millrace.models.metrics import Floats
from millrace.models.protocol import Column, Matrix, Predictor, Settings
from millrace.spec.learner import XGBoostLearner


class Trees:
    """Predicts by trees."""

    file: ClassVar[str] = "weights.ubj"
    media_type: ClassVar[str] = "application/ubjson"

    def predictor(
        self, weights: bytes, columns: tuple[Column, ...], params: XGBoostLearner, settings: Settings
    ) -> Predictor:
        """See `Engine.predictor`."""
        try:
            booster = xgb.Booster({"nthread": settings.threads, "device": "cpu"}, model_file=bytearray(weights))
        except xgb.core.XGBoostError as err:
            raise DataError("XGBoost cannot read these weights", given=self.file,
                            next_step="Train the model again") from err  # fmt: skip

        def predict(rows: Matrix) -> Floats:
            return np.asarray(booster.inplace_predict(rows.values), dtype=np.float64)

        return predict
