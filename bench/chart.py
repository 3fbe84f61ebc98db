"""A chart of what is measured against a stock part: how many times less CPU time ours takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.row import Row


def draw(rows: Sequence[Row], path: Path) -> bool:
    """Draw the rows that name a stock part; returns whether there were any."""
    shown = [row for row in rows if row.stock and row.ratio > 0]
    if not shown:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [row.name.partition(", against")[0] for row in shown]
    times = [1 / row.ratio for row in shown]
    figure, axes = pyplot.subplots(figsize=(9, 0.7 + 0.5 * len(shown)))
    bars = axes.barh(names, times, color="#2a7f9e")
    labels = [f"{t:.0f} times" if t >= 10 else f"{t:.1f} times" for t in times]
    axes.bar_label(bars, [f"{label}  ({row.stock})" for label, row in zip(labels, shown, strict=True)], padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, max(times) * 1.5)
    axes.set_xlabel("CPU time: stock part / ours, each pair in one run")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True
