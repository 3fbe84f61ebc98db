"""What a pipeline predicts, and how a challenger is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from millrace.spec.base import Model
from millrace.spec.durations import Duration
from millrace.spec.learner import Learner

METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("log_loss", "brier", "roc_auc"),
    "multiclass": ("log_loss", "accuracy", "macro_f1"),
    "regression": ("rmse", "mae", "r2"),
}
"""Task of a label -> metrics of a holdout that thresholds can bound."""
CRON = r"^(@(hourly|daily|weekly|monthly|yearly)|[-0-9*/,]+( [-0-9A-Za-z*/,#]+){4})$"


class LabelSpec(Model):
    """The column to predict, and when it becomes known."""

    column: str = Field(description="Column that transform.sql makes.")
    task: Literal["binary", "multiclass", "regression"] = Field(
        description="binary: 0, 1 or booleans; multiclass: classes as text or integers; regression: finite numbers. "
        "Anything else is an error, not a label."
    )
    known_after: Duration = Field(description="How long after the event time the label is known.")
    nulls: Literal["drop", "error"] = Field(
        default="drop",
        description="What a label that is null (or NaN, which means the same) does in a training set: its row is left "
        "out, or it is an error.",
    )


class HoldoutSpec(Model):
    """Rows kept from training: whole blocks of time, chosen by a hash of the block, alike for every model."""

    share: float = Field(default=0.2, gt=0, lt=1, description="Share of the blocks that is kept.")
    block: Literal["hour", "day", "week"] = Field(
        default="day", description="Time whose rows belong together, on the pipeline's clocks."
    )


class TrainingSpec(Model):
    """How a challenger is trained."""

    learner: Learner = Field(description="What learns; `kind` says which.")
    window: Duration = Field(description="Length of the training window, ending with the newest labelled partition.")
    holdout: HoldoutSpec = HoldoutSpec()
    minimum_rows: int = Field(default=1000, ge=1, description="Fewer rows are no training set, but an error.")
    seed: int = Field(default=7, description="Of all that is drawn; part of what the bytes depend on.")
    threads: int = Field(default=2, ge=1, description="Of each job; part of what the bytes depend on.")
    schedule: str | None = Field(
        default=None, pattern=CRON, description="Cron expression for retraining regardless of drift: 0 3 * * 1"
    )
