"""Events of a ModelVersion: trained for whom, registered with what, champion since when."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Artifact
from millrace.ledger.event import Body, Digest, Event, Text, Upgrade
from millrace.ledger.events.runs import run_key


class TrainingRun(Event):
    """A run of the training DAG took up its work: who asked for it, and the Snapshots that it trains on."""

    kind: ClassVar[str] = "training"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (lambda _, __, body: {**body, "half_life": None},)

    run: Text
    requester: str | None = Field(description="Who started the run; null for the clock and monitoring.")
    decision: str | None
    reason: str
    until: Text
    inputs: tuple[tuple[str, Artifact], ...] = Field(description="Partition and features Snapshot, in order.")
    learner: dict[str, Any] | None = Field(description="The whole learner, where it is not the spec's.")
    half_life: float | None = Field(description="Of the weight of rows, in partitions; null: all count alike.")
    as_of: Text = Field(description="Until when labels count as known, ISO 8601.")

    @property
    def subject(self) -> str:
        """The run."""
        return run_key(self.run)

    @property
    def partitions(self) -> tuple[str, ...]:
        """What it trains on."""
        return tuple(partition for partition, _ in self.inputs)


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
        lambda _, __, body: {**body, "run": None, "requester": None, "fought": None},
    )

    version: int
    model: Artifact
    evidence: Artifact
    decision: str | None = Field(description="Id of the retrain decision that it was trained for.")
    run: str | None = Field(default=None, description="The run of the training DAG that registered it.")
    requester: str | None = Field(default=None, description="Who started that run; null for the clock and monitoring.")
    fought: str | None = Field(default=None, description="Digest of the champion that it was paired with.")

    @property
    def subject(self) -> str:
        """The version."""
        return f"v{self.version}"


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
        lambda _, __, body: {**body, "promotion": None, "signer": None},
    )

    generation: int
    version: int
    evidence: Artifact
    trained: Trained
    release: str | None = Field(description="Id of the release request.")
    reason: str = Field(description="Why it was released, as whoever asked put it.")
    promotion: Artifact | None = Field(default=None, description="The document of it, which is signed with the model.")
    signer: str | None = Field(default=None, description="Digest of the public key of whom signed; null: nobody did.")

    @property
    def subject(self) -> str:
        """The generation."""
        return f"generation/{self.generation}"


class Anchored(Event):
    """The entry that made a version champion was anchored outside the ledger. From then on the promotion counts."""

    kind: ClassVar[str] = "anchored"

    generation: int
    number: int = Field(description="Of the promotion's entry in the pipeline's chain.")
    entry_hash: Digest

    @property
    def subject(self) -> str:
        """The generation."""
        return f"generation/{self.generation}"


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
