"""Evidence: everything a ModelVersion must carry to be promoted, and the rule that judges it. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millrace.canonical import digest
from millrace.errors import EvidenceError


class GateRecord(BaseModel):
    """The verdict on the features of one partition of the training window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    partition: str
    snapshot: str = Field(description="Digest of the Snapshot that was checked.")
    outcome: str = Field(description="Digest of the validate job's outcome.")
    passed: bool


class Evidence(BaseModel):
    """What was trained, on what, how it was judged, and why. Its digest is what an approval approves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: str
    model: str = Field(description="Digest of the model.")
    training_set: str = Field(description="Digest of the training set's Snapshot.")
    evaluation: str = Field(description="Digest of the evaluation document.")
    evaluation_outcome: str = Field(description="Digest of the evaluate job's outcome.")
    evaluation_passed: bool
    spec_digest: str
    code_digest: str
    gates: tuple[GateRecord, ...]
    duel: dict[str, Any] | None = Field(description="Result against the champion; null when there was none.")
    decision: str = Field(description="Id of the retrain decision, or `manual`.")
    reason: str
    trained_to: str
    partitions: tuple[str, ...]
    feature_service: str
    mlflow_run: str | None

    @property
    def digest(self) -> str:
        """Digest of the canonical JSON."""
        return digest(self)


def missing(evidence: Evidence, *, has_champion: bool) -> list[str]:
    """What keeps this Evidence from carrying a promotion, in plain words; empty when it is complete."""
    found = [
        f"no {name.replace('_', ' ')}"
        for name in ("model", "training_set", "evaluation", "evaluation_outcome", "spec_digest", "code_digest", "reason",
                     "feature_service")
        if not getattr(evidence, name)
    ]  # fmt: skip
    if not evidence.evaluation_passed:
        found.append("the evaluation did not pass")
    if not evidence.partitions:
        found.append("no partitions were trained on")
    passed = {g.partition for g in evidence.gates if g.passed and g.dataset == "features"}
    found += [f"no passed gate for the features of {key}" for key in evidence.partitions if key not in passed]
    if evidence.trained_to not in evidence.partitions:
        found.append(f"trained to {evidence.trained_to}, which is not among its partitions")
    if has_champion and evidence.duel is None:
        found.append("no duel against the champion")
    return found


def check_promotion(
    evidence: Evidence, *, version: int, has_champion: bool, approval_needed: bool, approved_evidence: str | None
) -> None:
    """Raise EvidenceError unless the Evidence is complete and, where asked for, a person approved exactly it."""
    what = f"{evidence.pipeline} version {version} cannot be promoted"
    if gaps := missing(evidence, has_champion=has_champion):
        raise EvidenceError(f"{what}: {'; '.join(gaps)}", next_step="Train and register it again")
    if approval_needed and approved_evidence is None:
        raise EvidenceError(f"{what}: nobody approved it, or a newer challenger voided the request")
    if approval_needed and approved_evidence != evidence.digest:
        raise EvidenceError(f"{what}: what was approved is other Evidence", given=approved_evidence,
                            allowed=[evidence.digest])
