"""Events of monitoring: what was seen of a window, and the decisions to retrain."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from millrace.ledger.event import Event, Text, Upgrade


class Asked(BaseModel):
    """A partition that gave a reason to retrain, or somebody who asked when it was the newest one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: Text
    reason: Text
    message: str = Field(default="", description="In whose words, where it was asked for; a window has its record.")

    def __str__(self) -> str:
        return f"{self.partition}: {self.reason}" + (f": {self.message}" if self.message else "")


class RetrainDecision(Event):
    """A recorded decision to retrain on the data up to `partition`. `number` counts the pipeline's decisions.

    `reason` is a trigger's, or `manual`, `external` or `schedule` where a run was asked for.

    Whatever asked while it waited, or while one waited whose place it took, is `asked`: one retraining answers all.
    `id` names its DAG run (`retrain__<id>`) and differs between attempts, as a run id cannot be used twice.
    """

    kind: ClassVar[str] = "retrain"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (
        lambda _, subject, body: {
            "id": subject,
            **{name: value for name, value in body.items() if name != "body"},
            "message": str(body["body"].get("message", "")),
        },
        lambda _, __, body: {
            **body,
            "half_life": None,
            "asked": [{"partition": body["partition"], "reason": body["reason"]}],
        },
        lambda _, __, body: {**body, "began": None},
    )

    id: Text
    partition: Text
    attempt: int
    number: int
    reason: str
    message: str
    asked: tuple[Asked, ...] = Field(min_length=1, description="In the order in which they asked, each once.")
    half_life: float | None = Field(description="Of the weight of rows, in partitions; None: all count alike.")
    state: Literal["waiting", "running", "done", "failed", "superseded"] = "waiting"
    run_id: str | None = None
    began: str | None = Field(default=None, description="When its run took it up, ISO 8601; null before, and if old.")
    note: str | None = None

    @property
    def subject(self) -> str:
        """The decision."""
        return self.id

    @property
    def why(self) -> str:
        """Its reason for a person, with all partitions that asked where there are several."""
        others = f" (asked for by {', '.join(map(str, self.asked))})"
        return f"{self.reason}: {self.message}{others if len(self.asked) > 1 else ''}"


class MonitoredWindow(Event):
    """What monitoring saw of one partition under one champion, and decided."""

    kind: ClassVar[str] = "monitoring"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (
        lambda _, __, body: {**body, "window": {**body["window"], "gain": None}, "probe": None},
        lambda _, __, body: {**body, "window": {**body["window"], "new": None, "changed": []}},
    )

    partition: Text
    champion: int = Field(description="Its version.")
    action: str
    reason: str
    message: str
    window: dict[str, Any] = Field(description="What the governor was shown.")
    drift: dict[str, Any] = Field(description="Facts of the drift job.")
    performance: dict[str, Any] | None = Field(description="Facts of the performance job.")
    probe: dict[str, Any] | None = Field(description="Facts of the probe job, with the CPU seconds that it took.")

    @property
    def subject(self) -> str:
        """Champion's version and partition."""
        return f"v{self.champion}/{self.partition}"


class Unmonitored(Event):
    """A partition that no champion of now was compared with: there was none, or another was promoted meanwhile."""

    kind: ClassVar[str] = "decision"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (
        lambda _, subject, body: {"partition": subject, "reason": body["reason"]},
    )

    partition: Text
    reason: Literal["no_champion", "champion_changed"] = "no_champion"

    @property
    def subject(self) -> str:
        """The partition."""
        return self.partition
