"""Tasks of the release DAG."""

from __future__ import annotations

import json
import logging
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.airflow.run import outcome_of, pack
from millrace.airflow.site import Site
from millrace.canonical import digest
from millrace.contract import Artifact
from millrace.errors import Conflict, EvidenceError, NotFound
from millrace.ledger import mirror
from millrace.rules.evidence import EVIDENCE_TAG, MODEL_TAG, Evidence, check_promotion

log = logging.getLogger(__name__)


def open_release(root: str, pipeline: str) -> str:
    """Check that the challenger carries complete Evidence, void older waiting approvals, and say what is asked."""
    site = Site.at(root, pipeline)
    version, evidence = _asked(site)
    champion = site.ledger.champion(pipeline)
    if champion is not None and champion.version >= version:
        raise AirflowSkipException(f"Version {champion.version} is champion already; version {version} is older")
    site.ledger.void_older(pipeline, version)
    site.ledger.open_approval(pipeline, version, evidence.digest)
    duel = evidence.duel
    against = "no champion yet" if duel is None else f"mean loss {duel['difference']:+.5f} against the champion"
    return (
        f"**{pipeline} version {version}**, trained on {evidence.partitions[0]} to {evidence.trained_to} "
        f"because: {evidence.reason}. Evaluation passed; {against}. Evidence `{evidence.digest}`."
    )


def promote(root: str, pipeline: str) -> dict[str, Any]:
    """Make the version champion by one compare-and-set in the ledger, then let the MLflow alias follow.

    Reads the evidence again from the store by the digest that was approved; the state of earlier tasks counts for
    nothing.
    """
    site, context = Site.at(root, pipeline), get_current_context()
    version, evidence = _asked(site)
    answer = context["ti"].xcom_pull(task_ids="approve") or {}
    if not answer.get("automatic"):
        site.ledger.answer(
            pipeline,
            version,
            evidence.digest,
            approved=answer.get("chosen_options") == ["Approve"],
            by=str((answer.get("responded_by_user") or {}).get("name", "unknown")),
        )
    champion = site.ledger.champion(pipeline)
    if champion is not None and (champion.version, champion.evidence_digest) == (version, evidence.digest):
        _follow(site)  # an earlier try was killed between the ledger and the alias
        return {"version": version, "generation": champion.generation}
    approval = site.ledger.approved(pipeline, version, evidence.digest)
    try:
        check_promotion(
            evidence,
            version=version,
            has_champion=champion is not None,
            registered=_registered(site, version),
            approval_needed=site.placed.approval.by == "human",
            approved_evidence=approval.evidence_digest if approval else None,
            champion_model=champion.model_digest if champion else None,
        )
    except EvidenceError as err:
        raise AirflowFailException(str(err)) from err
    if champion is not None and champion.version > version:
        raise AirflowSkipException(f"Version {champion.version} became champion meanwhile; version {version} is older")
    try:
        new = site.ledger.promote(
            pipeline,
            version=version,
            model_digest=evidence.model,
            evidence_digest=evidence.digest,
            expected_generation=champion.generation if champion else 0,
            body=_body(evidence),
        )
    except Conflict as err:
        # Not retried blindly: the duel was fought against a champion that is no longer one.
        raise AirflowFailException(f"Another version was promoted first: {err}") from err
    _follow(site)
    log.info("%s: version %s is champion (generation %s)", pipeline, new.version, new.generation)
    return {"version": new.version, "generation": new.generation}


def _asked(site: Site) -> tuple[int, Evidence]:
    """Version and Evidence named by the run's form, the Evidence read from the store and verified."""
    params = get_current_context()["params"]
    if not params.get("version") or not params.get("evidence"):
        raise AirflowFailException(
            "A release needs the fields 'version' and 'evidence'; the training DAG fills them in when it registers"
        )
    name = str(params["evidence"])
    key = f"evidence/{site.name}/{name.removeprefix('sha256:')}/evidence.json"
    try:
        data = site.objects.get(key)
    except NotFound as err:
        raise AirflowFailException(f"No evidence {name} is stored for {site.name}; nothing is promoted") from err
    if digest(data) != name:
        raise AirflowFailException(f"The evidence stored as {name} has other bytes; nothing is promoted")
    return int(params["version"]), Evidence.model_validate(json.loads(data))


def _registered(site: Site, version: int) -> dict[str, str]:
    """What the ledger says a version was registered with; the form accepts any number, this does not."""
    found = site.ledger.entries(site.name, "registered", f"v{version}", limit=1)
    return {MODEL_TAG: found[0].body["model"], EVIDENCE_TAG: found[0].body["evidence"]} if found else {}


def _follow(site: Site) -> None:
    """Let the MLflow alias follow the ledger."""
    mirror(lambda: site.ledger.champion(site.name), lambda c: _alias(site, c.version, c.model_digest))


def _alias(site: Site, version: int, model_digest: str) -> None:
    request = site.request(
        "promote", scope=(), params={"version": version, "model_digest": model_digest}, context=get_current_context()
    )
    outcome_of(request.model_copy(update={"place": request.place.model_copy(update={"result": None})}))


def _body(evidence: Evidence) -> dict[str, Any]:
    """What scoring and monitoring need of the champion: its artifacts, by the digests in the Evidence."""

    def of(kind: str, uri: str, value: str) -> dict[str, Any]:
        return pack(Artifact(uri=uri, digest=value, kind=kind))

    name = evidence.pipeline

    def short(value: str) -> str:
        return value.removeprefix("sha256:")

    return {
        "model": of("model", f"models/{name}/{short(evidence.model)}/", evidence.model),
        "training_set": of(
            "snapshot", f"snapshots/{name}/training_set/{short(evidence.training_set)}/", evidence.training_set
        ),
        "evaluation": of(
            "evaluation", f"evaluations/{name}/{short(evidence.evaluation)}/evaluation.json", evidence.evaluation
        ),
        "trained_to": evidence.trained_to,
        "partitions": list(evidence.partitions),
        "reason": evidence.reason,
        "mlflow_run": evidence.mlflow_run,
    }
