"""SHAP values (Lundberg & Lee 2017): how much each feature moves each prediction, in the model's raw score.

Of trees they are exact, by XGBoost's own contributions (TreeSHAP, Lundberg et al. 2018). Of every other learner they
are sampled by the `shap` package's PermutationExplainer, against rows of the held out ones as background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from millrace.models.files import Model
from millrace.models.metrics import CLIP, Floats, log_odds
from millrace.models.protocol import Matrix
from millrace.rules.labels import Task
from millrace.spec.learner import XGBoostLearner

if TYPE_CHECKING:
    import pyarrow as pa

UNIT: dict[Task, str] = {
    "binary": "log-odds",
    "multiclass": "raw scores of classes",
    "regression": "units of the label",
}
"""What contributions are measured in."""
ROWS, SAMPLED_ROWS = 1000, 200
"""Most rows that are explained, exactly and by sampling."""
BACKGROUND, PERMUTATIONS = 50, 4
"""Rows that stand for a feature that is not known, and orders in which features become known, there and back."""
_GAP = 1e-3
"""How far contributions may be from adding up, as a share of the largest raw score or of 1: float32 sums of trees."""


@dataclass(frozen=True)
class Attributions:
    """`values`, shape (rows, outputs, features): one output, or one for each class. `whole`: whether they and the base
    add up to the raw scores, as SHAP values do."""

    features: tuple[str, ...]
    values: Floats
    method: str
    whole: bool

    @property
    def strengths(self) -> Floats:
        """Mean size of each row's contributions over outputs, shape (rows, features)."""
        return np.asarray(np.abs(self.values).mean(axis=1))


def explained(models: list[Model], rows: int) -> int:
    """How many rows can be explained alike by all of these models."""
    return min(rows, *(ROWS if _trees(model) else SAMPLED_ROWS for model in models))


def attributions(model: Model, rows: pa.Table, background: pa.Table, *, seed: int) -> Attributions:
    """Explain rows. `background` are rows to draw those from that stand for unknown values, where it is sampled."""
    encoded = model.card.encoder.encode(rows)
    found, base, raw, method = (
        _of_trees(model, encoded) if _trees(model)
        else _of_any(model, encoded, model.card.encoder.encode(background), seed)
    )  # fmt: skip
    gap = np.abs(found.sum(axis=2) + base - raw).max()
    whole = bool(gap <= _GAP * max(1.0, float(np.abs(raw).max())))
    return Attributions(tuple(column.name for column in encoded.columns), found, method, whole)


def _trees(model: Model) -> bool:
    return isinstance(model.params, XGBoostLearner)


def _of_trees(model: Model, rows: Matrix) -> tuple[Floats, Floats, Floats, str]:
    import xgboost as xgb

    booster = xgb.Booster({"nthread": model.card.threads, "device": "cpu"}, model_file=bytearray(model.data))
    data = xgb.DMatrix(rows.values, nthread=model.card.threads)
    found = np.asarray(booster.predict(data, pred_contribs=True), dtype=np.float64)
    raw = np.asarray(booster.predict(data, output_margin=True), dtype=np.float64)
    if found.ndim == 2:
        found, raw = found[:, None, :], raw[:, None]
    return found[:, :, :-1], found[:, :, -1], raw, "tree_shap"


def _of_any(model: Model, rows: Matrix, background: Matrix, seed: int) -> tuple[Floats, Floats, Floats, str]:
    with _interpreted():
        import shap
    task = model.card.task
    random = np.random.Generator(np.random.PCG64(seed))
    chosen = np.sort(random.permutation(len(background))[:BACKGROUND])

    def raw(values: Any) -> Floats:
        prediction = model.predictor(Matrix(rows.columns, np.asarray(values, dtype=np.float64)))
        if task == "binary":
            return log_odds(prediction)
        return np.log(np.clip(prediction, CLIP, 1)) if task == "multiclass" else prediction

    masker = shap.maskers.Independent(background.values[chosen], max_samples=BACKGROUND)
    explainer = shap.PermutationExplainer(raw, masker, seed=seed)
    evaluations = PERMUTATIONS * (2 * len(rows.columns) + 1)
    # One call of the model for each order, there and back.
    made = explainer(rows.values, max_evals=evaluations, batch_size=2 * len(rows.columns) + 1, silent=True)
    found, base = np.asarray(made.values, dtype=np.float64), np.asarray(made.base_values, dtype=np.float64)
    given = raw(rows.values)
    if found.ndim == 2:
        return found[:, None, :], base.reshape(-1, 1), given[:, None], "permutation_shap"
    return np.swapaxes(found, 1, 2), base, given, "permutation_shap"


@contextmanager
def _interpreted() -> Iterator[None]:
    """Let `shap` be imported without numba's compiler: compiling takes eleven seconds of each process, and running its
    small loops as Python one."""
    try:
        import numba
    except ImportError:  # newer versions of shap do without
        yield
        return
    settings: Any = numba.config
    before, settings.DISABLE_JIT = settings.DISABLE_JIT, True
    try:
        yield
    finally:
        settings.DISABLE_JIT = before


Statistic = Callable[[Floats], Floats]


def rank_correlation(features: int) -> Statistic:
    """Spearman's correlation of two sets of strengths: of each line of (samples, 2 x features)."""
    from scipy.stats import rankdata

    def correlation(drawn: Floats) -> Floats:
        one, other = (rankdata(part, axis=1) for part in (drawn[:, :features], drawn[:, features : 2 * features]))
        one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
            return np.asarray((one * other).sum(axis=1) / size)

    return correlation


def top_overlap(features: int, top: int) -> Statistic:
    """Share of the `top` strongest of the second set among those of the first, of each line as above."""
    top = min(top, features)

    def overlap(drawn: Floats) -> Floats:
        one, other = (np.argsort(-part, axis=1, kind="stable")[:, :top]
                      for part in (drawn[:, :features], drawn[:, features : 2 * features]))  # fmt: skip
        return np.asarray((one[:, :, None] == other[:, None, :]).any(axis=1).mean(axis=1))

    return overlap
