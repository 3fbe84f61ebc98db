"""What predicts by gradient-boosted trees: XGBoost, kept as UBJ, which holds no code."""

from __future__ import annotations

import ctypes
import json
from typing import Any, ClassVar

import numpy as np
import xgboost as xgb

from millrace.core.errors import DataError
from millrace.models.metrics import Floats
from millrace.models.protocol import Column, Matrix, Predictor, Settings
from millrace.spec.learner import XGBoostLearner

_AS_USUAL = json.dumps({
    "type": 0, "training": False, "iteration_begin": 0, "iteration_end": 0, "missing": float("nan"),
    "strict_shape": False, "cache_id": 0,
}).encode()  # fmt: skip
"""What `Booster.inplace_predict` asks for where it is told nothing."""


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
        call = getattr(getattr(xgb.core, "_LIB", None), "XGBoosterPredictFromDense", None)
        handle, features = getattr(booster, "handle", None), booster.num_features()

        def predict(rows: Matrix) -> Floats:
            found = None
            if call is not None and handle is not None and rows.values.shape[1:] == (features,):
                found = _predicted(call, handle, rows.values)
            if found is None:  # XGBoost keeps its library elsewhere by now, or has an error to tell
                found = booster.inplace_predict(rows.values)
            return np.asarray(found, dtype=np.float64)

        return predict


def _predicted(call: Any, handle: Any, values: Floats) -> Any:
    """What `Booster.inplace_predict` gives, by the function of XGBoost's library that it ends in; None where that
    fails. What it does before for data of other kinds takes twice as long as to predict one row."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    rows, columns = values.shape
    place = values.__array_interface__["data"][0]
    array = b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f8","version":3}' % (place, rows, columns)
    shape, dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
    found = ctypes.POINTER(ctypes.c_float)()
    out = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(found)
    if not rows or call(handle, array, _AS_USUAL, None, *out):
        return None
    sizes = shape[: dimensions.value]
    size = 4 * (sizes[0] if len(sizes) == 1 else int(np.prod(sizes)))
    return np.frombuffer(ctypes.string_at(found, size), np.float32).reshape(sizes)  # a copy: the next call's is there
