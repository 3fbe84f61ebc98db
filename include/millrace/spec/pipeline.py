"""PipelineSpec: what `pipeline.yaml` says. Frozen, strict about unknown keys, and free of any place or secret."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from millrace.core.errors import SpecError
from millrace.spec.base import Classification, Mistakes, Model, Name
from millrace.spec.compute import TIME_LIMIT, ProfileName
from millrace.spec.durations import Duration
from millrace.spec.embedding import Embedding
from millrace.spec.evaluation import EvaluationSpec
from millrace.spec.inventory import Inventory
from millrace.spec.jobs import TaskJob
from millrace.spec.media import EMBEDDED, UNEXPLAINED, coordinates
from millrace.spec.model_checks import unfit
from millrace.spec.monitoring import MonitoringSpec
from millrace.spec.partitions import Grain, Partitioning, is_timezone, keeps_its_clocks
from millrace.spec.serving import RESERVED, ServingSpec
from millrace.spec.source import NEEDED, Source, location_fields
from millrace.spec.training import METRICS, LabelSpec, TrainingSpec


class PartitionSpec(Model):
    """How the pipeline's time is cut, and what a partition without data means."""

    grain: Grain = Field(description="How long a partition is.")
    timezone: str = Field(
        default="UTC", description="IANA name; partitions begin at local midnight, and transform.sql reads clocks."
    )
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
        wrong = Mistakes()
        known = is_timezone(self.timezone)
        if not known:
            wrong.add("not an IANA time zone such as America/New_York", "timezone", given=self.timezone)
        if known and self.grain == "hour" and not keeps_its_clocks(self.timezone):
            wrong.add("hours need a time zone whose clocks never change: a changed hour has two names or none",
                      "timezone", given=self.timezone, allowed=["UTC", "Etc/GMT+5"])  # fmt: skip
        partitioning = Partitioning(self.grain, self.timezone if known else "UTC")
        found = {}
        for key in ("start", "end"):
            if (given := getattr(self, key)) is not None:
                try:
                    found[key] = partitioning.start(given)
                except SpecError as err:
                    wrong.add(err.message, key, allowed=err.allowed)
        if len(found) == 2 and found["end"] < found["start"]:
            wrong.add(f"lies before start {self.start}", "end", given=self.end)
        wrong.done()
        return self


UNRECORDED = "unrecorded"
"""The recipe of features that were made before recipes were kept."""
RecipeName = Annotated[str, Field(pattern=rf"^({UNRECORDED}|[0-9a-f]{{12,64}})$")]


class FeaturesSpec(Model):
    """What transform.sql makes: one row per entity and event time."""

    entity: tuple[str, ...] = Field(min_length=1, description="Key columns, the join keys of the Feast entities.")
    event_time: str = Field(default="event_timestamp", description="Column with the moment a row speaks of.")
    created_time: str | None = Field(default=None, description="Column with the moment a row became known.")
    engine: Literal["duckdb", "spark"] = Field(default="duckdb", description="What runs transform.sql.")
    gate: str = Field(default="suites/features.yaml", description="GX suite, path inside the pipeline's folder.")
    service: Name = Field(description="Feast FeatureService that training and scoring read.")
    embedding: Embedding | None = Field(default=None, description="What makes numbers of a source of images or texts.")
    compatible: tuple[RecipeName, ...] = Field(
        default=(), description="Earlier recipes whose features may stand beside those of the present one in training."
    )

    @property
    def embedded(self) -> dict[str, str]:
        """Columns of the view `embedded` with their types; none without an embedding."""
        if self.embedding is None:
            return {}
        numbers = [*coordinates(self.embedding.dimensions), UNEXPLAINED]
        return {"digest": "string", **dict.fromkeys(numbers, "number")}


