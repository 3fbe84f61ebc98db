"""Trees predict by XGBoost's library what its Python layer predicts, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from millrace.models.protocol import Column, Matrix, Settings
from millrace.models.xgboost import Trees
from millrace.spec.learner import XGBoostLearner

COLUMNS = tuple(Column(f"f{n}", "number") for n in range(6))
CHANCE = np.random.default_rng(7)
VALUES = np.where(CHANCE.random((300, 6)) < 0.1, np.nan, CHANCE.normal(size=(300, 6)))


def trees(objective: str, **more: Any) -> xgb.Booster:
    label = np.nan_to_num(VALUES).sum(axis=1)
    label = {"reg:squarederror": label, "binary:logistic": label > 0}.get(objective, np.arange(300) % 3)
    data = xgb.DMatrix(VALUES, label=label)
    return xgb.train({"objective": objective, "max_depth": 4, **more}, data, num_boost_round=20)


def predictor(booster: xgb.Booster) -> Any:
    weights = bytes(booster.save_raw("ubj"))
    return Trees().predictor(weights, COLUMNS, XGBoostLearner(), Settings("binary", 1, 1))


@pytest.mark.parametrize(
    ("objective", "more"),
    [("reg:squarederror", {}), ("binary:logistic", {}), ("multi:softprob", {"num_class": 3})],
)
@pytest.mark.parametrize("rows", [1, 2, 300])
def test_predictions_are_those_of_the_python_layer(objective: str, more: dict[str, Any], rows: int):
    booster = trees(objective, **more)
    stock = booster.inplace_predict(VALUES[:rows])

    found = predictor(booster)(Matrix(COLUMNS, VALUES[:rows]))

    assert found.dtype == np.float64 and found.shape == stock.shape
    assert found.tobytes() == stock.astype(np.float64).tobytes()


def test_rows_that_do_not_lie_together_are_predicted_alike():
    predict = predictor(trees("reg:squarederror"))
    apart = np.asfortranarray(VALUES)[::3]

    assert (predict(Matrix(COLUMNS, apart)) == predict(Matrix(COLUMNS, np.ascontiguousarray(apart)))).all()


def test_an_answer_stays_what_it_was_when_the_next_is_given():
    predict = predictor(trees("reg:squarederror"))
    first = predict(Matrix(COLUMNS, VALUES[:5]))
    kept = first.copy()

    predict(Matrix(COLUMNS, VALUES[5:10]))

    assert (first == kept).all()


def test_other_columns_than_the_trees_have_are_refused():
    with pytest.raises(ValueError, match="Feature shape mismatch"):
        predictor(trees("reg:squarederror"))(Matrix(COLUMNS, VALUES[:, :5]))


def test_a_library_that_lies_elsewhere_is_done_without(monkeypatch: pytest.MonkeyPatch):
    booster = trees("binary:logistic")
    stock = predictor(booster)(Matrix(COLUMNS, VALUES))
    weights = bytes(booster.save_raw("ubj"))
    called = []
    usual = xgb.Booster.inplace_predict

    class Elsewhere:
        def __getattr__(self, name: str) -> Any:
            if name == "XGBoosterPredictFromDense" and not called:
                raise AttributeError(name)
            return getattr(library, name)

    def counted(*given: Any, **named: Any) -> Any:
        called.append(1)
        return usual(*given, **named)

    library = xgb.core._LIB
    monkeypatch.setattr(xgb.core, "_LIB", Elsewhere())
    monkeypatch.setattr(xgb.Booster, "inplace_predict", counted)
    predict = Trees().predictor(weights, COLUMNS, XGBoostLearner(), Settings("binary", 1, 1))
    called.append(1)

    assert (predict(Matrix(COLUMNS, VALUES)) == stock).all()
    assert len(called) == 2
