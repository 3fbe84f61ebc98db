"""explanations: SHAP values of held out rows, of all and of slices, kept beside the evaluation document; and whether
the challenger looks at what the champion looks at."""

from __future__ import annotations

from typing import Any

import numpy as np

from millrace.contract import Check
from millrace.core.canonical import canonical_json
from millrace.core.errors import DataError
from millrace.evaluation.attributions import (
    UNIT,
    Attributions,
    attributions,
    explained,
    rank_correlation,
    top_overlap,
)
from millrace.evaluation.blocks import Blocks
from millrace.evaluation.checks.subject import Figure, Judged, Subject
from millrace.evaluation.groups import groups_of
from millrace.models.metrics import Floats, rounded
from millrace.spec.model_checks import ExplanationsCheck

FILE, PLOT = "explanations.json", "explanations.png"


def run(asked: ExplanationsCheck, subject: Subject) -> Judged:
    """Explain the same rows by challenger and champion. Raises DataError where they have no two features in common."""
    import pyarrow as pa

    measured, champion, seed = subject.measured, subject.champion, subject.seed
    held = measured.rows.num_rows
    count = explained([subject.model, *([champion] if champion else [])], held)
    random = np.random.Generator(np.random.PCG64(seed))
    chosen = np.sort(random.permutation(held)[:count])
    rows = measured.rows.take(pa.array(chosen))
    mine = attributions(subject.model, rows, measured.rows, seed=seed)
    theirs = _champions(subject, rows, seed)
    figures = _stability(asked, mine, theirs, Blocks(measured.blocks[chosen], seed=seed)) if theirs else []
    said = "add up" if mine.whole else "do not add up"
    text = f"{asked.name}: contributions to {count} predictions {said} to them"
    sums = Check(name=asked.name, passed=mine.whole, message=text)
    overall = _shares(mine)
    document = {
        "method": mine.method,
        "unit": UNIT[subject.model.card.task],
        "model": subject.model.digest,
        "champion": champion.digest if champion else None,
        "rows": count,
        "features": overall,
        "champion_features": _shares(theirs) if theirs else None,
        "slices": {column: _slice(asked, column, rows, mine, subject) for column in asked.slices},
    }
    facts = {
        "name": asked.name,
        "figures": [figure.fact() for figure in figures],
        "method": mine.method,
        "rows": count,
        "top": [{"feature": one["feature"], "share": one["share"]} for one in overall[: asked.top]],
    }
    return Judged(
        (sums, *(figure.check(asked.name) for figure in figures)),
        {asked.type: facts},
        files={FILE: canonical_json(document)},
        plots={PLOT: _plot(mine, theirs, UNIT[subject.model.card.task])},
    )


def _champions(subject: Subject, rows: Any, seed: int) -> Attributions | None:
    if subject.champion is None:
        return None
    mine, theirs = subject.model.card, subject.champion.card
    if (mine.task, mine.label) != (theirs.task, theirs.label):
        raise DataError(f"the champion predicts '{theirs.label}' ({theirs.task}), another label")
    return attributions(subject.champion, rows, subject.measured.rows, seed=seed)


def _stability(asked: ExplanationsCheck, mine: Attributions, theirs: Attributions, blocks: Blocks) -> list[Figure]:
    """Bounded figures of the order of the features that both models have."""
    common = [name for name in mine.features if name in theirs.features]
    if len(common) < 2:
        raise DataError("challenger and champion have no two features in common", given=len(common))
    sums = blocks.sums(np.column_stack([_of(mine, common), _of(theirs, common)]))
    whole = sums.sum(axis=0, keepdims=True)
    figures = []
    for name, bound, statistic in (
        ("rank correlation of features with the champion's", asked.min_correlation, rank_correlation(len(common))),
        (f"overlap of the {min(asked.top, len(common))} strongest features with the champion's", asked.min_overlap,
         top_overlap(len(common), asked.top)),
    ):  # fmt: skip
        if bound is not None:
            low, high = blocks.interval(sums, statistic)
            figures.append(Figure(name, float(statistic(whole)[0]), low, high, min=bound, rows=len(mine.values)))
    return figures


def _of(made: Attributions, names: list[str]) -> Floats:
    return made.strengths[:, [made.features.index(name) for name in names]]


def _shares(made: Attributions) -> list[dict[str, Any]]:
    """The mean size of each feature's contribution, its share of all, and its mean, the strongest first. Six digits:
    they come from float32."""
    sizes, means = made.strengths.mean(axis=0), made.values.mean(axis=(0, 1))
    total = float(sizes.sum()) or 1.0
    order = np.argsort(-sizes, kind="stable")
    parts = {"size": sizes, "share": sizes / total, "mean": means}
    return [
        {"feature": made.features[at], **{key: rounded(float(values[at]), 6) for key, values in parts.items()}}
        for at in order
    ]


def _slice(
    asked: ExplanationsCheck, column: str, rows: Any, mine: Attributions, subject: Subject
) -> list[dict[str, Any]]:
    """The explanation of each value of a column; none of a value that too few of the rows have."""
    groups = groups_of(rows, column, subject.public)
    made = []
    for place, name in enumerate(groups.names):
        where = groups.index == place
        part = Attributions(mine.features, mine.values[where], mine.method, mine.whole)
        enough = int(where.sum()) >= asked.minimum_rows
        made.append({"group": name, "rows": int(where.sum()), "features": _shares(part) if enough else None})
    return made


def _plot(mine: Attributions, theirs: Attributions | None, unit: str) -> bytes:
    from millrace.evaluation import plots

    def sizes(made: Attributions) -> dict[str, float]:
        return {found["feature"]: found["size"] for found in _shares(made)}

    return plots.contributions(sizes(mine), sizes(theirs) if theirs else None, unit)
