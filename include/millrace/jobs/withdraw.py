"""withdraw: take the MLflow alias `challenger` from a version whose release ended without a promotion."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Outcome
from millrace.jobs.work import Work
from millrace.mlflow.registry import CHALLENGER, alias_versions
from millrace.mlflow.runs import connect, reaching


class Params(BaseModel):
    """The version that is no longer a challenger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1)


def run(work: Work, params: Params) -> Outcome:
    """Delete the alias where it names this version; a newer challenger keeps it."""
    uri, name = work.service("mlflow"), work.spec.name
    client = connect(uri)
    with reaching(uri):
        held = alias_versions(client, name).get(CHALLENGER) == params.version
        if held:
            client.delete_registered_model_alias(name, CHALLENGER)
    return Outcome(facts={"name": name, "version": params.version, "withdrawn": held})
