"""Parts of a duel's frozen rows: declared slices, calibration, money. Each as values per row, summed by blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from millrace.core.errors import DataError
from millrace.evaluation.checks.frozen import Frozen, Side
from millrace.models.metrics import Floats
from millrace.rules.labels import Task
from millrace.spec.duel import Costs, Slices
from millrace.spec.model_checks import GROUP

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 200
"""Most values of a column that slices are made of."""
BINS = 10
"""Of predicted probabilities, equally filled, in which a calibration error is measured."""
Mask = NDArray[np.bool_]


def slices(asked: Slices, frozen: Frozen) -> Iterator[tuple[str, str, Mask]]:
    """Each slice: what makes it, its name, and its rows. Raises DataError for a column that makes none."""
    names = np.unique(frozen.blocks)
    yield "newest", f"the newest {min(asked.newest, len(names))} blocks", np.isin(frozen.blocks, names[-asked.newest :])
    for column in asked.columns:
        for value, rows in _values(frozen.rows, column):
            yield column, f"{column} {value}", rows
    if asked.calendar is not None:
        stamps = _calendar(frozen.blocks, asked.calendar)
        for stamp in np.unique(stamps):
            yield asked.calendar, f"{asked.calendar} {stamp}", stamps == stamp


def _values(rows: pa.Table, column: str) -> Iterator[tuple[str, Mask]]:
    import pyarrow as pa
    import pyarrow.types as types

    name = column if column in rows.column_names else GROUP.format(column)
    if name not in rows.column_names:
        raise DataError(f"no column '{column}' in the training set makes slices", allowed=rows.column_names)
    values = rows[name]
    kind = values.type.value_type if types.is_dictionary(values.type) else values.type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or types.is_integer(kind)):
        raise DataError(f"column '{column}' has type {kind}: slices are made of text, booleans or whole numbers")
    coded = values.cast(pa.string()).combine_chunks().fill_null("null").dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    if len(coded.dictionary) > MOST:
        raise DataError(
            f"column '{column}' has {len(coded.dictionary)} values: too many slices", allowed=f"at most {MOST}"
        )
    codes = coded.indices.to_numpy()
    for value, code in sorted((str(value), code) for code, value in enumerate(coded.dictionary.to_pylist())):
        yield value, codes == code


def _calendar(blocks: NDArray[np.str_], unit: str) -> NDArray[np.str_]:
    """The week's Monday, the month or the quarter of each block, whose keys are moments on the pipeline's clocks."""
    days = blocks.astype("datetime64[D]")
    if unit == "week":
        return (days - ((days.view(np.int64) + 3) % 7).astype("timedelta64[D]")).astype(str)
    months = days.astype("datetime64[M]")
    if unit == "month":
        return months.astype(str)
    years, month = months.astype("datetime64[Y]"), months.view(np.int64) % 12
    return np.char.add(np.char.add(years.astype(str), "-Q"), (month // 3 + 1).astype(str))


def miscalibration(task: Task, side: Side) -> Floats:
    """What each row adds to the expected calibration error, whose mean it is: the residual of the probability (that of
    label 1, or of the likeliest class), signed as its bin's sum is."""
    if task == "multiclass":
        probability = side.prediction.max(axis=1)
        hit = (side.prediction.argmax(axis=1) == side.label).astype(np.float64)
    else:
        probability, hit = side.prediction, side.label
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, probability, side="right")
    residual = probability - hit
    sums = np.bincount(bins, weights=residual, minlength=len(edges) + 1)
    return np.asarray(residual * np.where(sums < 0, -1.0, 1.0)[bins], dtype=np.float64)


def money(costs: Costs, task: Task, side: Side, actual: Any) -> Floats:
    """Cost of what a model decides about each row, given the label as it stands in the rows."""
    if task == "regression":
        assert costs.over is not None and costs.under is not None
        error = side.prediction - side.label
        return np.asarray(np.where(error > 0, costs.over * error, -costs.under * error), dtype=np.float64)
    names = ["0", "1"] if task == "binary" else [str(name) for name in side.classes]
    shares = np.stack([1 - side.prediction, side.prediction], axis=1) if task == "binary" else side.prediction
    table = np.array([[costs.matrix.get(row, {}).get(name, 0.0) for name in names] for row in names])
    decided = (shares @ table).argmin(axis=1)
    given = [str(int(value)) for value in side.label] if task == "binary" else [str(v) for v in actual.to_pylist()]
    kinds, place = np.unique(given, return_inverse=True)  # of which a model may not know one
    real = np.array([[costs.matrix.get(str(row), {}).get(name, 0.0) for name in names] for row in kinds])
    return np.asarray(real[place.ravel(), decided], dtype=np.float64)
