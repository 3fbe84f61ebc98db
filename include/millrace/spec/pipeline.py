"""PipelineSpec: what `pipeline.yaml` says. Frozen, strict about unknown keys, and free of any place or secret."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from millrace.spec.durations import Duration
from millrace.spec.extension import Extensible
from millrace.spec.partitions import Grain, Partitioning

NAME = r"^[a-z][a-z0-9_]{0,62}$"
Name = Annotated[str, Field(pattern=NAME)]
Classification = Literal["public", "internal", "personal"]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartitionSpec(_Spec):
    """How the pipeline's time is cut, and what a partition without data means."""

    grain: Grain
    timezone: str = Field(default="UTC", description="IANA name; partitions begin at local midnight.")
    start: str = Field(description="First partition, such as 2013-01.")
    end: str | None = Field(default=None, description="Last partition; open when left out.")
    missing: Literal["skip", "fail"] = Field(default="fail", description="What a partition without source data means.")
    missing_after: Duration = Field(
        default=Duration("PT0S"), description="How long after the partition's end `missing` applies; until then retry."
    )

    @property
    def partitioning(self) -> Partitioning:
        """The arithmetic of this partition spec."""
        return Partitioning(self.grain, self.timezone)

    @field_validator("start", "end", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else value

    @model_validator(mode="after")
    def _keys(self) -> PartitionSpec:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as err:
            raise ValueError(f"'{self.timezone}' is not an IANA time zone such as America/New_York") from err
        cut = self.partitioning
        start = cut.start(self.start)
        if self.end is not None and cut.start(self.end) < start:
            raise ValueError(f"end {self.end} lies before start {self.start}")
        return self


class _Source(_Spec):
    location: str = Field(
        description="Pattern with the fields {year} {month} {day} {hour} of the partition's local start, or none."
    )
    format: Literal["csv", "parquet", "json"] = "csv"
    compression: Literal["none", "gzip", "zip"] = "none"
    partitioned: bool = Field(default=True, description="False: one static file for all partitions.")
    event_time: str | None = Field(
        default=None, description="Column that dates a row; rows outside the partition fail the gate."
    )
    lookback: Duration = Field(
        default=Duration("PT0S"), description="How far before the partition the transform reads this source."
    )
    gate: str = Field(description="GX suite, path inside the pipeline's folder.")
    columns: tuple[str, ...] = Field(min_length=1, description="Header expected, in any order; nothing else is taken.")
    types: dict[str, Literal["string", "integer", "number", "boolean", "timestamp"]] = Field(
        default_factory=dict, description="Types of columns; string where left out."
    )

    @model_validator(mode="after")
    def _consistent(self) -> _Source:
        fields = set(re.findall(r"\{(\w+)\}", self.location))
        if unknown := fields - {"year", "month", "day", "hour"}:
            raise ValueError(f"location has unknown fields {sorted(unknown)}; allowed: year, month, day, hour")
        if self.partitioned and not fields:
            raise ValueError("a partitioned source's location needs a field such as {year}; or set partitioned: false")
        if not self.partitioned and (fields or self.lookback):
            raise ValueError("a static source (partitioned: false) has neither partition fields nor a lookback")
        if duplicate := {c for c in self.columns if self.columns.count(c) > 1}:
            raise ValueError(f"columns named twice: {sorted(duplicate)}")
        if stray := set(self.types) - set(self.columns):
            raise ValueError(f"types name columns that the source does not have: {sorted(stray)}")
        if self.event_time is not None and self.types.get(self.event_time) != "timestamp":
            raise ValueError(f"event_time '{self.event_time}' must be a column of type timestamp")
        return self


class FilesSource(_Source):
    """Files in a folder, one per partition; relative to the project's root."""

    kind: Literal["files"] = "files"
    engine: ClassVar[str] = "millrace.sources.files:FilesSourceEngine"


class S3Source(_Source):
    """Objects in a bucket; location is `s3://bucket/key`. `connection` names an Airflow Connection, never a secret."""

    kind: Literal["s3"] = "s3"
    connection: str | None = None
    engine: ClassVar[str] = "millrace.sources.s3:S3SourceEngine"


SOURCES = Extensible("millrace.sources", FilesSource, S3Source)
Source = Annotated[Any, SOURCES]


class FeaturesSpec(_Spec):
    """What transform.sql makes: one row per entity and event time."""

    entity: tuple[str, ...] = Field(min_length=1, description="Key columns, the join keys of the Feast entities.")
    event_time: str = Field(default="event_timestamp", description="Column with the moment a row speaks of.")
    created_time: str | None = Field(default=None, description="Column with the moment a row became known.")
    gate: str = Field(default="suites/features.yaml", description="GX suite, path inside the pipeline's folder.")
    service: Name = Field(description="Feast FeatureService that training and scoring read.")


class LabelSpec(_Spec):
    """The column to predict, and when it becomes known."""

    column: str
    task: Literal["binary", "regression"]
    known_after: Duration = Field(description="How long after the event time the label is known.")
    nulls: Literal["drop", "error"] = "drop"


class XGBoostLearner(_Spec):
    """Gradient-boosted trees, saved as UBJ."""

    kind: Literal["xgboost"] = "xgboost"
    rounds: int = Field(default=200, ge=1, le=100_000)
    max_depth: int = Field(default=6, ge=1, le=20)
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    min_child_weight: float = Field(default=1, ge=0)
    subsample: float = Field(default=1, gt=0, le=1)
    colsample_bytree: float = Field(default=1, gt=0, le=1)
    reg_lambda: float = Field(default=1, ge=0)
    segments: int = Field(default=4, ge=1, description="Checkpoints per training; part of what the bytes depend on.")
    engine: ClassVar[str] = "millrace.learners.xgboost:XGBoost"


class TorchMLPLearner(_Spec):
    """A multilayer perceptron, saved as safetensors."""

    kind: Literal["torch_mlp"] = "torch_mlp"
    hidden: tuple[int, ...] = (64, 32)
    epochs: int = Field(default=20, ge=1, le=10_000)
    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    segments: int = Field(default=4, ge=1, description="Checkpoints per training; part of what the bytes depend on.")
    engine: ClassVar[str] = "millrace.learners.torch_mlp:TorchMLP"


LEARNERS = Extensible("millrace.learners", XGBoostLearner, TorchMLPLearner)
Learner = Annotated[Any, LEARNERS]


class HoldoutSpec(_Spec):
    """Rows kept from training: whole blocks of time, chosen by a hash of the block, alike for every model."""

    share: float = Field(default=0.2, gt=0, lt=1)
    block: Literal["hour", "day", "week"] = "day"


class TrainingSpec(_Spec):
    """How a challenger is trained."""

    learner: Learner
    window: Duration = Field(description="Length of the training window, ending with the newest labelled partition.")
    holdout: HoldoutSpec = HoldoutSpec()
    minimum_rows: int = Field(default=1000, ge=1)
    seed: int = 7
    threads: int = Field(default=2, ge=1)
    schedule: str | None = Field(default=None, description="Cron expression for retraining regardless of drift.")


class Threshold(_Spec):
    """Bounds of one holdout metric."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _some(self) -> Threshold:
        if self.min is None and self.max is None:
            raise ValueError("a threshold needs min or max")
        return self


class EvaluationSpec(_Spec):
    """What a challenger must reach, alone and against the champion."""

    thresholds: dict[str, Threshold] = Field(min_length=1, description="Metric name -> bounds on the holdout.")
    duel_tolerance: float = Field(
        default=0.0,
        ge=0,
        description="Largest mean loss above the champion's, in loss units, that the challenger may show.",
    )


class RetrainOn(_Spec):
    """Which reasons may start a retraining."""

    performance: bool = Field(default=True, description="Loss above the champion's own holdout loss, confirmed.")
    age: bool = Field(default=True, description="Champion older than `max_age`.")
    drift: bool = Field(default=True, description="Drift k of n where outcomes are not yet known.")


class MonitoringSpec(_Spec):
    """What is watched, and when a retraining is due."""

    window: Duration | None = Field(
        default=None, description="How far back a check looks, ending with the partition; that partition if left out."
    )
    columns: tuple[str, ...] = Field(default=(), description="Feature columns to watch; all of the service's if empty.")
    minimum_rows: int = Field(default=1000, ge=1)
    sample: int = Field(default=100_000, ge=100, description="Most rows of each side that a report reads.")
    drift_share: float = Field(default=0.5, gt=0, le=1, description="Share of drifted columns that counts as drift.")
    k: int = Field(default=2, ge=1, description="Drifted windows ..")
    n: int = Field(default=3, ge=1, description=".. of the last n that make a decision.")
    false_alarm_rate: float = Field(default=0.01, gt=0, lt=0.5, description="Per window, of the performance test.")
    cooldown: Duration = Field(default=Duration("PT0S"), description="Partition time between retrainings.")
    max_age: Duration | None = Field(default=None, description="Partition time after which a champion is retrained.")
    retrain_on: RetrainOn = RetrainOn()

    @model_validator(mode="after")
    def _k_of_n(self) -> MonitoringSpec:
        if self.k > self.n:
            raise ValueError(f"k ({self.k}) cannot be larger than n ({self.n})")
        if self.retrain_on.age and self.max_age is None and "age" in self.retrain_on.model_fields_set:
            raise ValueError("retrain_on.age needs max_age")
        return self


class PipelineSpec(_Spec):
    """One pipeline. `training`, `evaluation`, `monitoring` and `label` are left out together for features only."""

    version: Literal[1] = Field(description="Version of this format.")
    name: Name
    owner: str = Field(min_length=1)
    description: str = Field(min_length=1)
    tags: tuple[str, ...] = ()
    partition: PartitionSpec
    sources: dict[Name, Source] = Field(min_length=1)
    features: FeaturesSpec
    columns: dict[str, Classification] = Field(
        default_factory=dict, description="Classification of columns; internal where left out."
    )
    label: LabelSpec | None = None
    training: TrainingSpec | None = None
    evaluation: EvaluationSpec | None = None
    monitoring: MonitoringSpec | None = None
    compute: dict[str, Name] = Field(default_factory=dict, description="Job -> ComputeProfile; process where left out.")

    @model_validator(mode="after")
    def _whole(self) -> PipelineSpec:
        if self.training is not None:
            if self.label is None:
                raise ValueError("training needs a label")
            if self.evaluation is None:
                raise ValueError("training needs evaluation thresholds")
        elif self.evaluation or self.monitoring:
            raise ValueError("evaluation and monitoring need training; leave them out of a features-only pipeline")
        return self

    @property
    def partitioning(self) -> Partitioning:
        """Partition arithmetic of this pipeline."""
        return self.partition.partitioning

    def classification(self, column: str) -> Classification:
        """Classification of a column: internal unless said otherwise."""
        return self.columns.get(column, "internal")
