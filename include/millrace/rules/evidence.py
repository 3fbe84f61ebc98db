"""Evidence: everything a ModelVersion must carry to be promoted, and the rule that judges it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from millrace.contract import Artifact, Metric
from millrace.core.canonical import digest
from millrace.core.errors import EvidenceError
from millrace.rules.provenance import (
    CheckRecord,
    Cost,
    Decided,
    Digest,
    GateRecord,
    Imported,
    Text,
    Training,
    gaps,
)

MANUAL = "manual"
"""The `decision` of a training that a person started."""
MODEL_TAG, EVIDENCE_TAG, RUN_TAG = "millrace.model_digest", "millrace.evidence", "millrace.run"
"""Tags of a registered version that say which model it is, which Evidence it carries, and which run made it."""


_PLACES = {
    "model": "models/{pipeline}/*/",
    "training_set": "snapshots/{pipeline}/training_set/*/",
    "evaluation": "evaluations/{pipeline}/*/evaluation.json",
}
"""Where version 1 kept the artifacts of Evidence. That is past and follows no `store.layout`."""
_KINDS = {"model": "model", "training_set": "snapshot", "evaluation": "evaluation"}


PRESENT = 3
"""The version of Evidence that is written now."""
NEW = ("requester", "decided", "parity", "training", "metrics", "checks", "cost", "imported")
"""Fields that came with version 3."""


class Evidence(BaseModel):
    """What was trained, on what, how it was judged, and why. Its digest is what an approval approves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    evidence_version: Literal[1, 2, 3] = Field(
        default=3,
        description="Version 1 held digests where Artifacts stand now; what version 3 added stands at the end.",
    )
    pipeline: Text
    model: Artifact
    training_set: Artifact = Field(description="The training set's Snapshot.")
    evaluation: Artifact = Field(description="The evaluation document.")
    evaluation_outcome: Digest = Field(description="Digest of the evaluate job's outcome.")
    evaluation_passed: bool
    spec_digest: Digest
    code_digest: Digest
    gates: tuple[GateRecord, ...]
    duel: dict[str, Any] | None = Field(
        description="`difference` of mean loss from the champion's, or from a constant's; its interval, slices and "
        "both models' digests. Null, or without digests, in Evidence of earlier versions."
    )
    decision: Text = Field(description=f"Id of the retrain decision, or `{MANUAL}`.")
    reason: str = Field(description="Why it was trained, in words.")
    trained_to: Text = Field(description="Last partition of the training window.")
    partitions: tuple[str, ...] = Field(description="The training window, in order.")
    feature_service: Text
    mlflow_run: str | None = Field(description="The MLflow run that holds the model's files under `model/`.")
    requester: str | None = Field(default=None, description="Who started the training; null for clock and monitoring.")
    decided: Decided | None = Field(default=None, description="The retrain decision; null for a training by hand.")
    parity: tuple[GateRecord, ...] | None = Field(
        default=None, description="Verdicts on online against offline features, of the partitions that have one."
    )
    training: Training | None = Field(default=None, description="How it was trained; null for an imported model.")
    metrics: dict[str, Metric] | None = Field(default=None, description="On held out rows, with their intervals.")
    checks: tuple[CheckRecord, ...] | None = Field(default=None, description="All model checks, with their outcome.")
    cost: tuple[Cost, ...] | None = Field(default=None, description="What the jobs used.")
    imported: Imported | None = Field(default=None, description="Where it comes from, if it was not trained here.")

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, value: Any) -> Any:
        """Evidence of version 1 named its artifacts by digest alone; where they lay is written here once."""
        if not isinstance(value, Mapping) or "evidence_version" in value or not isinstance(value.get("model"), str):
            return value
        places = {role: place.format(pipeline=value.get("pipeline")) for role, place in _PLACES.items()}
        artifacts = {
            role: {"uri": places[role].replace("*", str(value.get(role)).removeprefix("sha256:")),
                   "digest": value.get(role), "kind": _KINDS[role]}
            for role in places
        }  # fmt: skip
        return {**value, **artifacts, "evidence_version": 1}

    @model_validator(mode="after")
    def _of_its_version(self) -> Evidence:
        """What a version did not have, no document of it can say: it would be lost when it is written."""
        if self.evidence_version < 3 and (said := [name for name in NEW if getattr(self, name) is not None]):
            raise ValueError(f"version {self.evidence_version} has no field {said[0]}")
        return self

    @model_serializer(mode="wrap")
    def _as_it_was(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A document is written as its version wrote it: its digest is what an approval and a tag name."""
        value: dict[str, Any] = written(self)
        if self.evidence_version < 3:
            for name in NEW:
                del value[name]
        if self.evidence_version == 1:
            del value["evidence_version"]
            value.update({role: getattr(self, role).digest for role in _PLACES})
        return value

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Evidence:
        """Read Evidence from JSON. Raises EvidenceError naming the first field that is wrong."""
        try:
            found = cls.model_validate(value)
            # A number that is not finite has no canonical form.
            digest([found.duel, found.training.learner if found.training else None])
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise EvidenceError(f"the Evidence is malformed: {where}: {first['msg']}") from err
        except (TypeError, ValueError) as err:
            raise EvidenceError(f"the Evidence is malformed: duel or learner: {err}") from err
        return found

    @property
    def digest(self) -> str:
        """Digest of the canonical JSON."""
        return digest(self)


def missing(evidence: Evidence, *, has_champion: bool) -> list[str]:
    """What keeps this Evidence from carrying a promotion, in plain words; empty when it is complete."""
    found = []
    if not evidence.evaluation_passed:
        found.append("the evaluation did not pass")
    if not evidence.partitions:
        found.append("it names no partition that was trained on")
    elif evidence.trained_to != evidence.partitions[-1]:
        found.append(f"it was trained to {evidence.partitions[-1]}, but says {evidence.trained_to}")
    passed = {g.partition for g in evidence.gates if g.passed and g.dataset == "features"}
    found += [f"no passed gate for the features of {key}" for key in evidence.partitions if key not in passed]
    found += [f"the gate of {g.dataset} {g.partition} did not pass" for g in evidence.gates if not g.passed]
    found += _of_duel(evidence.duel, evidence.model.digest, has_champion=has_champion)
    if not evidence.reason.strip():
        found.append("it gives no reason for the training")
    if not evidence.mlflow_run:
        found.append("it names no MLflow run that holds the model's files")
    if evidence.evidence_version >= 3:
        parts = ("gates", "parity", "metrics", "checks", "cost", "training", "imported")
        found += gaps(**{name: getattr(evidence, name) for name in parts})
    return found


def _of_duel(duel: Mapping[str, Any] | None, model: str, *, has_champion: bool) -> list[str]:
    """What is wrong with a duel. Earlier versions named no challenger and no result."""
    if duel is None:
        return ["there was no duel with the champion"] if has_champion else []
    if not _finite(duel.get("difference")):
        return ["its duel has no result"]
    found = []
    if duel.get("challenger", model) != model:
        found.append(f"its duel was fought by another model, {duel['challenger']}")
    if duel.get("result", "passed") != "passed":
        found.append("its duel was not passed")
    if duel.get("champion") == model:
        found.append("its duel was with itself")
    return found


def check_release(
    evidence: Evidence,
    *,
    version: int,
    registered: Mapping[str, str],
    champion_model: str | None,
    was_champion: bool,
    reason: str,
) -> None:
    """Raise EvidenceError unless this Evidence carries the release of a version, whoever must approve it.

    `registered`: tags of the registered version, which must be of this model and Evidence. `champion_model`: digest of
    the present champion's model, None without one, which the duel must have been fought with. A version that
    `was_champion` on this Evidence may come back without a duel, for a `reason`.
    """
    what = f"{evidence.pipeline} version {version} cannot be promoted"
    for tag, mine in ((MODEL_TAG, evidence.model.digest), (EVIDENCE_TAG, evidence.digest)):
        if registered.get(tag) != mine:
            raise EvidenceError(f"{what}: it was registered with another {tag}", given=registered.get(tag),
                                allowed=[mine])  # fmt: skip
    if gaps := missing(evidence, has_champion=champion_model is not None and not was_champion):
        raise EvidenceError(f"{what}: {'; '.join(gaps)}", next_step="Train and register it again")
    if was_champion:
        if not reason.strip():
            raise EvidenceError(f"{what}: it was champion before, and a rollback needs a reason",
                                next_step="Fill in the field 'reason'")  # fmt: skip
        return
    fought = (evidence.duel or {}).get("champion")
    if champion_model is not None and fought != champion_model:
        constant = (evidence.duel or {}).get("against") == "constant"
        other = "a constant, and now there is a champion" if constant else "a model that is no longer champion"
        raise EvidenceError(
            f"{what}: its duel was with {other}",
            given=fought,
            allowed=[champion_model],
            next_step="Train and register it again",
        )


def check_approval(evidence: Evidence, *, version: int, approved_evidence: str | None) -> None:
    """Raise EvidenceError unless a person approved exactly this Evidence, whose digest is `approved_evidence`."""
    what = f"{evidence.pipeline} version {version} cannot be promoted"
    if approved_evidence is None:
        raise EvidenceError(f"{what}: nobody approved it, or a newer challenger voided the request")
    if approved_evidence != evidence.digest:
        raise EvidenceError(f"{what}: what was approved is other Evidence", given=approved_evidence,
                            allowed=[evidence.digest])  # fmt: skip


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
