"""What the model reads moved, in k of the last n windows, and outcomes cannot say yet whether that matters."""

from __future__ import annotations

from millrace.rules.triggers.trigger import Trigger
from millrace.rules.window import Situation


def fires(seen: Situation) -> str | None:
    """Only where outcomes are not yet known: where they are, the performance test has the say."""
    if seen.now.outcomes_known:
        return None
    recent = seen.last(seen.spec.n)
    drifted = sum(1 for window in recent if window.drifted)
    if drifted < seen.spec.k:
        return None
    return f"{drifted} of the last {len(recent)} windows drifted and outcomes are not yet known"


DRIFT = Trigger("drift", "drift", fires, needs_rows=True)
