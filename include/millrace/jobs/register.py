"""register: make a ModelVersion of a trained model, with its Evidence, and call it challenger."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.canonical import canonical_json
from millrace.contract import Outcome
from millrace.errors import EvidenceError
from millrace.jobs.registry import CHALLENGER, TAG, client, find_version, guarded
from millrace.jobs.work import Work
from millrace.rules.evidence import Evidence

REACHES = ("mlflow",)
REUSABLE = False  # the registry may have lost what an earlier result speaks of


class Params(BaseModel):
    """The run that trained the model, and the Evidence as the orchestrator assembled it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mlflow_run: str | None = Field(description="Run whose artifacts under `model/` are the model's files.")
    evidence: dict[str, Any]


def run(work: Work, params: Params) -> Outcome:
    """Store the Evidence, then create the model version once; a run after a kill finds the version made before.

    Raises EvidenceError when the Evidence is malformed or speaks of other bytes than the inputs.
    """
    try:
        evidence = Evidence.model_validate(params.evidence)
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise EvidenceError(f"the Evidence is malformed: {where}: {first['msg']}") from err
    for role in ("model", "training_set", "evaluation"):
        if work.request.input(role).digest != getattr(evidence, role):
            raise EvidenceError(f"the Evidence speaks of another {role}", given=getattr(evidence, role),
                                allowed=[work.request.input(role).digest])
    stored = work.put("evidence", "evidence.json", canonical_json(evidence), "evidence", "application/json")
    uri, name = work.service("mlflow"), work.spec.name
    registry = client(uri)
    with guarded(uri):
        version = find_version(registry, name, evidence.model, stored.digest)
        if version is None:
            _ensure_model(registry, name, work)
            source = f"runs:/{params.mlflow_run}/model" if params.mlflow_run else work.objects.url(
                work.request.key(work.request.input("model")) + "model.json")  # fmt: skip
            registry.create_model_version(
                name, source, run_id=params.mlflow_run, tags=_tags(evidence, stored.digest),
                description=f"Trained to {evidence.trained_to}: {evidence.reason}",
            )  # fmt: skip
            # Two at once may both have created one; both now take the lowest.
            version = find_version(registry, name, evidence.model, stored.digest)
        registry.set_registered_model_alias(name, CHALLENGER, version.version)
    return Outcome(
        outputs={"evidence": stored},
        facts={"name": name, "version": int(version.version), "evidence": stored.digest},
    )


def _ensure_model(registry: Any, name: str, work: Work) -> None:
    from mlflow.exceptions import MlflowException

    try:
        registry.create_registered_model(name, description=work.spec.description)
    except MlflowException as err:
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _tags(evidence: Evidence, digest: str) -> dict[str, str]:
    values = {
        "model_digest": evidence.model, "evidence": digest, "training_set": evidence.training_set,
        "evaluation": evidence.evaluation, "spec_digest": evidence.spec_digest, "code_digest": evidence.code_digest,
        "trained_to": evidence.trained_to, "feature_service": evidence.feature_service, "decision": evidence.decision,
    }  # fmt: skip
    return {TAG + key: value for key, value in values.items()}
