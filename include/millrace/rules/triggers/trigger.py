"""What a reason to retrain is: a name, the key that switches it, and a pure function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from millrace.rules.window import Situation

TriggerReason = Literal["degraded", "gain", "changed", "age", "new_data", "drift"]


@dataclass(frozen=True)
class Trigger:
    """One reason to retrain.

    `key` is that of `monitoring.retrain_on`; `fires` says why in words for a person, or None. One that `needs_rows` is
    not asked about a window with fewer than `monitoring.minimum_rows`.
    """

    reason: TriggerReason
    key: str
    fires: Callable[[Situation], str | None]
    needs_rows: bool = False
