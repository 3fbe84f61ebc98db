"""Environment and project: where a project runs. The only overlay, and it cannot touch what is approved."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, model_validator

from millrace.spec.base import Mistakes, Model, Name
from millrace.spec.compute import ProfileName
from millrace.spec.compute_overlay import ComputeOverlay
from millrace.spec.durations import Duration
from millrace.spec.training import CRON


class ExternalApprover(Model):
    """Another system whose signed statement a release waits for, beside the persons."""

    name: Name = Field(description="Of the system, in the ledger and in the statement's key.")
    public_key: str = Field(
        description="File of its Ed25519 public key (PEM), from the project's root. Whoever writes it decides."
    )


class ApprovalSpec(Model):
    """Who lets a challenger become champion."""

    by: Literal["human", "auto"] = Field(default="human", description="auto: complete Evidence is enough.")
    expires_after: Duration = Field(default=Duration("P7D"), description="An unanswered request ends as expired.")
    approvers: tuple[str, ...] = Field(
        default=(),
        description="User names that may answer; any whom Airflow lets answer if empty. Never whoever asked for it.",
    )
    needed: int = Field(default=1, ge=1, description="How many distinct approvers must approve.")
    external: tuple[ExternalApprover, ...] = Field(
        default=(), description="Systems that must approve too, each by a signed statement in the store."
    )
    look_every: Duration = Field(
        default=Duration("PT5M"),
        description="How often a waiting request looks whether it was voided, has expired or was decided elsewhere.",
    )

    @model_validator(mode="after")
    def _can_be_given(self) -> ApprovalSpec:
        if self.by == "auto" and (self.approvers or self.needed > 1 or self.external):
            raise ValueError("approvers are asked only where approval is by: human")
        if self.approvers and len(set(self.approvers)) < self.needed:
            raise ValueError(f"{self.needed} must approve, but only {len(set(self.approvers))} approvers are named")
        return self


Happening = Literal["request", "decision", "failed_gate", "alert", "failed_run", "missed_deadline"]
"""What notifiers can be told of: a release that waits for persons, how a release was decided, data that failed its
gate, an alert of monitoring, a run that failed for whatever reason, and one that is not done when it should be."""
Part = Literal["features", "training", "release", "rollback", "monitoring", "retirement"]
"""A pipeline's DAGs, by the end of their ids."""


class Notification(Model):
    """An Airflow notifier, and what it is told of."""

    of: tuple[Happening, ...] = Field(min_length=1, description="What it is told of.")
    notifier: str = Field(
        pattern=r"^[A-Za-z_][\w]*(\.[A-Za-z_]\w*)+$",
        description="Its class, such as airflow.providers.smtp.notifications.smtp.SmtpNotifier.",
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Of the class. Its templated ones may use {{ millrace.subject }}, .text, .link, .happening, "
        ".pipeline and .environment. No secret: those are in the Airflow Connection that it names.",
    )


class Retention(Model):
    """How long versions are kept, and when a DAG of its own looks after that."""

    schedule: str = Field(pattern=CRON, description="Cron expression, on the pipeline's clocks: 0 4 * * *")
    candidates: Duration | None = Field(
        default=None,
        description="How long after its registration a version that never was champion is kept, then it is retired; "
        "for ever if left out.",
    )
    champions: Duration | None = Field(
        default=None,
        description="How long a version is kept after it last was champion. The present one and the one before it, to "
        "which a rollback goes, always are.",
    )
    runs: Duration | None = Field(
        default=None,
        description="How long after its retirement a version stays in MLflow, with its run; for ever if left out.",
    )


class PipelineOverlay(Model):
    """What an environment may change of one pipeline."""

    locations: dict[Name, str] = Field(default_factory=dict, description="Source -> location pattern.")
    scheduled: bool | None = Field(default=None, description="Whether features run by the clock.")
    compute: dict[str, ProfileName] = Field(default_factory=dict, description="Job -> ComputeProfile.")
    approval: ApprovalSpec | None = None
    deadlines: dict[Part, Duration] = Field(default_factory=dict, description="Over those of the environment.")


class Environment(Model):
    """One file in `include/environments/`."""

    version: Literal[1] = Field(description="Version of this format.")
    name: Name = Field(description="The file's name without .yaml.")
    description: str = Field(default="", description="In words, for people.")
    approval: ApprovalSpec = ApprovalSpec()
    notify: tuple[Notification, ...] = Field(default=(), description="Who is told of what, by Airflow's notifiers.")
    deadlines: dict[Part, Duration] = Field(
        default_factory=dict,
        description="DAG -> how long after it was queued a run must be done; else those told of `missed_deadline` are.",
    )
    alerts: Literal["fail", "log"] = Field(
        default="fail",
        description="fail: a monitoring run that ends in an alert fails, without retry; log: it only warns.",
    )
    scheduled: bool = Field(default=True, description="Whether features run by the clock; backfill needs it.")
    aliases: Literal["report", "revert"] = Field(
        default="report",
        description="What is done about an MLflow alias that names another version than the ledger, and about a "
        "deleted run of a version that is kept: `millrace aliases` and the retirement DAG tell it, or set it right.",
    )
    erasure: Literal["quarantine", "report"] = Field(
        default="quarantine",
        description="What becomes of versions that were trained on rows of subjects that withdrew (`millrace erase`).",
    )
    retention: Retention | None = Field(default=None, description="No version is retired by a clock if left out.")
    custom_code: Literal["process", "pods"] = Field(
        default="pods",
        description="Where trainer.py and custom model checks may run; process: all who write pipelines are trusted.",
    )
    compute: ComputeOverlay = Field(
        default_factory=ComputeOverlay, description="Over include/compute.yaml, in this place."
    )
    pipelines: dict[Name, PipelineOverlay] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _somebody_is_told(self) -> Environment:
        wrong = Mistakes()
        overlays = [((), self.deadlines), *((("pipelines", n), o.deadlines) for n, o in self.pipelines.items())]
        for where, deadlines in overlays:
            for part, limit in deadlines.items():
                if not limit:
                    wrong.add("no run is done in no time", *where, "deadlines", part, given=str(limit))
            if deadlines and not any("missed_deadline" in wanted.of for wanted in self.notify):
                wrong.add("nobody is told: no entry of notify has missed_deadline in 'of'", *where, "deadlines")
        wrong.done()
        return self


class Project(Model):
    """`include/project.yaml`: a team's tree."""

    version: Literal[1] = Field(description="Version of this format.")
    name: Name = Field(description="Of the project, in Airflow and in requests.")
    description: str = Field(default="", description="In words, for people.")
    owner: str = Field(min_length=1, description="Whose project it is.")
