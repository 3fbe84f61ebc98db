"""The demo's picture: log loss by month, the loop between the frozen first model and monthly retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG of the summary's months."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [r for r in rows if r["log_loss"] is not None]
    months = [r["month"] for r in shown]
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
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
    figure.savefig(path, dpi=110)
    plt.close(figure)
