"""The kinds of events, each with the upgrades of its older forms; see `event`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Artifact
from millrace.core.errors import LedgerError
from millrace.ledger.event import Body, Digest, Event, Text, Upgrade


class GateVerdict(Event):
    """A gate was run on a Snapshot."""

    kind: ClassVar[str] = "gate"

    dataset: Text
    partition: Text
    snapshot: Digest
    outcome: Digest = Field(description="Digest of the validate job's outcome.")
    passed: bool

    @property
    def subject(self) -> str:
        """Dataset and partition."""
        return f"{self.dataset}/{self.partition}"


class Registered(Event):
    """A ModelVersion was registered with its Evidence."""

    kind: ClassVar[str] = "registered"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (
        lambda pipeline, _, body: {
            **body,
            "model": _model(pipeline, body["model"]),
            "evidence": _evidence(pipeline, body["evidence"]),
            "decision": None,
        },
    )

    version: int
    model: Artifact
    evidence: Artifact
    decision: str | None = Field(description="Id of the retrain decision that it was trained for.")

    @property
    def subject(self) -> str:
        """The version."""
        return f"v{self.version}"


class ReleaseRequest(Event):
    """Somebody asks that a version become champion. Its `id` names version, Evidence and the generation it would
    follow, so that what was decided about it decides nothing about the version at another time."""

    kind: ClassVar[str] = "approval"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (
        lambda _, subject, body: {
            "id": subject,  # the version: such a request is read and can be voided, but no more promoted
            "version": body["version"],
            "evidence": body["evidence_digest"],
            "expected_generation": None,
            "rollback": False,
            "reason": "",
            "runs": (),
            "state": body["state"],
            "by": body["by"],
            "newer": body["newer"],
            "note": None,
        },
    )

    id: Text
    version: int
    evidence: Digest = Field(description="What was shown to whoever answers.")
    expected_generation: int | None
    rollback: bool = Field(description="Whether the version was champion before.")
    reason: str = ""
    runs: tuple[str, ...] = Field(default=(), description="Runs of the release DAG that ask for it.")
    state: Literal["waiting", "approved", "rejected", "void", "refused", "promoted"] = "waiting"
    by: str | None = Field(default=None, description="Who answered.")
    newer: int | None = Field(default=None, description="Version of the challenger that voided it.")
    note: str | None = Field(default=None, description="Why the check before promotion refused it.")

    @property
    def subject(self) -> str:
        """The request."""
        return self.id


class Trained(BaseModel):
    """What a ModelVersion is made of: all that scoring and monitoring need of a champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Artifact
    training_set: Artifact
    evaluation: Artifact
    trained_to: str
    partitions: tuple[str, ...]
    reason: str = Field(description="Why it was trained.")
    mlflow_run: str | None


class Promoted(Event):
    """A version became champion. Its subject is the generation, of which a pipeline has each once."""

    kind: ClassVar[str] = "promoted"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (
        lambda pipeline, _, body: {
            "generation": body["generation"],
            "version": body["version"],
            "evidence": _evidence(pipeline, body["evidence"]),
            "trained": body["body"],
            "release": None,
            "reason": "",
        },
    )

    generation: int
    version: int
    evidence: Artifact
    trained: Trained
    release: str | None = Field(description="Id of the release request.")
    reason: str = Field(description="Why it was released, as whoever asked put it.")

    @property
    def subject(self) -> str:
        """The generation."""
        return f"generation/{self.generation}"


class RetrainDecision(Event):
    """A recorded decision to retrain on the data up to `partition`. `number` counts the pipeline's decisions.

    `id` names its DAG run (`retrain__<id>`) and differs between attempts, as a run id cannot be used twice.
    """

    kind: ClassVar[str] = "retrain"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (
        lambda _, subject, body: {
            "id": subject,
            **{name: value for name, value in body.items() if name != "body"},
            "message": str(body["body"].get("message", "")),
        },
    )

    id: Text
    partition: Text
    attempt: int
    number: int
    reason: str
    message: str
    state: Literal["waiting", "running", "done", "failed", "superseded"] = "waiting"
    run_id: str | None = None
    note: str | None = None

    @property
    def subject(self) -> str:
        """The decision."""
        return self.id


class MaterializedWindow(Event):
    """One partition of a feature view as it was last written online."""

    kind: ClassVar[str] = "materialized"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (
        lambda _, subject, body: {**dict(zip(("view", "partition"), subject.split("/", 1), strict=True)), **body},
    )

    view: Text
    partition: Text
    snapshot: Text
    rows: int

    @property
    def subject(self) -> str:
        """View and partition."""
        return f"{self.view}/{self.partition}"


class MonitoredWindow(Event):
    """What monitoring saw of one partition under one champion, and decided."""

    kind: ClassVar[str] = "monitoring"

    partition: Text
    champion: int = Field(description="Its version.")
    action: str
    reason: str
    message: str
    window: dict[str, Any] = Field(description="What the governor was shown.")
    drift: dict[str, Any] = Field(description="Facts of the drift job.")
    performance: dict[str, Any] | None = Field(description="Facts of the performance job.")

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


KINDS: Mapping[str, type[Event]] = {
    each.kind: each
    for each in (
        GateVerdict, Registered, ReleaseRequest, Promoted, RetrainDecision, MaterializedWindow, MonitoredWindow,
        Unmonitored,
    )
}  # fmt: skip
STATES: tuple[type[Event], ...] = (Promoted, RetrainDecision, ReleaseRequest)
"""Events that follow from how things stand: the ledger writes them itself, in the transaction that looked."""


def read(pipeline: str, kind: str, subject: str, body: Mapping[str, Any]) -> Event:
    """The event of an entry. Raises LedgerError for a kind or version that this Millrace does not know."""
    if kind not in KINDS:
        raise LedgerError("an entry of a kind that this version of Millrace does not know", given=kind, allowed=KINDS,
                          next_step="Install the version that wrote it")  # fmt: skip
    return KINDS[kind].read(pipeline, subject, body)


def _model(pipeline: str, digest: str) -> Body:
    """Where version 1 kept a model, of which it wrote the digest only. That is past and follows no `store.layout`."""
    return {"uri": f"models/{pipeline}/{digest.removeprefix('sha256:')}/", "digest": digest, "kind": "model"}


def _evidence(pipeline: str, digest: str) -> Body:
    return {
        "uri": f"evidence/{pipeline}/{digest.removeprefix('sha256:')}/evidence.json",
        "digest": digest,
        "kind": "evidence",
        "media_type": "application/json",
    }
