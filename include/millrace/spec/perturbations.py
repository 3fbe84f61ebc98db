"""What a robustness check does to the features of held out rows: a union, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from millrace.spec.base import Mistakes, Model


class _Perturbed(Model):
    """Features, and bounds on what the perturbation does; all features of one perturbation are changed at once."""

    columns: tuple[str, ...] = Field(min_length=1, description="Features that the FeatureService serves.")
    max_loss_rise: float | None = Field(default=None, ge=0, description="Rise of the mean loss, in loss units.")
    max_change: float | None = Field(
        default=None, ge=0,
        description="Mean size of a prediction's change; of probabilities of classes: half of their sum.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _bounded(self) -> _Perturbed:
        if self.max_loss_rise is None and self.max_change is None:
            wrong = Mistakes()
            wrong.add("needs max_loss_rise or max_change: a perturbation without a bound says nothing", "kind")
            wrong.done()
        return self


class Noise(_Perturbed):
    """Normal noise is added to numbers."""

    kind: Literal["noise"]
    of: ClassVar[str | None] = "number"
    scale: float = Field(gt=0, description="Its standard deviation, as a share of that of the held out rows.")


class Missing(_Perturbed):
    """Values are missing, together in a row."""

    kind: Literal["missing"]
    of: ClassVar[str | None] = None
    share: float = Field(default=1, gt=0, le=1, description="Share of rows, drawn at random.")


class UnitChange(_Perturbed):
    """Numbers come in another unit: times `factor`, plus `offset`. What is bounded is how much a mistake of this kind
    that no gate caught would do."""

    kind: Literal["unit_change"]
    of: ClassVar[str | None] = "number"
    factor: float = Field(gt=0, description="Such as 1.609344 for miles that come as kilometres.")
    offset: float = Field(default=0, description="Such as 32, with the factor 1.8, for °C that come as °F.")


class UnseenCategory(_Perturbed):
    """Texts are of a category that training never had."""

    kind: Literal["unseen_category"]
    of: ClassVar[str | None] = "category"
    share: float = Field(default=1, gt=0, le=1, description="Share of rows, drawn at random.")


class Monotonic(Model):
    """The prediction never falls (`increasing`) or never rises (`decreasing`) as a number grows and all else stays."""

    kind: Literal["monotonic"]
    of: ClassVar[str | None] = "number"
    columns: tuple[str, ...] = Field(min_length=1, description="Served numbers, each by itself.")
    direction: Literal["increasing", "decreasing"] = Field(description="How the prediction moves.")
    max_violations: float = Field(
        default=0, ge=0, lt=1, description="Share of rows whose prediction may move the other way at some step."
    )


Perturbation = Annotated[Noise | Missing | UnitChange | UnseenCategory | Monotonic, Field(discriminator="kind")]
