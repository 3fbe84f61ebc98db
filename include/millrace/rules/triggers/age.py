"""The champion was trained `monitoring.max_age` or more before."""

from __future__ import annotations

from millrace.rules.triggers.trigger import Trigger
from millrace.rules.window import Situation


def fires(seen: Situation) -> str | None:
    """Where no partition that the champion was trained on lies in the `max_age` that ends with this one."""
    limit = seen.spec.max_age
    if not limit or seen.trained_to in seen.partitioning.window(seen.now.partition, limit):
        return None
    return f"the champion was trained to {seen.trained_to}, {limit} or more before"


AGE = Trigger("age", "age", fires)
