"""What the champion was trained by is no longer what a training would go by: spec or code changed since."""

from __future__ import annotations

from millrace.rules.triggers.trigger import Trigger
from millrace.rules.window import Situation


def fires(seen: Situation) -> str | None:
    """Where the pipeline's folder, or Millrace itself, would make another model of the same data."""
    if not seen.now.changed:
        return None
    return f"changed since the champion's training: {', '.join(seen.now.changed)}"


CHANGED = Trigger("changed", "changed", fires)
