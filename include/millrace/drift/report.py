"""The Evidently report of a check: the page that people see, with the scores, thresholds and verdicts of the check.

Evidently gets rows made from the counts of both sides, never rows of data, and computes its distance from them: the
same number from which the check judges. So the page cannot say another thing than the decision.
"""

from __future__ import annotations

import html
import os
from typing import Any

import numpy as np

from millrace.drift.check import DriftResult, Judged
from millrace.drift.distances import LEAST_NORM, norm_of
from millrace.drift.items import Item, names_of

os.environ.setdefault("DO_NOT_TRACK", "1")  # read by Evidently at import

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
STYLE = "font-family: sans-serif; max-width: 60em; margin: 2em auto; line-height: 1.4"


def page(result: DriftResult, title: str, seed: int = 0) -> str:
    """HTML without anything from elsewhere: what was found in words, then Evidently's metrics column by column."""
    head = _summary(result, title)
    judged = {_name(j): j for items in result.judged.values() for j in items}
    if not judged:
        return f"<html><head>{_policy()}</head><body>{head}<p>No column could be compared.</p></body></html>"
    text: str = evidently(judged, seed).get_html_str(as_iframe=False)
    at = text.find("<head>")
    text = text[: at + 6] + _policy() + text[at + 6 :] if at >= 0 else f"<head>{_policy()}</head>{text}"
    body = text.find("<body>")
    return text[: body + 6] + head + text[body + 6 :] if body >= 0 else head + text


def evidently(judged: dict[str, Judged], seed: int = 0) -> Any:
    """Run Evidently's ValueDrift on the items, by their shown names, with the method and threshold of the check."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    sides: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name, one in judged.items():
        for frame, rows in zip(sides, _rows(one.item, seed), strict=True):
            frame[name] = pd.Series(rows)
    numeric = [name for name, one in judged.items() if one.item.points is not None]
    definition = DataDefinition(
        numerical_columns=numeric, categorical_columns=[name for name in judged if name not in numeric]
    )
    data = [Dataset.from_pandas(pd.DataFrame(frame), definition) for frame in sides]
    metrics = [ValueDrift(column=n, method=j.item.method, threshold=j.threshold) for n, j in judged.items()]
    return Report(metrics).run(data[1], data[0])


def _name(one: Judged) -> str:
    name = html.escape(one.item.column.name)
    return f"{name} (missing)" if one.item.what == "missing" else name


def _rows(item: Item, seed: int) -> list[Any]:
    """Rows with the counts of both sides, in an order of no meaning."""
    random = np.random.Generator(np.random.PCG64(seed))
    before, after = item.pages()
    values: Any
    if item.points is None:
        values = np.array(list(names_of(item, html.escape)), dtype=object)
    else:
        values = shown(item)
    return [random.permutation(np.repeat(values, counts.astype(np.int64))) for counts in (before, after)]


def shown(item: Item) -> Any:
    """The numbers of an item's bins as the page shows them; the distance does not change with it.

    Numbers that are not public, or spread less than Evidently divides by, are standardised by the reference.
    """
    assert item.points is not None
    before = item.pages()[0]
    shares = before / before.sum()
    norm, mean = norm_of(shares, item.points), float(shares @ item.points)
    if (shares > 0).sum() < 2:
        return item.points if item.column.public else item.points - mean
    return item.points if item.column.public and norm > LEAST_NORM else (item.points - mean) / norm


def _policy() -> str:
    """A policy that forbids every load from elsewhere."""
    return f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'


def _summary(result: DriftResult, title: str) -> str:
    e = html.escape
    moved = [name for name in result.judged if result.drifted(name)]
    parts = [f"<h1>{e(title)}</h1>"]
    if not result.enough:
        parts.append("<p>Too few rows or too few blocks of time to judge: the thresholds are Evidently's own.</p>")
    parts.append(f"<p>{len(moved)} of {len(result.judged)} columns moved further than they do while nothing changes; "
                 f"they carry {result.share:.0%} of the model's attributions.</p>")  # fmt: skip
    if result.broken:
        listed = "".join(f"<li>{e(name)}: {e(why)}</li>" for name, why in sorted(result.broken.items()))
        parts.append(f"<h2>Broken</h2><ul>{listed}</ul>")
    if causes := result.causes():
        rows = "".join(
            f"<tr><td>{e(c['column'])}</td><td>{c['part']:.0%}</td><td>{c['weight']:.0%}</td><td>{_words(c)}</td></tr>"
            for c in causes
        )
        parts.append("<h2>What moved, by what it means to the model</h2><table><tr><th>column</th><th>part of the "
                     "change</th><th>of the model's attributions</th><th>segments</th></tr>"
                     f"{rows}</table>")  # fmt: skip
    return f'<div style="{STYLE}">{"".join(parts)}</div>'


def _words(cause: dict[str, Any]) -> str:
    return "; ".join(f"{html.escape(s['segment'])}: {s['before']:.1%} to {s['after']:.1%}" for s in cause["segments"])
