"""What a challenger must show against the champion, or, where there is none, against a constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from millrace.spec.base import Classification, Mistakes, Model


class Slices(Model):
    """Parts of the frozen rows in which the challenger must not be shown to regress, corrected for their number."""

    columns: tuple[str, ...] = Field(
        default=(),
        description="Public columns that transform.sql makes, features or not: text, booleans or whole numbers. Each "
        "value is a slice.",
    )
    calendar: Literal["week", "month", "quarter"] | None = Field(
        default=None, description="Each of these of the event time is a slice, on the pipeline's clocks."
    )
    newest: int = Field(default=8, ge=8, description="So many newest held out blocks are a slice of their own.")
    minimum_rows: int = Field(default=200, ge=1, description="A slice with fewer rows is shown, and not judged.")
    tolerance: float | None = Field(
        default=None, ge=0, description="In loss units, of each slice; that of the duel where left out."
    )


class Costs(Model):
    """What decisions cost, so that the duel says the difference in money. It decides nothing."""

    currency: str = Field(min_length=1, max_length=16, description="Such as EUR; shown beside the amounts.")
    matrix: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="Of a label with classes: actual class -> decided class -> cost; 0 where left out. A model is "
        "taken to decide what costs least by its own probabilities. Classes of a binary label are 0 and 1.",
    )
    over: float | None = Field(default=None, ge=0, description="Of a regression: cost of each unit predicted too much.")
    under: float | None = Field(
        default=None, ge=0, description="Of a regression: cost of each unit predicted too little."
    )

    @field_validator("matrix", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """YAML reads a class such as 1 as a number."""

        def named(part: Any) -> Any:
            if not isinstance(part, Mapping):
                return part
            return {str(int(k)) if isinstance(k, bool) else str(k): v for k, v in part.items()}

        return {k: named(v) for k, v in named(value).items()} if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _either(self) -> Costs:
        errors = (self.over, self.under)
        if bool(self.matrix) == any(each is not None for each in errors):
            raise ValueError("give matrix for a label with classes, or over and under for a regression")
        if not self.matrix and None in errors:
            raise ValueError("give both over and under")
        return self


class DuelSpec(Model):
    """Paired losses on rows that both models held out, judged by blocks of time. Rates: docs/duel.md."""

    tolerance: float = Field(
        default=0.0,
        ge=0,
        description="In loss units. The 95 % interval of the challenger's mean loss less the champion's must end at or "
        "below this: a model that is worse by so much passes in at most 5 %.",
    )
    better: bool = Field(
        default=False, description="The interval must end below zero: no challenger that is merely as good passes."
    )
    difference: float | None = Field(
        default=None,
        gt=0,
        description="In loss units: the gain that a duel shall see with a probability of 80 %. One that could not, and "
        "has not passed, says what it could have seen.",
    )
    slices: Slices = Slices()
    calibration: float | None = Field(
        default=None,
        ge=0,
        description="Of labels with classes: largest rise of the expected calibration error, on its scale from 0 to 1, "
        "that may be shown; it is shown and not judged where left out.",
    )
    costs: Costs | None = Field(default=None, description="What decisions cost.")

    def check(self, wrong: Mistakes, task: str, classification: Callable[[str], Classification]) -> None:
        """Note what does not go with the pipeline's label and columns."""
        for column in self.slices.columns:
            if (kind := classification(column)) != "public":
                wrong.add("a slice's values are shown in verdicts: only public columns make slices",
                          "evaluation", "duel", "slices", "columns", given=f"{column} ({kind})")  # fmt: skip
        if self.costs is not None and (task == "regression") == bool(self.costs.matrix):
            keys = "over and under" if task == "regression" else "matrix"
            wrong.add(f"the costs of a {task} label are given by {keys}", "evaluation", "duel", "costs")
        elif self.costs is not None and task == "binary":
            classes = {*self.costs.matrix, *(name for row in self.costs.matrix.values() for name in row)}
            if unknown := sorted(classes - {"0", "1"}):
                wrong.add("no class of a binary label", "evaluation", "duel", "costs", "matrix",
                          given=", ".join(unknown), allowed=["0", "1"])  # fmt: skip
        if self.calibration is not None and task == "regression":
            wrong.add("a regression has no probabilities to calibrate", "evaluation", "duel", "calibration")


class DuelCheck(DuelSpec):
    """The duel as a model check. Without a champion it is fought against a constant, which must be beaten."""

    type: Literal["duel"] = "duel"
    needs_champion: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """That of the check's verdict."""
        return self.type
