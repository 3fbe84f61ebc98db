"""As many partitions as the spec says were published since the champion's training."""

from __future__ import annotations

from millrace.rules.triggers.trigger import Trigger
from millrace.rules.window import Situation


def fires(seen: Situation) -> str | None:
    """Where `monitoring.new_partitions` or more are published after what the champion was trained to, up to this."""
    limit, new = seen.spec.new_partitions, seen.now.new
    if limit is None or new is None or new < limit:
        return None
    return f"{new} partitions are published since the champion was trained to {seen.trained_to}; {limit} are enough"


NEW_DATA = Trigger("new_data", "new_data", fires)
