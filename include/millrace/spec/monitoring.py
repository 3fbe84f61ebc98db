"""What is watched after a model is in use, and what makes a retraining due."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from millrace.spec.base import Mistakes, Model
from millrace.spec.durations import Duration


class RetrainOn(Model):
    """Which reasons may start a retraining."""

    performance: bool = Field(
        default=True, description="Loss above the champion's own holdout loss, confirmed, where no probe was made."
    )
    gain: bool = Field(
        default=True,
        description="What probes say that a retraining wins, once it is worth `retrain.cost`. There are none with a "
        "`window` of several partitions, which overlap, and in partitions of fewer than five blocks of the holdout.",
    )
    age: bool | None = Field(
        default=None, description="Champion older than `max_age`; where left out, so it is once `max_age` is given."
    )
    new_data: bool | None = Field(
        default=None, description="`new_partitions` or more were published; where left out, so it is once that is set."
    )
    changed: bool = Field(
        default=False,
        description="Features, label, learner, training or code are no longer those of the champion's training, and "
        "all partitions of the window are made anew where that is needed.",
    )
    drift: bool = Field(default=True, description="Drift k of n where outcomes are not yet known.")


class Budget(Model):
    """How often a pipeline is retrained at most by monitoring."""

    retrainings: int = Field(ge=1, description="Most retrainings ..")
    period: Duration = Field(description=".. in this much partition time, ending with the partition that asks.")


class RetrainSpec(Model):
    """What a retraining costs, and how it is found out what it would win."""

    cost: float = Field(
        default=0.005,
        ge=0,
        lt=1,
        description="What a retraining must win to be worth it, as a share of the champion's loss over one partition.",
    )
    probe: Literal["sampled", "full"] = Field(
        default="sampled",
        description="sampled: probes of a sample of rows and fewer rounds, against a twin of the "
        "champion trained the same way; full: probes as a retraining would be, against the champion itself.",
    )
    budget: Budget | None = Field(default=None, description="No limit if left out.")


class MonitoringSpec(Model):
    """What is watched, and when a retraining is due."""

    window: Duration | None = Field(
        default=None, description="How far back a check looks, ending with the partition; that partition if left out."
    )
    columns: tuple[str, ...] = Field(default=(), description="Feature columns to watch; all of the service's if empty.")
    minimum_rows: int = Field(default=1000, ge=1, description="A window with fewer rows is not judged.")
    sample: int = Field(default=100_000, ge=100, description="Most rows of the window that a drift check reads.")
    drift_false_alarm_rate: float = Field(
        default=0.01, gt=0, lt=0.5, description="Per window, of all columns together: how often one seems to drift."
    )
    drift_share: float = Field(
        default=0.25, gt=0, le=1, description="Share of the model's attributions on drifted columns that makes drift."
    )
    k: int = Field(default=2, ge=1, description="Drifted windows ..")
    n: int = Field(default=3, ge=1, description=".. of the last n that make a decision.")
    false_alarm_rate: float = Field(default=0.01, gt=0, lt=0.5, description="Per window, of the performance test.")
    cooldown: Duration = Field(default=Duration("PT0S"), description="Partition time between retrainings.")
    max_age: Duration | None = Field(default=None, description="Partition time after which a champion is retrained.")
    new_partitions: int | None = Field(
        default=None, ge=1, description="Partitions published since its training after which a champion is retrained."
    )
    retrain: RetrainSpec = RetrainSpec()
    retrain_on: RetrainOn = RetrainOn()

    @property
    def probes(self) -> bool:
        """Whether probes are made."""
        return self.retrain_on.gain and self.window is None

    @model_validator(mode="after")
    def _k_of_n(self) -> MonitoringSpec:
        wrong = Mistakes()
        if self.k > self.n:
            wrong.add(f"cannot be larger than n ({self.n})", "k", given=self.k)
        if self.max_age is not None and not self.max_age:
            wrong.add("every champion is older than no time at all", "max_age", given=str(self.max_age))
        if self.retrain_on.age and self.max_age is None:
            wrong.add("needs max_age", "retrain_on", "age", given=True)
        if self.retrain_on.new_data and self.new_partitions is None:
            wrong.add("needs new_partitions", "retrain_on", "new_data", given=True)
        wrong.done()
        return self
