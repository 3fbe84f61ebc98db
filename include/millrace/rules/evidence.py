"""Evidence: everything a ModelVersion must carry to be promoted, and the rule that judges it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.canonical import digest
from millrace.contract.artifact import DIGEST_PATTERN
from millrace.errors import EvidenceError

MANUAL = "manual"
"""The `decision` of a training that a person started."""
MODEL_TAG, EVIDENCE_TAG = "millrace.model_digest", "millrace.evidence"
"""Tags of a registered version that say which model it is and which Evidence it carries."""

Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]
Text = Annotated[str, Field(min_length=1)]


class GateRecord(BaseModel):
    """The verdict on one Snapshot that the model was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Text
    partition: Text
    snapshot: Digest
    outcome: Digest = Field(description="Digest of the validate job's outcome.")
    passed: bool


class Evidence(BaseModel):
    """What was trained, on what, how it was judged, and why. Its digest is what an approval approves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: Text
    model: Digest
    training_set: Digest = Field(description="Digest of the training set's Snapshot.")
    evaluation: Digest = Field(description="Digest of the evaluation document.")
    evaluation_outcome: Digest = Field(description="Digest of the evaluate job's outcome.")
    evaluation_passed: bool
    spec_digest: Digest
    code_digest: Digest
    gates: tuple[GateRecord, ...]
    duel: dict[str, Any] | None = Field(
        description="`difference` of mean loss from the champion's, with its interval; null when there was no champion."
    )
    decision: Text = Field(description=f"Id of the retrain decision, or `{MANUAL}`.")
    reason: str = Field(description="Why it was trained, in words.")
    trained_to: Text = Field(description="Last partition of the training window.")
    partitions: tuple[str, ...] = Field(description="The training window, in order.")
    feature_service: Text
    mlflow_run: str | None = Field(description="The MLflow run that holds the model's files under `model/`.")

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Evidence:
        """Read Evidence from JSON. Raises EvidenceError naming the first field that is wrong."""
        try:
            found = cls.model_validate(value)
            digest(found.duel)  # a number that is not finite has no canonical form
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise EvidenceError(f"the Evidence is malformed: {where}: {first['msg']}") from err
        except (TypeError, ValueError) as err:
            raise EvidenceError(f"the Evidence is malformed: duel: {err}") from err
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
    if evidence.duel is not None and not _finite(evidence.duel.get("difference")):
        found.append("its duel has no result")
    elif evidence.duel is None and has_champion:
        found.append("there was no duel with the champion")
    if not evidence.reason.strip():
        found.append("it gives no reason for the training")
    if not evidence.mlflow_run:
        found.append("it names no MLflow run that holds the model's files")
    return found


def check_promotion(
    evidence: Evidence,
    *,
    version: int,
    has_champion: bool,
    approval_needed: bool,
    approved_evidence: str | None,
    registered: Mapping[str, str],
    champion_model: str | None,
) -> None:
    """Raise EvidenceError unless a version may become champion on this Evidence.

    `has_champion`: whether another version is champion. `approved_evidence`: digest of the Evidence that a person
    approved. `registered`: tags of the registered version, which must be of this model and Evidence.
    `champion_model`: digest of the present champion's model, which the duel must have been fought with.
    """
    what = f"{evidence.pipeline} version {version} cannot be promoted"
    if gaps := missing(evidence, has_champion=has_champion):
        raise EvidenceError(f"{what}: {'; '.join(gaps)}", next_step="Train and register it again")
    for tag, mine in ((MODEL_TAG, evidence.model), (EVIDENCE_TAG, evidence.digest)):
        if registered.get(tag) != mine:
            raise EvidenceError(f"{what}: it was registered with another {tag}", given=registered.get(tag),
                                allowed=[mine])  # fmt: skip
    fought = (evidence.duel or {}).get("champion")
    if champion_model is not None and fought not in (None, champion_model):
        raise EvidenceError(
            f"{what}: its duel was with a model that is no longer champion",
            given=fought,
            allowed=[champion_model],
            next_step="Train and register it again",
        )
    if not approval_needed:
        return
    if approved_evidence is None:
        raise EvidenceError(f"{what}: nobody approved it, or a newer challenger voided the request")
    if approved_evidence != evidence.digest:
        raise EvidenceError(f"{what}: what was approved is other Evidence", given=approved_evidence,
                            allowed=[evidence.digest])  # fmt: skip


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
