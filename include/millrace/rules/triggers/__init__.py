"""Reasons to retrain, a module each. A further one is a module, a line here, and its key in `retrain_on`."""

from __future__ import annotations

from millrace.rules.triggers.age import AGE
from millrace.rules.triggers.changed import CHANGED
from millrace.rules.triggers.degraded import DEGRADED
from millrace.rules.triggers.drift import DRIFT
from millrace.rules.triggers.gain import GAIN
from millrace.rules.triggers.new_data import NEW_DATA
from millrace.rules.triggers.trigger import Trigger, TriggerReason

TRIGGERS: tuple[Trigger, ...] = (DEGRADED, GAIN, CHANGED, AGE, NEW_DATA, DRIFT)
"""In the order in which they are asked: the first that fires is the reason. Those that need rows come last."""

__all__ = ["TRIGGERS", "Trigger", "TriggerReason"]
