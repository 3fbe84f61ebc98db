"""promote: let the MLflow alias `champion` follow the ledger, which has decided."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Outcome
from millrace.contract.artifact import DIGEST_PATTERN
from millrace.core.errors import EvidenceError
from millrace.jobs.work import Work
from millrace.mlflow.registry import CHALLENGER, CHAMPION, alias_versions, find_versions
from millrace.mlflow.runs import connect, reaching
from millrace.rules.evidence import MODEL_TAG


class Params(BaseModel):
    """The version that the ledger names, and the model it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1)
    model_digest: str = Field(pattern=DIGEST_PATTERN)


def run(work: Work, params: Params) -> Outcome:
    """Set the alias after checking that the version is the promoted model; setting it again changes nothing.

    Raises EvidenceError when the version is not that model, or not there.
    """
    uri, name, version = work.service("mlflow"), work.spec.name, params.version
    client = connect(uri)
    with reaching(uri):
        known = {int(v.version): v.tags.get(MODEL_TAG) for v in find_versions(client, name, {})}
        if known.get(version) != params.model_digest:
            raise EvidenceError(
                f"{name} version {version} in MLflow is not the model that the ledger promoted",
                given=known.get(version, "no such version"),
                allowed=[params.model_digest],
            )
        client.set_registered_model_alias(name, CHAMPION, str(version))
        # A newer challenger that comes between these two calls loses its alias; nothing is decided by it.
        if alias_versions(client, name).get(CHALLENGER) == version:
            client.delete_registered_model_alias(name, CHALLENGER)
    return Outcome(facts={"name": name, "version": version, "alias": CHAMPION})