class PipelineSpec(Model):
    """One pipeline. `training`, `evaluation`, `monitoring` and `label` are left out together for features only."""

    version: Literal[1] = Field(description="Version of this format.")
    name: Name = Field(description="The folder's name.")
    owner: str = Field(min_length=1, description="Whose pipeline it is; shown in Airflow.")
    description: str = Field(min_length=1, description="What it answers, in words; shown in Airflow.")
    tags: tuple[str, ...] = Field(default=(), description="Tags of its DAGs.")
    inventory: Inventory | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="What the model inventory says of its model.",
    )
    partition: PartitionSpec
    sources: dict[Name, Source] = Field(
        min_length=1, description="Where data come from, by the name that the SQL reads."
    )
    features: FeaturesSpec
    columns: dict[str, Classification] = Field(
        default_factory=dict, description="Classification of columns; internal where left out."
    )
    label: LabelSpec | None = None
    training: TrainingSpec | None = None
    evaluation: EvaluationSpec | None = None
    monitoring: MonitoringSpec | None = None
    serving: ServingSpec | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="How its champion answers over HTTP; it does not if left out.",
    )
    compute: dict[str, ProfileName] = Field(
        default_factory=dict, description="Job -> ComputeProfile; process where left out."
    )
    time_limits: dict[TaskJob, Duration] = Field(
        default_factory=dict,
        description=f"Job -> longest time it may run, then it is ended; {TIME_LIMIT} where left out.",
    )

    @model_validator(mode="after")
    def _whole(self) -> PipelineSpec:
        wrong = Mistakes()
        if self.training is not None:
            if self.label is None:
                wrong.add("training needs a label: the key 'label' is missing", "training")
            if self.evaluation is None:
                wrong.add("training needs thresholds: the key 'evaluation' is missing", "training")
        else:
            for key in ("evaluation", "monitoring", "serving"):
                if getattr(self, key) is not None:
                    wrong.add("needs training; leave it out of a features-only pipeline", key)
        if self.evaluation is not None and self.label is not None:
            for metric in self.evaluation.thresholds:
                if metric not in METRICS[self.label.task]:
                    wrong.add(f"no metric of a {self.label.task} label", "evaluation", "thresholds", metric,
                              given=metric, allowed=METRICS[self.label.task])  # fmt: skip
            self.evaluation.duel.check(wrong, self.label.task, self.classification)
            for loc, text, given, allowed in unfit(self.evaluation.checks, self.label.task):
                wrong.add(text, "evaluation", "checks", *loc, given=given, allowed=allowed or None)
        embedding = self.features.embedding
        taken = {"scope"} if embedding is None else {"scope", EMBEDDED}
        if embedding is not None:
            fitting = [name for name, source in self.sources.items() if source.format == embedding.takes]
            if embedding.source not in fitting:
                wrong.add(f"'{embedding.kind}' takes a source of {embedding.takes}", "features", "embedding", "source",
                          given=embedding.source, allowed=fitting)  # fmt: skip
            if self.features.engine != "duckdb":
                wrong.add("an embedding needs the engine duckdb", "features", "engine", given=self.features.engine)
        for name, source in self.sources.items():
            if name in taken:
                wrong.add(f"the SQL has a view '{name}' already; name the source otherwise", "sources", name)
            for column, kind in source.types.items():
                if kind == "time" and self.features.engine == "spark":
                    wrong.add("Spark has no time of day: declare it string",
                              "sources", name, "types", column, given=kind)  # fmt: skip
            if problem := self.location_problem(name, source.location):
                wrong.add(problem, "sources", name, "location", given=source.location)
        if self.serving is not None:
            for number, key in enumerate(self.features.entity):
                if key in RESERVED:
                    wrong.add("served predictions have a column of that name: name the key otherwise",
                              "features", "entity", number, given=key)  # fmt: skip
        for job, limit in self.time_limits.items():
            if not limit:
                wrong.add("no job is done in no time", "time_limits", job, given=str(limit))
        wrong.done()
        return self

    def location_problem(self, source: str, location: str) -> str | None:
        """Why a pattern cannot be a source's location in this pipeline, None when it can."""
        model = self.sources[source]
        check = getattr(model, "location_problem", None)  # a kind from elsewhere may have patterns of its own
        if check is None:
            return None
        if problem := check(location):
            return str(problem)
        lacking = [f"{{{f}}}" for f in NEEDED[self.partition.grain] if f not in location_fields(location)]
        if model.partitioned and lacking:
            return f"every {self.partition.grain} would read the same file: the location lacks {' and '.join(lacking)}"
        return None

    @property
    def partitioning(self) -> Partitioning:
        """Partition arithmetic of this pipeline."""
        return self.partition.partitioning

    def classification(self, column: str) -> Classification:
        """Classification of a column: internal unless said otherwise."""
        return self.columns.get(column, "internal")
