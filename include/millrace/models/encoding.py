"""Encoder: from Arrow columns to the numeric Matrix that every learner gets. Learned on training rows, kept as JSON.

A number is null or NaN, which both mean missing, or lies within float32, in which learners compute.

Text and booleans become codes of the sorted categories of the training rows. XGBoost takes the codes as numbers:
on the 2013 flights (3 origins, 16 carriers, 105 destinations, 100 rounds) they lose nothing against its native
categories (log loss 0.4738 and 0.4738 on held out days, 0.5152 and 0.5159 on later months) at half the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from millrace.core.errors import DataError
from millrace.models.classes import Classes, places
from millrace.models.metrics import Floats
from millrace.models.protocol import Column, Matrix
from millrace.rules.labels import Task, absent, check
from millrace.rules.numbers import LARGEST

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["number", "text", "boolean"]


class Feature(BaseModel):
    """One feature: name, type as in the training set, and the categories seen there, sorted (text and boolean)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    type: str
    categories: tuple[str, ...] = ()


class Encoder(BaseModel):
    """The features of a model, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[Feature, ...]

    @classmethod
    def learn(cls, table: pa.Table, names: list[str]) -> Encoder:
        """Read kinds and categories from training rows. Raises DataError for a type that no learner takes."""
        features = []
        for name in names:
            column = table[name]
            kind = _kind(name, column.type)
            categories = (
                ()
                if kind == "number"
                else tuple(sorted(v for v in _text(column).unique().to_pylist() if v is not None))
            )
            features.append(Feature(name=name, kind=kind, type=str(column.type), categories=categories))
        return cls(features=tuple(features))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of every Matrix that it makes."""
        return tuple(
            Column(f.name, "number" if f.kind == "number" else "category", len(f.categories)) for f in self.features
        )

    def encode(self, table: pa.Table) -> Matrix:
        """Encode rows. Null numbers become NaN; null and unseen categories get code 0.

        Raises DataError naming a column that is missing, has changed its kind, or holds numbers that are infinite or
        beyond float32.
        """
        values = np.empty((table.num_rows, len(self.features)), dtype=np.float64)
        for position, feature in enumerate(self.features):
            values[:, position] = self._column(table, feature)
        return Matrix(self.columns, values)

    def _column(self, table: pa.Table, feature: Feature) -> Floats:
        import pyarrow as pa
        import pyarrow.compute as pc

        if feature.name not in table.column_names:
            raise DataError(
                f"feature '{feature.name}' is missing",
                given=feature.name,
                allowed=table.column_names,
                next_step="The transform no longer makes it: add the column again, or train a new model",
            )
        column = table[feature.name]
        # A column of nulls alone may have lost its type on the way; it is missing values of any kind.
        if not pa.types.is_null(column.type) and (kind := _kind(feature.name, column.type)) != feature.kind:
            raise DataError(
                f"feature '{feature.name}' was {feature.kind} ({feature.type}) in training and is {kind} now",
                given=str(column.type),
                next_step="Give the column its former type in transform.sql, or train a new model",
            )
        if feature.kind == "number":
            return _within(_numpy(_numbers(column).fill_null(float("nan"))), feature.name)
        codes = pc.index_in(_text(column), value_set=pa.array(feature.categories, pa.string()))
        return _numpy(pc.add(codes.cast(pa.float64()), 1.0).fill_null(0.0))


def labels(table: pa.Table, column: str, task: Task, classes: Classes = (), *, public: bool = False) -> Floats:
    """The label as float64, of a multiclass task as places among `classes`, -1 for a class that is none of them.

    Raises DataError for labels that are absent, or that the task cannot have; their values are named where the column
    is public.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column not in table.column_names:
        raise DataError("the label is missing", given=column, allowed=table.column_names)
    values = table[column]
    if lacking := pc.sum(absent(values)).as_py():
        raise DataError(f"label '{column}' is null in {lacking} rows", next_step="Build the training set again")
    check(values, column, task, public=public)
    if task == "multiclass":
        return places(values, column, classes)
    return _numpy(values.cast(pa.float64(), safe=False))


def _within(numbers: Floats, name: str) -> Floats:
    """The numbers. Raises DataError for any that no learner can take, which would be infinite to it."""
    if beyond := int((np.abs(numbers) > LARGEST).sum()):
        raise DataError(
            f"feature '{name}' is infinite or beyond float32 in {beyond} of {len(numbers)} rows",
            given=name,
            allowed=f"numbers up to {LARGEST:.8g}, and null where one is missing",
            next_step="Bound it in transform.sql, or make it NULL there",
        )
    return numbers


def _kind(name: str, kind: Any) -> Kind:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_boolean(kind):
        return "boolean"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    raise DataError(
        f"column '{name}' has type {kind}, which no learner takes",
        allowed="numbers, text, booleans",
        next_step="Derive numbers from it in transform.sql (an hour, a number of days), or leave it out of the service",
    )


def _numbers(column: Any) -> Any:
    """As float64. A decimal becomes the nearest one, which Arrow's own cast misses by a bit here and there, so that
    3.961 is the number that a request sends as 3.961."""
    import pyarrow as pa
    import pyarrow.types as types

    if types.is_decimal(column.type):
        column = column.cast(pa.string())
    return column.cast(pa.float64(), safe=False)


def _text(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(pa.string())


def _numpy(column: Any) -> Floats:
    return np.asarray(column.to_numpy(), dtype=np.float64)
