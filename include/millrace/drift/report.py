"""The Evidently report of a window against the champion's reference, and the facts read from it.

Methods are effect sizes, not p-values: with 20,000 rows a test of significance flags differences that matter to
nobody. Numbers use the Wasserstein distance in reference standard deviations, categories the Jensen-Shannon distance,
both with threshold 0.1, which gives no false alarm from 1,000 rows on once rare categories are folded.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

os.environ.setdefault("DO_NOT_TRACK", "1")  # read by Evidently at import

THRESHOLD = 0.1
NUMBERS, CATEGORIES = "wasserstein", "jensenshannon"
RARE = 0.005
OTHER = "(other)"
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


@dataclass(frozen=True)
class DriftReport:
    """Page for people, facts for the governor. `columns`: name -> score, threshold, method, drifted."""

    page: str
    columns: dict[str, dict[str, Any]]
    broken: list[str]

    @property
    def share(self) -> float:
        """Share of the compared columns that drifted."""
        return sum(c["drifted"] for c in self.columns.values()) / len(self.columns) if self.columns else 0.0


def sample(table: pa.Table, most: int, seed: int) -> pa.Table:
    """At most `most` rows, the same ones for the same table and seed, in their order."""
    if table.num_rows <= most:
        return table
    chosen = np.random.default_rng(seed).choice(table.num_rows, most, replace=False)
    return table.take(pa.array(np.sort(chosen)))


def build(reference: pa.Table, current: pa.Table, columns: list[str], public: Callable[[str], bool]) -> DriftReport:
    """Compare the columns. Values of a column that is not public are replaced by codes before Evidently sees them."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    frames: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    numeric, categorical, broken = [], [], []
    for column in columns:
        before, after = reference[column], current[column]
        if _broken(before, after):
            broken.append(column)
        if before.null_count == len(before) or after.null_count == len(after):
            continue  # nothing to compare; named among the broken ones unless it was empty before
        name = html.escape(column)
        if pa.types.is_integer(before.type) or pa.types.is_floating(before.type):
            numeric.append(name)
            pair: tuple[Any, Any] = (_numbers(before), _numbers(after))
        else:
            categorical.append(name)
            pair = _categories(before, after, public(column))
        for frame, values in zip(frames, pair, strict=True):
            frame[name] = pd.Series(values)
    names = {html.escape(c): c for c in columns}
    if not numeric and not categorical:
        return DriftReport("<p>No column could be compared.</p>", {}, broken)
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
    sides = [Dataset.from_pandas(pd.DataFrame(frame), definition) for frame in frames]
    metrics = [ValueDrift(column=c, method=NUMBERS, threshold=THRESHOLD) for c in numeric]
    metrics += [ValueDrift(column=c, method=CATEGORIES, threshold=THRESHOLD) for c in categorical]
    seen = Report(metrics).run(sides[1], sides[0])
    found = {}
    for metric in seen.dict()["metrics"]:
        config = metric["config"]
        score = round(float(metric["value"]), 6)
        found[names[config["column"]]] = {
            "score": score, "threshold": THRESHOLD, "method": config["method"], "drifted": score >= THRESHOLD,
        }  # fmt: skip
    return DriftReport(_page(seen.get_html_str(as_iframe=False)), dict(sorted(found.items())), broken)


def _broken(before: pa.ChunkedArray, after: pa.ChunkedArray) -> bool:
    """All null, or stuck at one value, where the reference was not."""
    if before.null_count == len(before):
        return False
    if after.null_count == len(after):
        return True
    return pc.count_distinct(after).as_py() == 1 and pc.count_distinct(before).as_py() > 1


def _numbers(column: pa.ChunkedArray) -> Any:
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _categories(before: pa.ChunkedArray, after: pa.ChunkedArray, public: bool) -> tuple[list[str], list[str]]:
    """Texts that are safe to show: rare ones folded (by the reference), markup escaped, private ones coded."""
    texts = [column.cast(pa.string()).fill_null("(null)").to_pylist() for column in (before, after)]
    counts: dict[str, int] = {}
    for text in texts[0]:
        counts[text] = counts.get(text, 0) + 1
    kept = {text for text, count in counts.items() if count >= RARE * len(texts[0])}
    if public:
        shown = {text: html.escape(text) for text in kept}
    else:
        shown = {text: f"category {number}" for number, text in enumerate(sorted(kept), start=1)}
    return [shown.get(t, OTHER) for t in texts[0]], [shown.get(t, OTHER) for t in texts[1]]


def _page(text: str) -> str:
    """Evidently's page with a policy that forbids every load from elsewhere."""
    meta = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head = text.find("<head>")
    return text[: head + 6] + meta + text[head + 6 :] if head >= 0 else f"<head>{meta}</head>{text}"
