"""The governor: from what monitoring saw to one decision, with its reason. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from millrace.rules.triggers import TRIGGERS, Trigger, TriggerReason
from millrace.rules.window import Situation, Window
from millrace.spec.monitoring import MonitoringSpec
from millrace.spec.partitions import Partitioning

Action = Literal["retrain", "none", "alert"]
Reason = TriggerReason | Literal["cooldown", "budget", "broken", "too_few_rows", "in_training", "older", "nothing"]

SILENT = 3
"""Windows in a row with too few rows to judge from which on that is an alert: the limit may lie out of reach."""


@dataclass(frozen=True)
class Decision:
    """What to do and why; `message` is for a person."""

    action: Action
    reason: Reason
    message: str


def decide(
    spec: MonitoringSpec,
    partitioning: Partitioning,
    now: Window,
    history: Sequence[Window],
    *,
    before: Sequence[Window] = (),
    trained_to: str,
    retrained: Sequence[str] = (),
) -> Decision:
    """Decide for the partition `now`.

    `history` are the other windows of the same champion, `before` those of earlier ones, `trained_to` the last
    partition it was trained on, `retrained` the partitions of decisions to retrain that have not failed. In order: a
    partition the champion was trained on, or older than one already judged, never retrains; a broken column alerts and
    never retrains, since training on it would teach the fault; a cooldown and a budget in partition time; then the
    `TRIGGERS` that the spec does not switch off, in their order. With too few rows those that need rows are not asked,
    which is an alert where it is so for `SILENT` windows in a row.
    """
    key = now.partition
    if partitioning.start(key) <= partitioning.start(trained_to):
        return Decision("none", "in_training", f"{key} lies in what the champion was trained on (to {trained_to})")
    newer = [w.partition for w in history if partitioning.start(w.partition) > partitioning.start(key)]
    if newer:
        return Decision("none", "older", f"{key} is a replay; {max(newer)} was judged already")
    if now.broken:
        names = ", ".join(sorted(now.broken))
        return Decision("alert", "broken", f"broken column: {names}; mend the source first")
    last = max(retrained, key=partitioning.start, default=None)
    if last is not None and spec.cooldown and _within(partitioning, last, key, spec):
        return Decision("none", "cooldown", f"retrained for {last}, less than {spec.cooldown} ago")
    budget = spec.retrain.budget
    if budget is not None:
        spent = sorted({*retrained} & {*partitioning.window(key, budget.period)})
        if len(spent) >= budget.retrainings:
            return Decision("none", "budget", f"retrained for {', '.join(spent)} within {budget.period}, no more")
    mine, others = (sorted(found, key=lambda w: partitioning.start(w.partition)) for found in (history, before))
    seen = Situation(spec, partitioning, now, mine, trained_to, others)
    if decision := _first([trigger for trigger in TRIGGERS if not trigger.needs_rows], seen):
        return decision
    if now.rows < spec.minimum_rows:
        return _too_few(seen)
    if decision := _first([trigger for trigger in TRIGGERS if trigger.needs_rows], seen):
        return decision
    return Decision("none", "nothing", "no reason to retrain")


def _first(triggers: Sequence[Trigger], seen: Situation) -> Decision | None:
    """The first of these that is not switched off and fires."""
    for trigger in triggers:
        if getattr(seen.spec.retrain_on, trigger.key) is not False and (why := trigger.fires(seen)):
            return Decision("retrain", trigger.reason, why)
    return None


def _too_few(seen: Situation) -> Decision:
    minimum = seen.spec.minimum_rows
    last, least = seen.last(SILENT), f"fewer than monitoring.minimum_rows ({minimum:,})"
    if len(last) < SILENT or any(w.rows >= minimum for w in last):
        return Decision("none", "too_few_rows", f"{seen.now.rows:,} rows, {least}")
    return Decision(
        "alert",
        "too_few_rows",
        f"the last {SILENT} windows had {max(w.rows for w in last):,} rows at most, {least}: nothing is judged; lower "
        "it, look back further with monitoring.window, or mend the source",
    )


def _within(partitioning: Partitioning, last: str, key: str, spec: MonitoringSpec) -> bool:
    """Whether `key` comes less than the cooldown after the last retraining; the same partition is a replay."""
    return partitioning.start(key) <= partitioning.start(last) or last in partitioning.window(key, spec.cooldown)
