"""The demo's picture: log loss by month, the loop between the frozen first model and monthly retraining; and below it
who answered while two bad versions were on their way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from demo.rollouts import Tried


def draw(rows: list[dict[str, Any]], tried: list[Tried], path: Path) -> None:
    """Write a PNG of the summary's months and rollouts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [r for r in rows if r["log_loss"] is not None]
    months = [r["month"] for r in shown]
    figure = plt.figure(figsize=(9, 7), layout="constrained")
    grid = figure.add_gridspec(2, max(1, len(tried)), height_ratios=(3, 2))
    axes = figure.add_subplot(grid[0, :])
    for key, label, style in (
        ("log_loss_frozen", "first model, frozen", {"color": "0.6", "linestyle": "--"}),
        ("log_loss_monthly", "retrained every month", {"color": "tab:blue", "linestyle": ":"}),
        ("log_loss", "Millrace's loop", {"color": "tab:orange", "linewidth": 2.5}),
    ):
        axes.plot(months, [r[key] for r in shown], marker="o", label=label, **style)
    for r in shown:
        if r["decision"] == "retrain":
            axes.annotate(
                f"retrain\n({r['reason']})",
                (r["month"], r["log_loss"]),
                xytext=(0, -28),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    axes.set_title("Flights more than 15 minutes late: log loss on each month, scored before its labels were used")
    axes.set_ylabel("log loss (lower is better)")
    axes.grid(alpha=0.3)
    axes.legend()
    for column, each in enumerate(tried):
        _answered(figure.add_subplot(grid[1, column]), each)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _answered(axes: Axes, tried: Tried) -> None:
    """Answers a second by version, from the first plan that named the bad one."""
    seconds, champion, bad = zip(*tried.timeline, strict=True)
    axes.stackplot(seconds, champion, bad, labels=("champion", f"v{tried.version}"), colors=("tab:orange", "tab:red"))
    for at, what in tried.stages:
        axes.axvline(at, color="0.3", linestyle=":" if what != "veto" else "-", linewidth=1)
        axes.annotate(what, (at, 1.0), xycoords=("data", "axes fraction"), xytext=(2, -10),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_title(f"v{tried.version}: {tried.fault}", fontsize=10)
    axes.set_xlabel("seconds")
    axes.set_ylabel("answers a second")
    axes.legend(loc="lower right", fontsize=8)
