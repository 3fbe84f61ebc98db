"""Sketch of the reference: what a check must know of the data a model was trained on, in a bounded size.

Made at training and stored with the model, so that a check never reads the training data again. Per column and block
of time it holds counts: of at most `BINS` bins on fixed edges for a number, of at most `CATEGORIES` categories for a
text or boolean. Blocks are kept apart because they, not rows, are what a threshold is resampled from.

Size: at most 400 blocks x 52 counts a number and 400 x 102 a category, so 0.2 MB a column at the very most; the 22
columns of a year of flights take 0.7 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from millrace.drift.blocks import BLOCKS, Block, Counts, block_for, index_of

Floats = NDArray[np.float64]
Role = Literal["feature", "label", "prediction"]
PREDICTION = "(prediction)"
"""Name of the prediction's column; no column of a table has brackets."""

BINS = 50
CATEGORIES = 100
KNOWN = 10_000
"""Most categories that are remembered as seen, beyond which new ones are not told from rare ones."""
RARE = 0.005
"""Share of the rows below which a category is folded into the others, and a number at an end may be an outlier."""
LARGEST = 1e150
"""What larger numbers count as, infinity too: their squares could not be added."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnSketch(_Frozen):
    """One column. `counts` is blocks x (bins + 1): each bin or kept category, then the folded ones (always 0 for a
    number); `missing` is per block. A number has `edges` between its bins, the mean of each bin in `points`, and its
    range; a category column has `categories` (kept) and `known` (hashes of all), None where there were too many.
    `names` are texts only where the column is public, hashes otherwise."""

    name: str
    role: Role
    public: bool
    edges: tuple[float, ...] = ()
    points: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] | None = None
    known: tuple[str, ...] | None = None
    counts: tuple[tuple[int, ...], ...]
    missing: tuple[int, ...]

    @property
    def numeric(self) -> bool:
        """Whether it is a number."""
        return self.categories is None

    @property
    def bins(self) -> int:
        """Number of bins or kept categories."""
        return len(self.points) if self.numeric else len(self.categories or ())

    def hidden(self) -> ColumnSketch:
        """The same column with nothing to show: for one that was public at training and is not any more."""
        if not self.public:
            return self
        names = None if self.categories is None else tuple(hashed(self.name, c) for c in self.categories)
        return self.model_copy(update={"public": False, "categories": names})

    def table(self) -> Floats:
        """`counts` as an array, shape (blocks, bins + 1)."""
        return np.array(self.counts, dtype=np.float64).reshape(len(self.missing), self.bins + 1)


class Part(_Frozen):
    """Columns over the same blocks, in order of time. `every` block of the time between is there, or `scattered`."""

    blocks: tuple[str, ...]
    scattered: bool
    columns: tuple[ColumnSketch, ...]


class Sketch(_Frozen):
    """The reference of a model. `importance` is the rise of the held out loss without a feature, 0 or more."""

    version: Literal[1] = 1
    block: Block
    rows: int
    parts: tuple[Part, ...]
    importance: dict[str, float]

    def find(self, name: str) -> ColumnSketch | None:
        """The column of that name."""
        return next((c for part in self.parts for c in part.columns if c.name == name), None)

    def shown(self, public: Callable[[str], bool]) -> Sketch:
        """The sketch as it may be shown: columns that are not public now are hidden. The label says it for the
        prediction too."""
        label = next((c.name for part in self.parts for c in part.columns if c.role == "label"), "")
        parts = [
            part.model_copy(
                update={
                    "columns": tuple(
                        c if public(label if c.role == "prediction" else c.name) else c.hidden() for c in part.columns
                    )
                }
            )
            for part in self.parts
        ]
        return self.model_copy(update={"parts": tuple(parts)})

    @property
    def names(self) -> list[str]:
        """Names of the feature columns."""
        return [c.name for part in self.parts for c in part.columns if c.role == "feature"]


def make(
    table: pa.Table,
    keys: NDArray[np.str_],
    *,
    block: Block,
    features: list[str],
    label: str,
    predictions: tuple[NDArray[Any], NDArray[np.str_]],
    importance: dict[str, float],
    public: Callable[[str], bool],
) -> Sketch:
    """Sketch a training set with its blocks, and the model's predictions on the blocks it held out."""
    block = block_for(keys, block)
    names, index = index_of(keys, block)
    recent = index >= len(names) - BLOCKS  # only weeks can be more: then the newest
    if not recent.all():
        table, index = table.filter(pa.array(recent)), index[recent] - (len(names) - BLOCKS)
        names = names[-BLOCKS:]
    roles: list[tuple[str, Role]] = [*((name, "feature") for name in features), (label, "label")]
    columns = tuple(_column(name, role, table[name], index, len(names), public(name)) for name, role in roles)
    values, held = predictions
    held_names, held_index = index_of(held, block)
    if values.dtype.kind == "f":
        values = np.round(values, 6)  # the last bits of a CPU's vector unit end here
    rounded = pa.chunked_array([pa.array(values)])
    seen = _column(PREDICTION, "prediction", rounded, held_index, len(held_names), public(label))
    total = sum(max(v, 0.0) for v in importance.values())
    weights = {k: float(f"{max(v, 0.0) / total:.4g}") if total else 0.0 for k, v in importance.items()}
    return Sketch(
        block=block,
        rows=table.num_rows,
        parts=(
            Part(blocks=tuple(names), scattered=False, columns=columns),
            Part(blocks=tuple(held_names), scattered=True, columns=(seen,)),
        ),
        importance=weights,
    )


