"""The governor: from what monitoring saw to one decision, with its reason. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from millrace.spec.monitoring import MonitoringSpec
from millrace.spec.partitions import Partitioning

Action = Literal["retrain", "none", "alert"]
Reason = Literal["degraded", "age", "drift", "cooldown", "broken", "too_few_rows", "in_training", "older", "nothing"]

SILENT = 3
"""Windows in a row with too few rows to judge from which on that is an alert: the limit may lie out of reach."""


@dataclass(frozen=True)
class Window:
    """What monitoring saw of one partition. None: it could not be said."""

    partition: str
    rows: int
    drifted: bool | None
    degraded: bool | None
    excess: float | None
    broken: tuple[str, ...]
    outcomes_known: bool


@dataclass(frozen=True)
class Decision:
    """What to do and why; `message` is for a person."""

    action: Action
    reason: Reason
    message: str


def decide(
    spec: MonitoringSpec,
    cut: Partitioning,
    now: Window,
    history: Sequence[Window],
    *,
    trained_to: str,
    last_retrain: str | None,
) -> Decision:
    """Decide for the partition `now`.

    `history` are the other windows of the same champion, `trained_to` the last partition it was trained on,
    `last_retrain` the partition of the last decision to retrain that has not failed. In order: a partition the
    champion was trained on, or older than one already judged, never retrains; a broken column alerts and never
    retrains, since training on it would teach the fault; a cooldown in partition time; then confirmed degradation,
    age, and - only where outcomes are not yet known - drift in k of the last n windows. Too few rows to judge are an
    alert where that is so for `SILENT` windows in a row.
    """
    on, key = spec.retrain_on, now.partition
    if cut.start(key) <= cut.start(trained_to):
        return Decision("none", "in_training", f"{key} lies in what the champion was trained on (to {trained_to})")
    newer = [w.partition for w in history if cut.start(w.partition) > cut.start(key)]
    if newer:
        return Decision("none", "older", f"{key} is a replay; {max(newer)} was judged already")
    if now.broken:
        names = ", ".join(sorted(now.broken))
        return Decision("alert", "broken", f"broken column: {names}; mend the source first")
    if last_retrain is not None and spec.cooldown and _within(cut, last_retrain, key, spec):
        return Decision("none", "cooldown", f"retrained for {last_retrain}, less than {spec.cooldown} ago")
    if on.performance and now.degraded:
        return Decision("retrain", "degraded", f"loss is {now.excess:.4f} above the champion's own holdout loss")
    if on.age is not False and spec.max_age and trained_to not in cut.window(key, spec.max_age):
        return Decision("retrain", "age", f"the champion was trained to {trained_to}, {spec.max_age} or more before")
    ordered = [*sorted(history, key=lambda w: cut.start(w.partition)), now]
    if now.rows < spec.minimum_rows:
        return _too_few(spec, ordered)
    if on.drift and not now.outcomes_known:
        recent = ordered[-spec.n :]
        drifted = sum(1 for w in recent if w.drifted)
        if drifted >= spec.k:
            return Decision(
                "retrain",
                "drift",
                f"{drifted} of the last {len(recent)} windows drifted and outcomes are not yet known",
            )
    return Decision("none", "nothing", "no reason to retrain")


def _too_few(spec: MonitoringSpec, ordered: Sequence[Window]) -> Decision:
    last, least = ordered[-SILENT:], f"fewer than monitoring.minimum_rows ({spec.minimum_rows:,})"
    if len(last) < SILENT or any(w.rows >= spec.minimum_rows for w in last):
        return Decision("none", "too_few_rows", f"{ordered[-1].rows:,} rows, {least}")
    return Decision(
        "alert",
        "too_few_rows",
        f"the last {SILENT} windows had {max(w.rows for w in last):,} rows at most, {least}: nothing is judged; lower "
        "it, look back further with monitoring.window, or mend the source",
    )


def _within(cut: Partitioning, last: str, key: str, spec: MonitoringSpec) -> bool:
    """Whether `key` comes less than the cooldown after the last retraining; the same partition is a replay."""
    return cut.start(key) <= cut.start(last) or last in cut.window(key, spec.cooldown)
