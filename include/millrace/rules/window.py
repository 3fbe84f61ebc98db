"""What monitoring saw of partitions, as the governor and its triggers are shown it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from millrace.rules.gain import Gain
from millrace.spec.monitoring import MonitoringSpec
from millrace.spec.partitions import Partitioning


@dataclass(frozen=True)
class Window:
    """What monitoring saw of one partition. None: it could not be said, or nobody asked.

    `new` counts the partitions published since the champion's training; `changed` is what it was trained by and is no
    longer so.
    """

    partition: str
    rows: int
    drifted: bool | None
    degraded: bool | None
    excess: float | None
    broken: tuple[str, ...]
    outcomes_known: bool
    gain: Gain | None = None
    new: int | None = None
    changed: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Window:
        """The window of its `facts`."""
        gain = facts["gain"]
        broken, changed = tuple(facts["broken"]), tuple(facts["changed"])
        return cls(**{**facts, "broken": broken, "changed": changed, "gain": gain and Gain(**gain)})

    @property
    def facts(self) -> dict[str, Any]:
        """As a record keeps it."""
        return {**asdict(self), "broken": list(self.broken), "changed": list(self.changed)}


@dataclass(frozen=True)
class Situation:
    """What a trigger may look at: the window `now`, and the earlier ones of the same champion, oldest first.

    `before` are those of earlier champions, oldest first, too. `trained_to` is the last partition that the champion was
    trained on.
    """

    spec: MonitoringSpec
    partitioning: Partitioning
    now: Window
    earlier: Sequence[Window]
    trained_to: str
    before: Sequence[Window] = ()

    def last(self, count: int) -> Sequence[Window]:
        """The last `count` windows in order of time, with `now` as the last of them."""
        return [*self.earlier, self.now][-count:]
