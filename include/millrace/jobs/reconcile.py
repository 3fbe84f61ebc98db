"""reconcile: MLflow against what the ledger has decided: aliases, runs that must stay, versions that may go."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Outcome
from millrace.jobs.work import Work
from millrace.mlflow import aliases, keeping
from millrace.mlflow.registry import alias_versions, find_versions
from millrace.mlflow.runs import connect, reaching


class Params(BaseModel):
    """What is decided. `revert` names what was found before, as `facts.strayed` had it, and is to be set right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: int | None
    challengers: tuple[int, ...] = Field(description="Versions that the alias `challenger` may name.")
    newest: int = Field(description="Newest version on record: what MLflow has beyond it is just being registered.")
    runs: dict[int, str] = Field(description="Version -> run that must stay.")
    forget: dict[int, str | None] = Field(default_factory=dict, description="Version -> run that may go.")
    revert: tuple[str, ...] = ()


def run(work: Work, params: Params) -> Outcome:
    """Say what strayed; set right what is named so, and forget what may go. Again, it changes nothing more."""
    uri, name = work.service("mlflow"), work.spec.name
    client = connect(uri)
    with reaching(uri):
        registered = {int(version.version) for version in find_versions(client, name, {})}
        may = {*params.challengers, *(version for version in registered if version > params.newest)}
        names = alias_versions(client, name) if registered else {}
        strayed = aliases.strayed(names, params.champion, may)
        runs = keeping.endangered(client, params.runs)
        wrong = [each for each in strayed if str(each) in params.revert]
        aliases.revert(client, name, [each for each in wrong if each.should is None or each.should in registered])
        keeping.restore(client, [each for each in runs if str(each) in params.revert])
        keep = {*params.runs.values()}
        forgotten = [v for v, run in sorted(params.forget.items()) if keeping.forget(client, name, v, run, keep)]
    return Outcome(facts={"strayed": [*map(str, strayed), *map(str, runs)], "forgotten": forgotten})
