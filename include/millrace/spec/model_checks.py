"""Model checks that a pipeline asks for beside its thresholds and the Duel: `evaluation.checks`, told apart by `type`.

evaluation:
  thresholds: {log_loss: {max: 0.6}}
  checks:
    - {type: calibration, max_error: 0.05}
    - {type: fairness, columns: [origin], metric: log_loss, max_difference: 0.1}
    - {type: robustness, perturbations: [{kind: missing, columns: [wind_speed], max_loss_rise: 0.05}]}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from millrace.spec.base import Mistakes, Model
from millrace.spec.extension import Extensible
from millrace.spec.perturbations import Monotonic, Perturbation

FairnessMetric = Literal[
    "selection_rate", "true_positive_rate", "false_positive_rate", "mean_prediction", "accuracy", "log_loss", "brier",
    "mae", "rmse",
]  # fmt: skip
FAIRNESS: dict[str, tuple[str, ...]] = {
    "binary": ("selection_rate", "true_positive_rate", "false_positive_rate", "mean_prediction", "accuracy",
               "log_loss", "brier"),
    "multiclass": ("accuracy", "log_loss"),
    "regression": ("mean_prediction", "mae", "rmse"),
}  # fmt: skip
"""Task of a label -> what groups can be compared by."""
DECIDED = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
"""Metrics of a binary label that take a decision, not a probability."""


GROUP = "group__{}"
"""Name, in a training set, of a column that rows are only grouped by: no model learns from it."""


class ByType(Model):
    """What the checks of this module share: one name in the verdict for each, and no need of a champion."""

    needs_champion: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """That of the check's verdict."""
        return str(getattr(self, "type"))  # noqa: B009

    def _some(self, *keys: str) -> None:
        """Note a mistake where none of these keys is given."""
        if all(getattr(self, key) is None for key in keys):
            wrong = Mistakes()
            wrong.add(f"needs {' or '.join(keys)}: a check without a bound says nothing", "type")
            wrong.done()


class FairnessCheck(ByType):
    """A metric is alike in groups of rows, as Fairlearn's MetricFrame compares them: largest less least, or least over
    largest. Groups with too few rows are left out of the comparison."""

    type: Literal["fairness"]
    columns: tuple[str, ...] = Field(
        min_length=1, description="Columns that transform.sql makes; the values of each are groups, column by column."
    )
    metric: FairnessMetric = Field(description="What is compared; which there are depends on the label's task.")
    decision: float | None = Field(
        default=None, gt=0, lt=1, description="Probability from which on a row is decided positive (binary label)."
    )
    max_difference: float | None = Field(default=None, ge=0, description="Largest less least group, at most.")
    min_ratio: float | None = Field(default=None, gt=0, le=1, description="Least over largest group, at least.")
    minimum_rows: int = Field(default=100, ge=2, description="Smaller groups are named and not compared.")

    @model_validator(mode="after")
    def _bounded(self) -> FairnessCheck:
        self._some("max_difference", "min_ratio")
        return self


class RobustnessCheck(ByType):
    """The model stands what may happen to its features: each perturbation bounds what it does to the loss or to
    predictions."""

    type: Literal["robustness"]
    perturbations: tuple[Perturbation, ...] = Field(min_length=1, description="What is tried, each by itself.")


class ExplanationsCheck(ByType):
    """SHAP values of held out rows, of all and of slices; their order against the champion's, where there is one."""

    type: Literal["explanations"]
    slices: tuple[str, ...] = Field(
        default=(), description="Columns that transform.sql makes, whose values have an explanation of their own."
    )
    minimum_rows: int = Field(default=50, ge=1, description="Explained rows that a slice needs.")
    top: int = Field(default=5, ge=1, description="How many of the strongest features `min_overlap` speaks of.")
    min_correlation: float | None = Field(
        default=None, ge=-1, le=1, description="Spearman's correlation of the features' order with the champion's."
    )
    min_overlap: float | None = Field(
        default=None, ge=0, le=1, description="Share of the champion's strongest features among the challenger's."
    )


class CalibrationCheck(ByType):
    """Predictions mean what they say, on held out rows. Intercept and slope are of a binary label, in log-odds, or of a
    regression."""

    type: Literal["calibration"]
    bins: int = Field(default=10, ge=2, le=100, description="Bins of equal row counts for the expected error.")
    max_error: float | None = Field(
        default=None, ge=0, description="Expected calibration error (of a multiclass label: of its likeliest class)."
    )
    max_intercept: float | None = Field(
        default=None, ge=0, description="Intercept of the label on the prediction at slope 1, by its distance from 0."
    )
    min_slope: float | None = Field(default=None, description="Slope of the label on the prediction, at least.")
    max_slope: float | None = Field(default=None, description="Slope of the label on the prediction, at most.")

    @model_validator(mode="after")
    def _bounded(self) -> CalibrationCheck:
        self._some("max_error", "max_intercept", "min_slope", "max_slope")
        return self


