"""Rows as a request has them, encoded as the batch encodes its columns: the same IEEE values, without Arrow.

A request's few rows would wait a millisecond and more for Arrow tables to be made of them. What a value becomes is said
by the model's encoder alone: the type that the feature had in training, and the categories seen there.
"""

from __future__ import annotations

import difflib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from millrace.core.errors import DataError
from millrace.models.encoding import Encoder, Feature
from millrace.models.protocol import Matrix
from millrace.rules.numbers import LARGEST

Read = Callable[[Any], float]
_FLOATS = {float}
_SHOWN = 80
"""Characters of a given value that a message repeats."""


class RowEncoder:
    """Encodes rows for one model. Safe to use from several threads."""

    def __init__(self, encoder: Encoder) -> None:
        self.columns = encoder.columns
        self.names = [feature.name for feature in encoder.features]
        self._known = frozenset(self.names)
        self._features = encoder.features
        self._read = [_reader(feature) for feature in encoder.features]
        self._given = _taker(self.names)
        self._doubles = all(feature.type == "double" for feature in encoder.features)

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Matrix:
        """Encode rows of feature -> value; null and NaN are missing, a category never seen is like none.

        Raises DataError naming row and field of a value that the feature cannot have, a field that is missing, and one
        that the model does not know.
        """
        values = np.empty((len(rows), len(self._features)), dtype=np.float64)
        unread = False
        for number, row in enumerate(rows):
            if row.keys() != self._known:
                self._refuse(number, row)
            given = self._given(row)
            if self._doubles and set(map(type, given)) == _FLOATS:
                values[number], unread = given, True
            else:
                values[number] = self._read_row(number, given)
        if unread and not (np.abs(values) <= LARGEST).all():  # one is NaN, or beyond
            for number, row in enumerate(rows):
                values[number] = self._read_row(number, self._given(row))
        return Matrix(self.columns, values)

    def _read_row(self, number: int, given: Sequence[Any]) -> list[float]:
        try:
            return [read(value) for read, value in zip(self._read, given, strict=True)]
        except (ValueError, OverflowError, TypeError):
            for feature, read, value in zip(self._features, self._read, given, strict=True):
                try:
                    read(value)
                except (ValueError, OverflowError, TypeError):
                    raise DataError(
                        f"row {number}: '{feature.name}' cannot be this value",
                        where=feature.name,
                        given=repr(value)[:_SHOWN],
                        allowed=_allowed(feature),
                    ) from None
            raise

    def _refuse(self, number: int, row: Mapping[str, Any]) -> None:
        if missing := [name for name in self.names if name not in row]:
            raise DataError(f"row {number} lacks '{missing[0]}'", where=missing[0],
                            given=sorted(str(name)[:_SHOWN] for name in row)[:20],
                            next_step="Say null where there is no value")  # fmt: skip
        unknown = next(str(name) for name in row if name not in self._known)[:_SHOWN]
        near = difflib.get_close_matches(unknown, self.names, 1)
        raise DataError(
            f"row {number} has a field that the model does not know", where=unknown, given=unknown,
            allowed=self.names, next_step=f"Did you mean '{near[0]}'?" if near else None,
        )  # fmt: skip


def _taker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """The values of these names in their order."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda row: [row[name] for name in names]


def _reader(feature: Feature) -> Read:
    if feature.kind == "number":
        return _number(feature.type)
    codes = {name: 1.0 + place for place, name in enumerate(feature.categories)}

    def text(value: Any) -> float:
        if value is None:
            return 0.0
        if not isinstance(value, str):
            raise TypeError
        return codes.get(value, 0.0)

    def boolean(value: Any) -> float:
        if value is None:
            return 0.0
        if not isinstance(value, bool):
            raise TypeError
        return codes.get("true" if value else "false", 0.0)

    return text if feature.kind == "text" else boolean


def whole_numbers(kind: str) -> tuple[int, int]:
    """The least and the most that a column of whole numbers holds, such as int32 or uint8."""
    bits = int(kind.removeprefix("u").removeprefix("int"))
    return (0, 2**bits - 1) if kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _number(kind: str) -> Read:
    whole = kind.startswith(("int", "uint"))
    least, most = whole_numbers(kind) if whole else (0, 0)
    # A column of fewer bits has rounded its values before the batch sees them.
    rounded = {"float": struct.Struct("f"), "halffloat": struct.Struct("e")}.get(kind)

    def number(value: Any) -> float:
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError
        if whole:
            if not least <= (exact := int(value)) <= most or exact != value:
                raise ValueError
            return float(exact)
        found = float(value)
        if math.isnan(found):
            return math.nan
        if rounded is not None:
            (found,) = rounded.unpack(rounded.pack(found))
        if abs(found) > LARGEST:
            raise ValueError
        return found

    return number


def _allowed(feature: Feature) -> str:
    if feature.kind == "number":
        return f"a number ({feature.type}) up to {LARGEST:.8g}, or null"
    return "text, or null" if feature.kind == "text" else "true, false, or null"
