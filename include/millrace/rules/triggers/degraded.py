"""The champion loses more than on its own holdout, by the performance test, and no probe could say what to gain."""

from __future__ import annotations

from millrace.rules.triggers.trigger import Trigger
from millrace.rules.window import Situation


def fires(seen: Situation) -> str | None:
    """Where outcomes came and the test, whose false alarm rate is the spec's, says so.

    Not where a probe says what a retraining wins: a month that is hard for every model is no reason to train one.
    """
    if not seen.now.degraded or seen.now.gain:
        return None
    return f"loss is {seen.now.excess:.4f} above the champion's own holdout loss"


DEGRADED = Trigger("degraded", "performance", fires)
