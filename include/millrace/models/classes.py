"""Labels that name one of several classes, and the losses and metrics of probabilities for them.

A class is a text or an integer; a model keeps the sorted classes of its training rows. Inside a learner a label is the
place of its class among them, -1 for a class that no training row had: no model can be right about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from millrace.core.errors import DataError
from millrace.rules.labels import check

if TYPE_CHECKING:
    import pyarrow as pa

Class = str | int
Classes = tuple[Class, ...]
Floats = NDArray[np.float64]

MOST = 100
"""Most classes of a label: each is a column of every prediction, and an identifier is no label."""
PROBABILITY = "probability_{}"
"""Name of the column with the probability of the class in that place of the model's classes."""


def classes_of(table: pa.Table, column: str) -> Classes:
    """The classes of a training's rows, sorted; null is none. Raises DataError for another type, one class alone, or
    too many."""
    if column not in table.column_names:
        raise DataError("the label is missing", given=column, allowed=table.column_names)
    values = table[column]
    check(values, column, "multiclass")
    found = tuple(sorted(v for v in values.unique().to_pylist() if v is not None))
    if len(found) < 2:
        raise DataError(f"label '{column}' has one class only in the training rows")
    if len(found) > MOST:
        raise DataError(
            f"label '{column}' has {len(found)} classes in the training rows",
            allowed=f"at most {MOST}",
            next_step="Is it an identifier, or a number to predict (task: regression)?",
        )
    return found


def places(values: pa.ChunkedArray, column: str, classes: Classes) -> Floats:
    """Place of each row's class among the classes, -1 where it is none of them, shape (rows,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    check(values, column, "multiclass")
    texts = any(isinstance(c, str) for c in classes)
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if texts == pa.types.is_integer(kind):
        raise DataError(
            f"label '{column}' was {'text' if texts else 'an integer'} in training",
            given=str(kind),
            next_step="Give the label its former type in transform.sql, or train a new model",
        )
    wanted = pa.string() if texts else pa.int64()
    found = pc.index_in(values.cast(wanted), value_set=pa.array(classes, wanted))
    return np.asarray(found.fill_null(-1).to_numpy(), dtype=np.float64)


def likeliest(probabilities: Floats, classes: Classes) -> pa.Array:
    """The most probable class of each row, the first of equals, as text or integer."""
    import pyarrow as pa

    kind = pa.string() if any(isinstance(c, str) for c in classes) else pa.int64()
    return pa.array(classes, kind).take(pa.array(probabilities.argmax(axis=1)))


def probabilities_of(table: pa.Table, classes: Classes) -> Floats:
    """Predictions as score writes them, shape (rows, classes)."""
    columns = [table[PROBABILITY.format(n)].to_numpy() for n in range(len(classes))]
    return np.asarray(np.stack(columns, axis=1), dtype=np.float64)


def log_losses(y: Floats, p: Floats, clip: float) -> Floats:
    """Log loss in nats of each row; a class that the model does not know has the probability `clip`."""
    known = y >= 0
    given = p[np.arange(len(y)), np.where(known, y, 0).astype(np.int64)]
    return np.asarray(-np.log(np.where(known, np.clip(given, clip, 1.0), clip)), dtype=np.float64)


def block_counts(y: Floats, p: Floats, index: NDArray[np.int64], blocks: int) -> dict[str, Any]:
    """Rows by block and class, shape (blocks, classes + 1): `given`, `guessed`, and `right`, the hits. The last
    class stands for all that the model does not know."""
    kinds = p.shape[1] + 1
    label = np.where(y >= 0, y, kinds - 1).astype(np.int64)
    guess = p.argmax(axis=1)

    def count(of: NDArray[np.int64], where: NDArray[np.bool_] | slice = slice(None)) -> Floats:
        flat = np.bincount((index * kinds + of)[where], minlength=blocks * kinds)
        return flat.reshape(blocks, kinds).astype(np.float64)

    return {"given": count(label), "guessed": count(guess), "right": count(label, label == guess)}


def from_counts(rows: Floats, drawn: Callable[[str], Floats]) -> dict[str, Floats]:
    """accuracy, and macro_f1: the mean over the classes that occur, as label or as prediction, of
    2 right / (given + guessed). As in scikit-learn, but that unknown classes are one."""
    right, both = drawn("right"), drawn("given") + drawn("guessed")
    occurs = both > 0
    scores = np.where(occurs, 2 * right / np.where(occurs, both, 1.0), 0.0)
    return {"accuracy": right.sum(axis=1) / rows, "macro_f1": scores.sum(axis=1) / occurs.sum(axis=1)}
