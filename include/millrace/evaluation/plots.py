"""Plots that a person wants to see of a training, as PNG bytes. No screen, no global state."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from millrace.models.metrics import LOSS, Floats, Point
from millrace.rules.labels import Task

_COLOURS = {"train": "#9aa5b1", "holdout": "#1f6feb"}
_BINS = 12
_WIDTH = 6.5


def learning_curve(curve: list[Point], task: Task) -> bytes:
    """Mean loss after each round or epoch, on training and held out rows."""
    figure, axes = _figure()
    for side, colour in _COLOURS.items():
        points = [(step, values[side]) for step, values in curve if side in values]
        if points:
            axes.plot(*zip(*points, strict=True), label=side, color=colour, marker="o" if len(points) == 1 else None)
    axes.set(title="Learning curve", xlabel="rounds or epochs", ylabel=f"mean {_loss(task)}")
    axes.legend(frameon=False)
    return _png(figure)


def calibration(label: Floats, prediction: Floats) -> bytes:
    """Observed share of positives against the predicted probability, in bins of equal row counts."""
    figure, axes = _figure()
    parts = np.array_split(np.argsort(prediction, kind="stable"), min(_BINS, len(prediction)))
    predicted = [float(prediction[part].mean()) for part in parts]
    observed = [float(label[part].mean()) for part in parts]
    top = max(*predicted, *observed, 0.01) * 1.05
    axes.plot([0, top], [0, top], color="#9aa5b1", linewidth=1, label="perfect")
    axes.plot(predicted, observed, marker="o", color="#1f6feb", label="model")
    axes.set(title=f"Calibration on {len(label):,} held out rows", xlabel="predicted probability", ylabel="observed")
    axes.legend(frameon=False)
    return _png(figure)


def residuals(label: Floats, prediction: Floats) -> bytes:
    """Label less prediction against the prediction."""
    figure, axes = _figure()
    axes.hexbin(prediction, label - prediction, gridsize=40, mincnt=1, cmap="Blues", bins="log")
    axes.axhline(0, color="#9aa5b1", linewidth=1)
    axes.set(title=f"Residuals on {len(label):,} held out rows", xlabel="prediction", ylabel="label - prediction")
    return _png(figure)


def confusion(label: Floats, prediction: Floats, names: tuple[str, ...]) -> bytes:
    """Share of each class's rows by predicted class; `prediction` has shape (rows, classes)."""
    known = label >= 0
    kinds = len(names)
    pairs = label[known].astype(np.int64) * kinds + prediction[known].argmax(axis=1)
    counts = np.bincount(pairs, minlength=kinds * kinds).reshape(kinds, kinds)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    longest = max(len(name) for name in names)
    figure, axes = _figure(max(3.5, 0.3 * kinds + 1.5), left=min(0.6 + 0.09 * longest, _WIDTH / 2))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(kinds), names, rotation=45 if longest > 3 else 0)
    axes.set_yticks(range(kinds), names)
    if kinds <= 20:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=7, color=colour)
    axes.set(title=f"Confusion on {int(known.sum()):,} held out rows", xlabel="predicted", ylabel="label")
    return _png(figure)


def importances(values: dict[str, float], task: Task, most: int = 20) -> bytes:
    """Rise of the loss when a feature is shuffled, the largest at the top."""
    shown = list(values.items())[:most][::-1]
    longest = max((len(name) for name, _ in shown), default=0)
    figure, axes = _figure(max(2.5, 0.28 * len(shown) + 1.2), left=min(0.4 + 0.09 * longest, _WIDTH / 2))
    axes.barh([name for name, _ in shown], [value for _, value in shown], color="#1f6feb")
    axes.set(title="Permutation importance on held out rows", xlabel=f"rise of the mean {_loss(task)}")
    return _png(figure)


def contributions(values: dict[str, float], champion: dict[str, float] | None, unit: str, most: int = 20) -> bytes:
    """Mean size of each feature's SHAP values, the largest at the top, beside the champion's where there is one."""
    shown = list(values)[:most][::-1]
    longest = max((len(name) for name in shown), default=0)
    sides = [("challenger", values, "#1f6feb")] + ([("champion", champion, "#9aa5b1")] if champion is not None else [])
    figure, axes = _figure(max(2.5, 0.28 * len(shown) + 1.2), left=min(0.4 + 0.09 * longest, _WIDTH / 2))
    height = 0.8 / len(sides)
    for number, (side, sizes, colour) in enumerate(sides):
        places = [row + 0.4 - height * (number + 0.5) for row in range(len(shown))]
        axes.barh(places, [sizes.get(name, 0.0) for name in shown], height=height, label=side, color=colour)
    axes.set_yticks(range(len(shown)), shown)
    axes.set(title="SHAP values on held out rows", xlabel=f"mean size of a contribution, in {unit}")
    if champion is not None:
        axes.legend(frameon=False, loc="lower right")
    return _png(figure)


def by_block(means: dict[str, float], loss: str) -> bytes:
    """Mean loss of each held out block, in order."""
    figure, axes = _figure(3.2)
    places = range(len(means))
    axes.plot(places, list(means.values()), marker="o", markersize=3, color="#1f6feb")
    every = max(1, len(means) // 8)
    axes.set_xticks(list(places)[::every], list(means)[::every])
    axes.set(title="Held out blocks", ylabel=f"mean {loss.replace('_', ' ')}")
    return _png(figure)


def _loss(task: Task) -> str:
    return LOSS[task].replace("_", " ")


def _figure(height: float = 4, left: float = 0.9) -> tuple[Figure, Any]:
    """A figure with margins in inches: the constrained layout would draw everything twice."""
    figure = Figure(figsize=(_WIDTH, height))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    figure.subplots_adjust(left / _WIDTH, 0.6 / height, 1 - 0.2 / _WIDTH, 1 - 0.4 / height)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
