"""promote: let the MLflow alias `champion` follow the ledger, which has decided."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Outcome
from millrace.errors import EvidenceError
from millrace.jobs.registry import CHALLENGER, CHAMPION, TAG, client, guarded
from millrace.jobs.work import Work

REACHES = ("mlflow",)
REUSABLE = False  # the alias may have been moved since


class Params(BaseModel):
    """The version that the ledger names, and the model it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1)
    model_digest: str


def run(work: Work, params: Params) -> Outcome:
    """Set the alias, after checking that the version is the promoted model. Raises EvidenceError when it is not."""
    uri, name, version = work.service("mlflow"), work.spec.name, str(params.version)
    registry = client(uri)
    with guarded(uri):
        found = registry.get_model_version(name, version)
        if found.tags.get(f"{TAG}model_digest") != params.model_digest:
            raise EvidenceError(f"{name} version {version} in MLflow is not the model that was promoted",
                                given=found.tags.get(f"{TAG}model_digest"), allowed=[params.model_digest])
        registry.set_registered_model_alias(name, CHAMPION, version)
        if str(registry.get_registered_model(name).aliases.get(CHALLENGER)) == version:
            registry.delete_registered_model_alias(name, CHALLENGER)
    return Outcome(facts={"name": name, "version": params.version, "alias": CHAMPION})