class LatencyCheck(ByType):
    """Predicting takes no longer than a budget on the machine that evaluates. Times are observed, never part of what
    Evidence digests; whether they kept the budget is."""

    type: Literal["latency"]
    rows: int = Field(default=1, ge=1, le=1_000_000, description="Rows of one prediction, features as a table.")
    max_median_ms: float | None = Field(default=None, gt=0, description="Milliseconds of a prediction, median.")
    max_p99_ms: float | None = Field(default=None, gt=0, description="Milliseconds of a prediction, 99th percentile.")

    @model_validator(mode="after")
    def _bounded(self) -> LatencyCheck:
        self._some("max_median_ms", "max_p99_ms")
        return self


class SizeCheck(ByType):
    """The model's files together are no larger than a budget."""

    type: Literal["size"]
    max_bytes: int = Field(ge=1, description="Bytes of all files of the model.")


class ArtifactCheck(ByType):
    """The model's folder holds the files that model.json names and nothing else, each with its digest, in a format
    that holds no code and is whole to the last byte."""

    type: Literal["artifact"]
    formats: tuple[Literal["ubj", "safetensors", "onnx"], ...] = Field(
        default=("ubj", "safetensors", "onnx"), min_length=1, description="Formats of weights that are allowed."
    )


MODEL_CHECKS = Extensible("millrace.model_checks")


class CustomCheck(ByType):
    """A check from another package, by an entry point in the group `millrace.model_checks`. It runs only where the
    environment lets custom code run."""

    type: Literal["custom"]
    check: Annotated[Any, MODEL_CHECKS] = Field(description="`kind` names the entry point; other keys are its own.")

    @property
    def name(self) -> str:
        """The entry point's name."""
        return str(self.check.kind)


DeclaredCheck = (
    FairnessCheck
    | RobustnessCheck
    | ExplanationsCheck
    | CalibrationCheck
    | LatencyCheck
    | SizeCheck
    | ArtifactCheck
    | CustomCheck
)


def unfit(checks: tuple[DeclaredCheck, ...], task: str) -> Iterator[tuple[tuple[str | int, ...], str, Any, list[str]]]:
    """(keys below `evaluation.checks`, what is wrong, given, allowed) for what a label's task does not have."""
    for number, check in enumerate(checks):
        if isinstance(check, FairnessCheck):
            if check.metric not in FAIRNESS[task]:
                yield (
                    (number, "metric"),
                    f"no metric of groups of a {task} label",
                    check.metric,
                    [*FAIRNESS[task]],
                )
            elif task == "binary" and check.metric in DECIDED and check.decision is None:
                yield (number, "metric"), "needs 'decision': from which probability on is a row positive?", None, []
            elif check.decision is not None and not (task == "binary" and check.metric in DECIDED):
                yield (
                    (number, "decision"),
                    "goes with metrics of decisions, of a binary label",
                    check.metric,
                    [*DECIDED],
                )
        if isinstance(check, CalibrationCheck):
            for key in ("max_intercept", "min_slope", "max_slope"):
                if task == "multiclass" and getattr(check, key) is not None:
                    yield (number, key), "a multiclass label has an expected error only", key, ["max_error"]
            if task == "regression" and check.max_error is not None:
                allowed = ["max_intercept", "min_slope", "max_slope"]
                yield (number, "max_error"), "a regression has no probabilities", "max_error", allowed
        if isinstance(check, RobustnessCheck) and task == "multiclass":
            for place, one in enumerate(check.perturbations):
                if isinstance(one, Monotonic):
                    yield (number, "perturbations", place), "classes have no order to be monotonic in", one.kind, []


def grouped(checks: tuple[DeclaredCheck, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(keys below `evaluation.checks`, column) for each column by whose values rows are grouped."""
    for number, check in enumerate(checks):
        if isinstance(check, FairnessCheck):
            yield from (((number, "columns", place), column) for place, column in enumerate(check.columns))
        if isinstance(check, ExplanationsCheck):
            yield from (((number, "slices", place), column) for place, column in enumerate(check.slices))


def perturbed(checks: tuple[DeclaredCheck, ...]) -> Iterator[tuple[tuple[str | int, ...], str, str | None]]:
    """(keys below `evaluation.checks`, feature, its kind: `number`, `category` or any) for each that is perturbed."""
    for number, check in enumerate(checks):
        if isinstance(check, RobustnessCheck):
            for place, one in enumerate(check.perturbations):
                for position, column in enumerate(one.columns):
                    yield (number, "perturbations", place, "columns", position), column, one.of
