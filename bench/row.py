"""One line of the bench."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """`ratio` is ours / reference; `goal` says in words what it should be; `stock` names the part it replaces."""

    name: str
    ours: float
    reference: float
    unit: str
    goal: str
    stock: str | None = None

    @property
    def ratio(self) -> float:
        """ours / reference."""
        return self.ours / self.reference if self.reference else float("nan")

    @classmethod
    def of_json(cls, given: dict[str, Any]) -> Row:
        """The row that bench.json has."""
        return cls(**{name: value for name, value in given.items() if name != "ratio"})

    def to_json(self) -> dict[str, Any]:
        """The row as bench.json has it."""
        return {**asdict(self), "ours": round(self.ours, 4), "reference": round(self.reference, 4),
                "ratio": round(self.ratio, 4)}  # fmt: skip
