"""What every model check is given, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from millrace.contract import Check
from millrace.evaluation.measure import Measured
from millrace.models.files import Model


@dataclass(frozen=True)
class Subject:
    """A challenger with what was measured of it, the champion where there is one, and the seed of what is drawn."""

    model: Model
    measured: Measured
    champion: Model | None
    seed: int


@dataclass(frozen=True)
class Judged:
    """What one model check says: Checks of the verdict, and facts of the outcome by the check's type."""

    checks: tuple[Check, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
