"""register: make a ModelVersion of a trained model, with its Evidence, and call it challenger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Outcome
from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import Corrupt, EvidenceError
from millrace.evidence import card
from millrace.jobs.work import Work
from millrace.mlflow.registry import CHALLENGER, CHAMPION, alias_versions, ensure_version
from millrace.mlflow.runs import connect, reaching
from millrace.rules.evidence import EVIDENCE_TAG, MODEL_TAG, PRESENT, RUN_TAG, Evidence, missing
from millrace.store.layout import CARD, SIGNATURE

if TYPE_CHECKING:
    from mlflow import MlflowClient


FILES = "model"
"""Folder of the MLflow run's artifacts with the model's files."""


class Params(BaseModel):
    """The run that trained the model, and the Evidence as the orchestrator assembled it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mlflow_run: str | None = Field(description="Run whose artifacts under `model/` are the model's files.")
    evidence: dict[str, Any] = Field(description="See millrace.rules.evidence.Evidence.")


def run(work: Work, params: Params) -> Outcome:
    """Store the Evidence, then make the version of this model, once for each run however often this is tried.

    What Evidence says of costs, parity and who asked may be another at the next try. A version that a killed try left,
    of the same run, model and evaluation, is made the present Evidence's: whoever asks knows that none of this run is
    on record yet. Without a run, the Evidence itself tells versions apart.

    Raises EvidenceError when the Evidence is incomplete, or speaks of other bytes than the inputs.
    """
    evidence = _checked(work, params)
    stored = work.put("evidence", "evidence.json", canonical_json(evidence), "evidence", "application/json")
    html = card.render(card.read(work.objects, evidence, work.spec))
    page = work.objects.url(card.keep(work.objects, stored, work.spec.name, html))
    work.links["model card"] = page
    uri, name, run_id = work.service("mlflow"), work.spec.name, str(params.mlflow_run)
    client = connect(uri)
    with reaching(uri):
        _check_files(client, run_id, evidence)
        tags = {**_tags(evidence), MODEL_TAG: evidence.model.digest, EVIDENCE_TAG: stored.digest, "millrace.card": page}
        description = f"Trained to {evidence.trained_to}: {evidence.reason}"
        apart: tuple[str, ...] = (MODEL_TAG, EVIDENCE_TAG)
        if work.request.run.run_id:
            tags[RUN_TAG] = f"{work.request.run.dag_id}/{work.request.run.run_id}"
            apart = (MODEL_TAG, RUN_TAG, "millrace.evaluation")
        version = ensure_version(
            client,
            name,
            {tag: tags[tag] for tag in apart},
            about=work.spec.description,
            source=f"runs:/{run_id}/{FILES}",
            run_id=run_id,
            tags=tags,
            description=description,
        )
        number = int(version.version)
        if version.tags.get(EVIDENCE_TAG) != stored.digest:
            for tag, value in tags.items():
                client.set_model_version_tag(name, version.version, tag, value)
            client.update_model_version(name, version.version, description=description)
        # A retry of an older registration must not take the alias from a newer challenger, or from the champion.
        aliases = alias_versions(client, name)
        if number > max(aliases.get(CHALLENGER, 0), aliases.get(CHAMPION, 0)):
            client.set_registered_model_alias(name, CHALLENGER, str(number))
    if uri.startswith(("http://", "https://")):
        work.links["model version"] = f"{uri.rstrip('/')}/#/models/{name}/versions/{number}"
    return Outcome(
        outputs={"evidence": stored},
        facts={"name": name, "version": number, "evidence": stored.digest},
    )


def _checked(work: Work, params: Params) -> Evidence:
    evidence, identity = Evidence.read(params.evidence), work.request.identity
    mine: dict[str, object] = {
        "pipeline": work.spec.name,
        "spec_digest": identity.spec_digest,
        "code_digest": identity.code_digest,
        "partitions": identity.scope,
        "mlflow_run": params.mlflow_run,
    }
    said = {name: getattr(evidence, name) for name in mine}
    for role in ("model", "training_set", "evaluation"):
        item, artifact = work.request.input(role), getattr(evidence, role)
        mine[role], said[role] = f"{item.digest} at {work.request.key(item)}", f"{artifact.digest} at {artifact.uri}"
    for name, value in mine.items():
        if said[name] != value:
            raise EvidenceError(f"the Evidence speaks of another {name}", given=said[name], allowed=[value])
    if evidence.evidence_version < PRESENT:
        raise EvidenceError("new versions are registered with Evidence of the present version",
                            given=evidence.evidence_version, allowed=[PRESENT])  # fmt: skip
    # Whether there is a champion to fight is judged when it comes to the promotion.
    if gaps := missing(evidence, has_champion=False):
        raise EvidenceError(f"a model of {work.spec.name} cannot be registered: {'; '.join(gaps)}")
    document = json.loads(work.get(work.request.input("evaluation")))
    if not (document.get("passed") is True and document.get("model") == evidence.model.digest):
        raise EvidenceError(
            "the evaluation document does not say that this model passed", given=evidence.evaluation.digest
        )
    return evidence


def _check_files(client: MlflowClient, run_id: str, evidence: Evidence) -> None:
    """The model that MLflow hands out must be the one that was judged."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="millrace-") as folder:
        held = {f.path.removeprefix(f"{FILES}/") for f in client.list_artifacts(run_id, FILES)}
        if CARD not in held:
            raise EvidenceError("the MLflow run holds no model files", given=f"{run_id}/{FILES}/{CARD}")
        card = json.loads(Path(client.download_artifacts(run_id, f"{FILES}/{CARD}", folder)).read_bytes())
    if digest(card) != evidence.model.digest:
        raise Corrupt("the model in the MLflow run is not the one that was judged", given=digest(card),
                      allowed=[evidence.model.digest])  # fmt: skip
    # An MLmodel beside it would make MLflow execute what that names, for whoever loads the version.
    if beside := sorted(held - {CARD, SIGNATURE, card.get("weights", {}).get("file")}):
        raise EvidenceError("files lie beside the model in the MLflow run, which another tool might execute",
                            given=", ".join(beside), next_step="Remove them, or train again")  # fmt: skip


def _tags(evidence: Evidence) -> dict[str, str]:
    names = ("spec_digest", "code_digest", "trained_to", "feature_service", "decision")
    made = {"training_set": evidence.training_set.digest, "evaluation": evidence.evaluation.digest}
    tags = {**made, **{name: str(getattr(evidence, name)) for name in names}}
    return {f"millrace.{name}": value for name, value in tags.items()}
