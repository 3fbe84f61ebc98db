"""A probe says that what was foregone by not retraining exceeds what a retraining costs."""

from __future__ import annotations

from millrace.rules.gain import worth
from millrace.rules.triggers.trigger import Trigger
from millrace.rules.window import Situation


def fires(seen: Situation) -> str | None:
    """Where outcomes came, a probe was made, and its gain is worth `monitoring.retrain.cost`."""
    if seen.now.gain is None:
        return None
    gains, before = ([w.gain for w in found if w.gain] for found in ([*seen.earlier, seen.now], seen.before))
    found = worth(gains, before, seen.spec.retrain.cost)
    if not found.due:
        return None
    over = f"{found.windows} partitions" if found.windows > 1 else "this partition"
    how = " that gives recent rows more weight" if seen.now.gain.recent else ""
    return (
        f"a retraining{how} would have won {found.total:.1%} of a partition's loss over {over}, "
        f"at least {found.bound:.1%} but for one chance in {1 / found.rate:.0f}; it costs {seen.spec.retrain.cost:.1%}"
    )


GAIN = Trigger("gain", "gain", fires)
