"""Served predictions as rows: what records of the prediction log say, typed as features and models are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.contract.answered import Answered
from millrace.models.classes import PROBABILITY, Class, Classes
from millrace.rules.numbers import LARGEST
from millrace.spec import PipelineSpec
from millrace.spec.serving import FEATURE, RESERVED, TIME

UTC_TIME = pa.timestamp("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
ORDER = ("asked", "request_id", "role", "version", "row")
"""By which rows stand; no two rows have all of these alike."""


class Rows:
    """Collects answers, each as a row per row of its request, in columns of fixed types.

    `known` are the types of the pipeline's features columns and of the models' features; `classes` those of each
    model, by its digest. A value that cannot be of its column's type is null.
    """

    def __init__(self, spec: PipelineSpec, known: Mapping[str, pa.DataType], classes: Mapping[str, Classes]) -> None:
        assert spec.label is not None and spec.serving is not None
        self._spec, self._known, self._classes = spec, known, classes
        self._multiclass = spec.label.task == "multiclass"
        self._kept_out = frozenset(spec.serving.log.leave_out)
        self._texts = any(isinstance(each, str) for found in classes.values() for each in found) or not classes
        self._columns: dict[str, list[Any]] = {}
        self._types: dict[str, pa.DataType] = {}
        self._rows = 0
        self.unanswered = 0
        """Rows without a prediction that is a number."""
        for name, kind in self._fixed():
            self._columns[name], self._types[name] = [], kind
        for name in spec.features.entity:
            self._columns[name], self._types[name] = [], self._type(name)

    def add(self, answer: Answered) -> None:
        """Take the rows of one answer."""
        for row, given in enumerate(answer.predictions):
            prediction, shares = self._prediction(answer, given)
            self.unanswered += prediction is None
            values = {
                "request_id": answer.id, "row": row, "asked": answer.at, "version": answer.version,
                "model_digest": answer.model, "role": answer.role, "generation": answer.generation,
                "unit": answer.unit, "caller": answer.caller, "found": _at(answer.found, row),
                "latency_ms": _finite(answer.ms), "kept": answer.columns is not None, "prediction": prediction,
            }  # fmt: skip
            values |= {PROBABILITY.format(n): share for n, share in enumerate(shares)}
            values |= {k: v for k, v in (_at(answer.entities, row) or {}).items() if k not in RESERVED}
            values |= {TIME.format(view): moment for view, moment in (_at(answer.times, row) or {}).items()}
            if answer.columns is not None and (kept := _at(answer.rows, row)) is not None:
                pairs = zip(answer.columns, kept, strict=False)
                values |= {FEATURE.format(name): v for name, v in pairs if name not in self._kept_out}
            self._put(values)

    def table(self) -> pa.Table:
        """All rows, in an order that depends on them alone."""
        found = pa.table(
            {name: _array(self._padded(name), self._types[name]) for name in self._names()},
        )
        return found.sort_by([(name, "ascending") for name in ORDER]).combine_chunks()

    def _fixed(self) -> list[tuple[str, pa.DataType]]:
        prediction = (_TEXT if self._texts else _WHOLE) if self._multiclass else _REAL
        return [
            ("request_id", _TEXT), ("row", _WHOLE), ("asked", UTC_TIME), ("version", _WHOLE),
            ("model_digest", _TEXT), ("role", _TEXT), ("generation", _WHOLE), ("unit", _TEXT), ("caller", _TEXT),
            ("found", _TEXT), ("latency_ms", _REAL), ("kept", pa.bool_()), ("prediction", prediction),
        ]  # fmt: skip

    def _names(self) -> Iterator[str]:
        """Fixed columns and entity keys, then what records brought, in the order of their names."""
        first = [name for name, _ in self._fixed()] + list(self._spec.features.entity)
        yield from first
        later = self._columns.keys() - {*first}
        shares = sorted((n for n in later if n.startswith("probability_")), key=lambda n: int(n.rpartition("_")[2]))
        yield from shares
        yield from sorted(later - {*shares})

    def _put(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            column = self._columns.setdefault(name, [])
            column += [None] * (self._rows - len(column))
            column.append(value)
            if name not in self._types:
                self._types[name] = self._type(name)
        self._rows += 1

    def _padded(self, name: str) -> list[Any]:
        column = self._columns[name]
        return column + [None] * (self._rows - len(column))

    def _type(self, name: str) -> pa.DataType:
        if name.startswith(TIME.format("")):
            return UTC_TIME
        if name.startswith("probability_"):
            return _REAL
        kind = self._known.get(name.removeprefix(FEATURE.format("")))
        return _TEXT if kind is None else stored_as(kind)

    def _prediction(self, answer: Answered, given: Any) -> tuple[Class | float | None, list[float]]:
        if not self._multiclass:
            return _usable(given), []
        if not isinstance(given, list):  # the constant, which is a class itself
            good = isinstance(given, str) if self._texts else _usable(given) is not None
            return (given if self._texts or not good else int(given)) if good else None, []
        classes = self._classes.get(answer.model or "", ())
        shares = [_usable(each) for each in given]
        known = [each for each in shares if each is not None]
        if len(known) != len(shares) or len(shares) != len(classes):
            return None, []
        return classes[int(np.argmax(known))], known


def stored_as(kind: pa.DataType) -> pa.DataType:
    """The type of a served column whose values were of this type before they were JSON."""
    is_ = pa.types
    if is_.is_timestamp(kind):
        return UTC_TIME
    if is_.is_decimal(kind):
        return _REAL
    plain = is_.is_integer(kind) or is_.is_floating(kind) or is_.is_boolean(kind) or is_.is_date(kind)
    return kind if plain else _TEXT


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    read = _reader(kind)
    return pa.array([None if value is None else read(value) for value in values], kind)


def _reader(kind: pa.DataType) -> Callable[[Any], Any]:
    """What makes a JSON value one of a column; None of what cannot be."""
    is_ = pa.types
    if is_.is_boolean(kind):
        return lambda value: value if isinstance(value, bool) else None
    if is_.is_floating(kind):
        return _finite
    if is_.is_integer(kind):
        bits = kind.bit_width
        least, most = (0, 2**bits) if is_.is_unsigned_integer(kind) else (-(2 ** (bits - 1)), 2 ** (bits - 1))

        def whole(value: Any) -> int | None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                return None
            return int(value) if int(value) == value and least <= value < most else None

        return whole
    if is_.is_timestamp(kind):
        return _moment
    if is_.is_date(kind):
        return _day
    return lambda value: value if isinstance(value, str) else str(value)


def _moment(value: Any) -> int | None:
    """Microseconds since 1970 of these, or of an ISO time, which without a zone is UTC."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return None
        return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62 else None


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(value)
    except (ValueError, TypeError):
        return None


def _finite(value: Any) -> float | None:
    """NaN and infinities mean what null does: there is no value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 2**1023 and math.isfinite(value) else None


def _usable(value: Any) -> float | None:
    found = _finite(value)
    return found if found is not None and abs(found) <= LARGEST else None


def _at(values: Any, row: int) -> Any:
    return values[row] if values is not None and row < len(values) else None
