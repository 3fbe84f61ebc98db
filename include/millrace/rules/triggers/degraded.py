"""The champion loses more than on its own holdout, by the performance test."""

from __future__ import annotations

from millrace.rules.triggers.trigger import Trigger
from millrace.rules.window import Situation


def fires(seen: Situation) -> str | None:
    """Where outcomes came and the test, whose false alarm rate is the spec's, says so."""
    if not seen.now.degraded:
        return None
    return f"loss is {seen.now.excess:.4f} above the champion's own holdout loss"


DEGRADED = Trigger("degraded", "performance", fires)
