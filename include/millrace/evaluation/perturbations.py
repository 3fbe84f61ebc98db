"""What a robustness check does to encoded rows, as they would reach the model: each perturbation a function of its
spec model (`millrace.spec.perturbations`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from millrace.core.errors import DataError
from millrace.models.metrics import Floats
from millrace.models.protocol import Matrix
from millrace.spec.perturbations import Missing, Noise, UnitChange, UnseenCategory

Random = np.random.Generator
UNSEEN = 0.0
"""The code of a category that training never had, and of an absent one (`millrace.models.encoding`)."""


def perturbed(asked: Any, rows: Matrix, random: Random) -> Matrix:
    """The rows after a perturbation. Raises DataError for a column that is no feature of the model, or of another
    kind."""
    values = rows.values.copy()
    _DO[type(asked)](asked, rows, values, random)
    return Matrix(rows.columns, values, rows.label)


def place_of(rows: Matrix, name: str, kind: Literal["number", "category"] | None = None) -> int:
    """Where a feature stands. Raises DataError."""
    features = {column.name: (place, column.kind) for place, column in enumerate(rows.columns)}
    if name not in features:
        raise DataError(f"'{name}' is no feature of the model", given=name, allowed=features)
    place, found = features[name]
    if kind is not None and kind != found:
        fit = [column.name for column in rows.columns if column.kind == kind]
        raise DataError(f"feature '{name}' is a {found}, and this perturbation is of a {kind}", given=name, allowed=fit)
    return place


def _noise(asked: Noise, rows: Matrix, values: Floats, random: Random) -> None:
    for name in asked.columns:
        place = place_of(rows, name, "number")
        known = values[:, place][np.isfinite(values[:, place])]
        spread = float(known.std()) if len(known) else 0.0
        if not spread:
            raise DataError(f"feature '{name}' does not vary in the held out rows, so noise has no size")
        values[:, place] += random.standard_normal(len(values)) * asked.scale * spread


def _missing(asked: Missing, rows: Matrix, values: Floats, random: Random) -> None:
    chosen = _share(len(values), asked.share, random)
    for name in asked.columns:
        place = place_of(rows, name)
        values[chosen, place] = np.nan if rows.columns[place].kind == "number" else UNSEEN


def _unit_change(asked: UnitChange, rows: Matrix, values: Floats, random: Random) -> None:
    for name in asked.columns:
        place = place_of(rows, name, "number")
        values[:, place] = values[:, place] * asked.factor + asked.offset


def _unseen(asked: UnseenCategory, rows: Matrix, values: Floats, random: Random) -> None:
    chosen = _share(len(values), asked.share, random)
    for name in asked.columns:
        values[chosen, place_of(rows, name, "category")] = UNSEEN


def _share(rows: int, share: float, random: Random) -> Any:
    return np.sort(random.permutation(rows)[: max(1, round(rows * share))])


_DO: dict[type, Callable[[Any, Matrix, Floats, Random], None]] = {
    Noise: _noise,
    Missing: _missing,
    UnitChange: _unit_change,
    UnseenCategory: _unseen,
}
