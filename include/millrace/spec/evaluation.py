"""What a challenger must reach: the model checks, a union, and the keys of `evaluation` that ask for them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from millrace.spec.base import Model
from millrace.spec.duel import DuelCheck, DuelSpec
from millrace.spec.model_checks import DeclaredCheck, grouped


class Threshold(Model):
    """Bounds of one holdout metric."""

    min: float | None = Field(default=None, description="The metric is at least this.")
    max: float | None = Field(default=None, description="The metric is at most this.")

    @model_validator(mode="after")
    def _some(self) -> Threshold:
        if self.min is None and self.max is None:
            raise ValueError("a threshold needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min:g}) cannot be larger than max ({self.max:g})")
        return self


class ThresholdCheck(Threshold):
    """A metric of the rows held out lies within bounds."""

    type: Literal["threshold"] = "threshold"
    metric: str = Field(description="One of the label's task.")
    needs_champion: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """That of the check's verdict."""
        return self.metric


ModelCheck = ThresholdCheck | DuelCheck | DeclaredCheck


class EvaluationSpec(Model):
    """What a challenger must reach, alone and against the champion."""

    thresholds: dict[str, Threshold] = Field(min_length=1, description="Metric name -> bounds on the holdout.")
    duel: DuelSpec = DuelSpec()

    checks: tuple[Annotated[DeclaredCheck, Field(discriminator="type")], ...] = Field(
        default=(), description="Model checks beside these; the challenger passes all."
    )

    @property
    def asked(self) -> tuple[ModelCheck, ...]:
        """All model checks that these keys ask for, in the order in which they are made."""
        bounds = sorted(self.thresholds.items())
        alone = (ThresholdCheck(metric=metric, min=bound.min, max=bound.max) for metric, bound in bounds)
        return (*alone, DuelCheck(**dict(self.duel)), *self.checks)

    @property
    def group_columns(self) -> tuple[str, ...]:
        """Columns by whose values rows are grouped; a training set holds them, features or not."""
        return tuple(dict.fromkeys((*(column for _, column in grouped(self.checks)), *self.duel.slices.columns)))
