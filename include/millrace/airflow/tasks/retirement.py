"""Tasks of the retirement DAG: retire what was kept long enough, and hold MLflow against the ledger."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from millrace.airflow.runtime.champion import champion_of
from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.run import outcome_of, unstored
from millrace.airflow.runtime.since import evidence_in
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.tell import tell
from millrace.core.errors import LedgerError
from millrace.ledger import Moved, may_be_challenger
from millrace.rules.retention import Kept, due, forgotten, guarded
from millrace.spec.environment import Retention

log = logging.getLogger(__name__)
BY = "the retirement DAG"


def retire(root: str, pipeline: str) -> list[int]:
    """Retire the versions that the environment no longer keeps; one that a release asked for meanwhile stays."""
    site = Site.at(root, pipeline)
    champions = [champion.version for champion in site.ledger.champions(pipeline)]
    retired = []
    for version, why in due(_retention(site), _kept(site), champions, datetime.now(UTC)).items():
        try:
            site.ledger.move(Moved(pipeline=pipeline, version=version, to="retired", reason=why, by=BY))
        except LedgerError as err:
            log.warning("%s version %s stays: %s", pipeline, version, err)
            continue
        log.info("%s version %s is retired: %s", pipeline, version, why)
        retired.append(version)
    return retired


def reconcile(root: str, pipeline: str) -> dict[str, Any]:
    """Find what somebody changed in MLflow past the ledger, and report it or set it right, as the environment says;
    take versions from MLflow that were retired long enough ago.

    A release sets aliases after the ledger, so what strayed is looked at again before it is believed.
    """
    site = Site.at(root, pipeline)
    policy = site.placed.environment.aliases
    champion_of(site)  # and with it the copies in the store
    found = _ask(site)["strayed"]
    wrong = [each for each in _ask(site)["strayed"] if each in found] if found else []
    forgot = _ask(site, revert=wrong if policy == "revert" else [], forget=True)["forgotten"]
    if forgot:
        log.info("%s: versions %s are no longer in MLflow, nor are their runs", pipeline, ", ".join(map(str, forgot)))
    if wrong:
        done = "; set right" if policy == "revert" else ""
        said = note(f"{pipeline}: changed in MLflow past the ledger: {'; '.join(wrong)}{done}")
        log.warning(said)
        tell(site, "alert", f"{pipeline}: MLflow was changed past the ledger", said)
        if policy == "report" and site.placed.environment.alerts == "fail":
            raise AirflowFailException(said)
    return {"strayed": wrong, "forgotten": forgot}


def _ask(site: Site, revert: list[str] | None = None, *, forget: bool = False) -> dict[str, Any]:
    """What the job says of MLflow as the ledger has it just now."""
    versions, lives = _kept(site), site.ledger.lives(site.name)
    champion = site.ledger.champion(site.name)
    number = champion.version if champion else 0
    gone = forgotten(_retention(site), versions, datetime.now(UTC))
    runs = {version: run for version, run in _runs(site).items() if run}
    keep = guarded(versions, gone)
    params = {
        "champion": number or None,
        "challengers": sorted(may_be_challenger(lives, number)),
        "newest": max((life.version for life in lives), default=0),
        "runs": {str(version): run for version, run in runs.items() if version in keep},
        "forget": {str(version): runs.get(version) for version in gone} if forget else {},
        "revert": revert or [],
    }
    request = site.request("reconcile", scope=(), params=params, context=get_current_context())
    outcome, _ = outcome_of(unstored(request))
    return outcome.facts


def _retention(site: Site) -> Retention:
    retention = site.placed.environment.retention
    if retention is None:
        raise AirflowFailException(
            f"Environment {site.settings.environment} says no more how long versions are kept (retention)"
        )
    return retention


def _kept(site: Site) -> list[Kept]:
    """Every registered version, and since when it is kept, by the times of the ledger's entries."""
    registered = {entry.subject: entry.at for entry in reversed(site.ledger.entries(site.name, "registered"))}
    moved = {entry.subject: entry.at for entry in site.ledger.entries(site.name, "lifecycle")}
    champions = site.ledger.champions(site.name)
    until = {one.version: after.since for one, after in zip(champions, champions[1:], strict=False)}
    return [
        Kept(
            version=life.version,
            state=life.state,
            ended=life.ended,
            registered=registered[f"v{life.version}"],
            until=None if life.serving else until.get(life.version),
            retired=moved.get(f"v{life.version}") if life.state == "retired" else None,
        )
        for life in site.ledger.lives(site.name)
    ]


def _runs(site: Site) -> dict[int, str | None]:
    """Version -> the MLflow run that its Evidence names."""
    found = {}
    for registered in site.ledger.versions(site.name):
        evidence = evidence_in(site, registered.evidence)
        found[registered.version] = evidence.mlflow_run if evidence is not None else None
    return found
