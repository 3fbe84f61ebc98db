"""Items of a check: each column's values, and where any are missing how many, as counts of both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.core.errors import DataError
from millrace.drift.blocks import Counts
from millrace.drift.distances import CATEGORIES, NUMBERS, jensenshannon, norm_of, wasserstein, whole
from millrace.drift.sketch import LARGEST, RARE, ColumnSketch, Floats, codes_of, is_number, numbers_of, texts_of

PER_CATEGORY = 20
"""Rows that a window must be expected to have of a category, or it is folded into the others."""
PAGE_ROWS = 20_000
"""Most rows of a side that Evidently gets, and that the score is computed from."""
FOREIGN = 0.9
"""Share of never seen categories or of numbers out of range from which on a column is broken."""
LOST = 0.5
"""Rise of the share of missing values from which on a column is broken."""


@dataclass(frozen=True)
class Item:
    """What is compared. `blocks` (blocks, bins) of the reference, `after` (bins) of the window; `points` for numbers.

    For a number the first and last bin of `after`, `points` are what lies below and above the reference's range, no
    further from it than the reference's points lie apart: how far one outlier lies says nothing of the others.
    """

    column: ColumnSketch
    what: Literal["values", "missing"]
    blocks: Floats
    after: Floats
    points: Floats | None = None

    @property
    def method(self) -> str:
        """Name of the distance, as Evidently has it."""
        return CATEGORIES if self.points is None else NUMBERS

    @property
    def before(self) -> Floats:
        """Counts of the whole reference."""
        return np.asarray(self.blocks.sum(axis=0))

    def pages(self) -> tuple[Floats, Floats]:
        """Counts of both sides as the page shows them: whole, at most `PAGE_ROWS` rows."""
        return whole(self.before, PAGE_ROWS), whole(self.after, PAGE_ROWS)

    def score(self) -> float:
        """Distance of the window from the reference: what Evidently computes from the rows of `pages`."""
        before, after = (c / c.sum() for c in self.pages())
        return float(self.distance(before, after, norm_of(before, self.points) if self.points is not None else 1.0))

    def distance(self, before: Floats, after: Floats, norm: float) -> Floats:
        """Distance between shares, shape (.., bins)."""
        return jensenshannon(before, after) if self.points is None else wasserstein(before, after, self.points, norm)


@dataclass(frozen=True)
class Seen:
    """A column of the window: its items, and what was unexpected in it. `empty`: there is no value to compare."""

    column: ColumnSketch
    items: tuple[Item, ...]
    rows: int
    missing: float
    missing_before: float
    foreign: float
    constant: bool
    empty: bool

    @property
    def broken(self) -> str | None:
        """Why the source must be looked at, None where nothing suggests it. Being constant is judged elsewhere."""
        if self.empty and self.missing_before < 1:
            return "empty"
        if self.missing - self.missing_before >= LOST:
            return "mostly missing"
        if self.foreign >= FOREIGN:
            return "almost only values that were never seen"
        return None

    def facts(self) -> dict[str, Any]:
        """Unexpected input, as the outcome has it."""
        kind = "out_of_range" if self.column.numeric else "new_categories"
        return {"missing": round(self.missing, 6), "missing_before": round(self.missing_before, 6),
                kind: round(self.foreign, 6)}  # fmt: skip


def see(column: ColumnSketch, values: pa.ChunkedArray) -> Seen:
    """Compare a column of the window with its sketch. Raises DataError where it has changed its kind."""
    if not pa.types.is_null(values.type) and is_number(values.type) != column.numeric:
        kinds = ("a category", "a number")
        raise DataError(
            f"column '{column.name}' was {kinds[column.numeric]} in the reference, is {kinds[not column.numeric]} now",
            given=str(values.type),
            next_step="Give the column its former type in transform.sql, or train a new model",
        )
    table = column.table()
    gone = np.array(column.missing, dtype=np.float64)
    rows = len(values)
    if column.numeric:
        made, foreign, missing, constant = _numbers(column, table, values)
    else:
        made, foreign, missing, constant = _categories(column, table, values, rows)
    items = [made] if made is not None else []
    if rows and (missing or gone.sum()) and table.sum():
        present = np.stack([table.sum(axis=1), gone], axis=1)
        items.append(Item(column, "missing", present, np.array([rows - missing, missing], dtype=np.float64)))
    total = table.sum() + gone.sum()
    present_rows = rows - missing
    return Seen(
        column=column,
        items=tuple(items),
        rows=rows,
        missing=missing / rows if rows else 0.0,
        missing_before=float(gone.sum() / total) if total else 0.0,
        foreign=foreign / present_rows if present_rows else 0.0,
        constant=made is not None and column.bins > 1 and constant,
        empty=present_rows == 0,
    )


def _numbers(column: ColumnSketch, table: Floats, values: pa.ChunkedArray) -> tuple[Item | None, int, int, bool]:
    """The item, how many are out of range, how many are missing, and whether the others are one value."""
    numbers = numbers_of(values)
    good = numbers[~np.isnan(numbers)]
    missing = len(numbers) - len(good)
    if not len(good) or not column.points or column.low is None or column.high is None:
        return None, 0, missing, False
    codes: Counts = np.searchsorted(np.array(column.edges), good, side="right") + 1
    below, above = good < column.low, good > column.high
    codes[below], codes[above] = 0, column.bins + 1
    after = np.bincount(codes, minlength=column.bins + 2).astype(np.float64)
    first, last = column.points[0], column.points[-1]
    wide = last - first or LARGEST
    near = np.clip(good, first - wide, last + wide)
    ends = [float(near[out].mean()) if out.any() else end for out, end in ((below, first), (above, last))]
    points = np.array([ends[0], *column.points, ends[1]])
    padded = np.pad(table[:, :-1], ((0, 0), (1, 1)))
    return Item(column, "values", padded, after, points), int(below.sum() + above.sum()), missing, _constant(good)


def _constant(numbers: Floats) -> bool:
    return bool(numbers.min() == numbers.max())


def _categories(
    column: ColumnSketch, table: Floats, values: pa.ChunkedArray, rows: int
) -> tuple[Item | None, int, int, bool]:
    texts, places = texts_of(values)
    codes, new = codes_of(column, texts, places)
    here = codes >= 0
    missing = rows - int(here.sum())
    if not here.any() or not table.sum():
        return None, 0, missing, False
    after = np.bincount(codes[here], minlength=column.bins + 1).astype(np.float64)
    rare = table[:, :-1].sum(axis=0) < max(RARE, PER_CATEGORY / rows) * table.sum()
    return Item(column, "values", _folded(table, rare), _folded(after, rare)), int(new.sum()), missing, len(texts) == 1


def _folded(counts: Floats, rare: NDArray[np.bool_]) -> Floats:
    """Move the rare categories into the last bin; they stay as empty bins, so that places keep their meaning."""
    folded = counts.copy()
    folded[..., -1] += counts[..., :-1][..., rare].sum(axis=-1)
    folded[..., :-1][..., rare] = 0
    return folded


def names_of(item: Item, escape: Any = str) -> Iterator[str]:
    """Text of each bin that may be shown: values only of a public column."""
    column = item.column
    if item.what == "missing":
        yield from ("present", "missing")
    elif item.points is None:
        for number, name in enumerate(column.categories or (), start=1):
            yield escape(name) if column.public else f"category {number}"
        yield "(other)"
    elif not column.public:
        yield "below the range seen"
        yield from (f"part {n} of {column.bins} of the range seen" for n in range(1, column.bins + 1))
        yield "above the range seen"
    else:
        yield f"below {column.low:.6g}"
        exact = len(column.edges) and np.allclose((np.array(column.points[1:]) + np.array(column.points[:-1])) / 2,
                                                  column.edges, rtol=1e-9, atol=0)  # fmt: skip
        bounds = [column.low, *column.edges, column.high]
        for n, point in enumerate(column.points):
            yield f"{point:.6g}" if exact or not column.edges else f"{bounds[n]:.6g} to {bounds[n + 1]:.6g}"
        yield f"above {column.high:.6g}"