def _column(name: str, role: Role, values: pa.ChunkedArray, index: Counts, blocks: int, public: bool) -> ColumnSketch:
    if is_number(values.type):
        numbers = numbers_of(values)
        gone = np.isnan(numbers)
        made = ColumnSketch(name=name, role=role, public=public, counts=(), missing=(), **_binned(numbers[~gone]))
        codes = np.where(gone, -1, np.searchsorted(np.array(made.edges), numbers, side="right"))
    else:
        texts, places = texts_of(values)
        made = _categories(name, role, texts, places, public)
        codes = codes_of(made, texts, places)[0]
    return made.model_copy(update=_tabulate(codes, index, blocks, made.bins))


def _tabulate(codes: Counts, index: Counts, blocks: int, bins: int) -> dict[str, Any]:
    flat = np.bincount(index * (bins + 2) + codes + 1, minlength=blocks * (bins + 2)).reshape(blocks, bins + 2)
    return {"counts": tuple(map(tuple, flat[:, 1:].tolist())), "missing": tuple(flat[:, 0].tolist())}


def _binned(values: Floats) -> dict[str, Any]:
    """Edges, points and range: one bin a value where there are few values, quantile bins otherwise."""
    if not len(values):
        return {}
    ordered = np.sort(values)
    low, high = float(ordered[0]), float(ordered[-1])
    ordered = _fenced(ordered)
    distinct = np.concatenate([ordered[:1], ordered[1:][ordered[1:] > ordered[:-1]]])
    if len(distinct) <= BINS:
        edges, points = (distinct[1:] + distinct[:-1]) / 2, distinct
    else:
        edges = np.unique(ordered[[len(ordered) * k // BINS for k in range(1, BINS)]])
        edges = edges[edges > ordered[0]]
        bounds = [0, *np.searchsorted(ordered, edges, side="left").tolist(), len(ordered)]
        points = np.array([ordered[a:b].mean() for a, b in zip(bounds, bounds[1:], strict=False)])
    return {
        "edges": tuple(map(float, edges)),
        "points": tuple(float(f"{p:.10g}") for p in points),
        "low": low,
        "high": high,
    }


def _fenced(ordered: Floats) -> Floats:
    """Sorted numbers with outliers drawn in, so that none makes the deviation so large that nothing else counts.

    No number lies further from the inner 99 % of them than these are wide; at least one on either side is left out of
    them. Where these are one value, rare others give the width: the inner 90 % of those.
    """
    outer = min(max(1, int(RARE * len(ordered))), (len(ordered) - 1) // 2)
    low, high = ordered[outer], ordered[-1 - outer]
    if low == high:
        others = ordered[ordered != low]
        if len(others):
            low, high = min(low, others[len(others) // 20]), max(high, others[-1 - len(others) // 20])
    return np.asarray(np.clip(ordered, low - (high - low), high + (high - low)))


def _categories(name: str, role: Role, texts: list[str], places: Counts, public: bool) -> ColumnSketch:
    counts = np.bincount(places[places >= 0], minlength=len(texts))
    ranked = sorted(range(len(texts)), key=lambda n: (-int(counts[n]), texts[n]))
    kept = [n for n in ranked if counts[n] >= RARE * max(1, int(counts.sum()))][:CATEGORIES]
    return ColumnSketch(
        name=name,
        role=role,
        public=public,
        categories=tuple(texts[n] if public else hashed(name, texts[n]) for n in sorted(kept, key=lambda n: texts[n])),
        known=tuple(sorted(hashed(name, t) for t in texts)) if len(texts) <= KNOWN else None,
        counts=(),
        missing=(),
    )


def codes_of(column: ColumnSketch, texts: list[str], places: Counts) -> tuple[Counts, NDArray[np.bool_]]:
    """Code of each row of a category column: -1 missing, its place among the kept, or `bins` for all others; and
    whether the reference never had it (False everywhere where that is not known)."""
    place = {text: n for n, text in enumerate(column.categories or ())}
    known = None if column.known is None else set(column.known)
    hashes = [hashed(column.name, t) for t in texts]
    codes = np.array([place.get(t if column.public else h, column.bins) for t, h in zip(texts, hashes, strict=True)]
                     + [-1], dtype=np.int64)  # fmt: skip
    new = np.array([known is not None and h not in known for h in hashes] + [False])
    return codes[places], new[places]


def is_number(kind: pa.DataType) -> bool:
    """Whether a column's type is a number; text, booleans and the like are categories."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def numbers_of(values: pa.ChunkedArray) -> Floats:
    """As float64 within `LARGEST`; NaN where null."""
    numbers = np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    return np.clip(numbers, -LARGEST, LARGEST)


def texts_of(values: pa.ChunkedArray) -> tuple[list[str], Counts]:
    """The texts of a column and the place of each row among them, -1 where null."""
    encoded = values.cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks)
    index = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return encoded.dictionary.to_pylist(), index


def hashed(column: str, text: str) -> str:
    """What stands for a category in a sketch: 64 bits of SHA-256 of column and text."""
    return hashlib.sha256(f"{column}\0{text}".encode()).hexdigest()[:16]
