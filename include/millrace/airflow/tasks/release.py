"""Tasks of the release DAG: open the request, record its answer, promote."""

from __future__ import annotations

import json
import logging
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.airflow.runtime.champion import mirror_champion
from millrace.airflow.runtime.run import outcome_of, unstored
from millrace.airflow.runtime.site import Site
from millrace.core.canonical import digest
from millrace.core.errors import Conflict, EvidenceError, LedgerError, NotFound
from millrace.ledger import Champion, Registered, ReleaseRequest, Trained, mirror
from millrace.rules.evidence import EVIDENCE_TAG, MODEL_TAG, Evidence, check_approval, check_release

log = logging.getLogger(__name__)


def open_release(root: str, pipeline: str) -> str:
    """Check that the version carries complete Evidence, make the release request, and say what is asked.

    Whatever cannot be promoted is refused before it can void the request of another.
    """
    site, context = Site.at(root, pipeline), get_current_context()
    registered, reason = _asked(site), str(context["params"].get("reason") or "")
    version, evidence = registered.version, _evidence(site, registered)
    champions = site.ledger.champions(pipeline)
    now = champions[-1] if champions else None
    if now is not None and _is(now, registered):
        raise AirflowSkipException(f"Version {version} is champion already")
    was_champion = any(_is(each, registered) for each in champions)
    if now is not None and now.version > version and not was_champion:
        raise AirflowSkipException(
            f"Version {now.version} is champion already; version {version} is older and never was champion"
        )
    try:
        _check(registered, evidence, now, was_champion, reason)
    except EvidenceError as err:
        raise AirflowFailException(str(err)) from err
    request = site.ledger.ask_release(
        pipeline, version, evidence.digest, run_id=context["ti"].run_id, reason=reason or evidence.reason
    )
    if request.state == "void":
        raise AirflowSkipException(f"Version {request.newer} is newer and waits already; version {version} is void")
    return _question(request, evidence, now)


def record_answer(root: str, pipeline: str, run_id: str, *, approved: bool, by: str) -> ReleaseRequest:
    """Write a person's answer into the ledger, about the request that this run made and no other."""
    site = Site.at(root, pipeline)
    request = site.ledger.answer(pipeline, _request(site, run_id).id, approved=approved, by=by)
    log.info("%s version %s: %s by %s", pipeline, request.version, request.state, by)
    return request


def promote(root: str, pipeline: str) -> dict[str, Any]:
    """Make the version champion by one compare-and-set in the ledger, then let MLflow's alias and the store follow.

    Reads the Evidence again from the store by the digest that was registered, and the answer from the ledger; the
    state and the XComs of earlier tasks count for nothing.
    """
    site, context = Site.at(root, pipeline), get_current_context()
    registered = _asked(site)
    request = _request(site, context["ti"].run_id)
    if request.state != "promoted":
        evidence = _evidence(site, registered)
        try:
            _carry_out(site, request, registered, evidence)
        except (EvidenceError, Conflict, LedgerError) as err:
            # Not tried again: the duel was fought, or the approval asked, against a champion that is no longer one.
            site.ledger.refuse(pipeline, request.id, err.message)
            raise AirflowFailException(str(err)) from err
    champion = _follow(site)
    assert champion is not None
    log.info("%s: version %s is champion (generation %s)", pipeline, champion.version, champion.generation)
    return {"version": champion.version, "generation": champion.generation}


def _carry_out(site: Site, request: ReleaseRequest, registered: Registered, evidence: Evidence) -> None:
    if request.state == "void":
        raise AirflowSkipException(f"Version {request.newer} is newer; the release of {request.version} is void")
    needs_approval = site.placed.approval.by == "human"
    _check(registered, evidence, site.ledger.champion(site.name), request.rollback, request.reason)
    if needs_approval:
        approved = request.evidence if request.state == "approved" else None
        check_approval(evidence, version=request.version, approved_evidence=approved)
    site.ledger.promote(site.name, request.id, registered.evidence, _trained(evidence), approval=needs_approval)


def _check(
    registered: Registered, evidence: Evidence, champion: Champion | None, was_champion: bool, reason: str
) -> None:
    check_release(
        evidence,
        version=registered.version,
        registered={MODEL_TAG: registered.model.digest, EVIDENCE_TAG: registered.evidence.digest},
        champion_model=champion.model_digest if champion else None,
        was_champion=was_champion,
        reason=reason,
    )


def _asked(site: Site) -> Registered:
    """What the ledger says about the version that the run's form names: the form accepts any, this does not."""
    params = get_current_context()["params"]
    given = str(params.get("version") or "")
    if not given:
        raise AirflowFailException(
            "A release needs the field 'version'; the training DAG fills it in when it registers a challenger"
        )
    registered = site.ledger.registered(site.name, int(given)) if given.isdecimal() else None
    if registered is None:
        known = ", ".join(str(each.version) for each in site.ledger.versions(site.name)[-12:])
        raise AirflowFailException(
            f"Version {given} of {site.name} was never registered; nothing is promoted (registered: {known or 'none'})"
        )
    wanted = params.get("evidence")
    if wanted and wanted != registered.evidence.digest:
        raise AirflowFailException(
            f"Version {given} of {site.name} was registered with other Evidence than {wanted}; nothing is promoted. "
            "Leave the field 'evidence' empty to take what it was registered with"
        )
    return registered


def _evidence(site: Site, registered: Registered) -> Evidence:
    """The Evidence of a version, read from the store and verified, with the artifacts that it names still there."""
    stored = registered.evidence
    try:
        data = site.objects.get(stored.uri)
    except NotFound as err:
        raise AirflowFailException(
            f"No evidence {stored.digest} is stored for {site.name}; nothing is promoted"
        ) from err
    if digest(data) != stored.digest:
        raise AirflowFailException(f"The evidence stored as {stored.digest} has other bytes; nothing is promoted")
    try:
        evidence = Evidence.read(json.loads(data))
    except EvidenceError as err:
        raise AirflowFailException(str(err)) from err
    for artifact in (evidence.model, evidence.evaluation):
        if next(iter(site.objects.list(artifact.uri)), None) is None:
            raise AirflowFailException(
                f"The {artifact.kind} of {site.name} version {registered.version} is no longer in the store "
                f"({artifact.uri}); nothing is promoted"
            )
    return evidence


def _request(site: Site, run_id: str) -> ReleaseRequest:
    """The request that a run made: read from the ledger, since people may edit what a task returned."""
    request = site.ledger.release_of(site.name, run_id)
    if request is None:
        raise AirflowFailException("This run has made no release request. Clear its task 'open' first")
    return request


def _is(champion: Champion, registered: Registered) -> bool:
    return (champion.version, champion.evidence_digest) == (registered.version, registered.evidence.digest)


def _question(request: ReleaseRequest, evidence: Evidence, champion: Champion | None) -> str:
    """What whoever approves is asked, as text of the page."""
    trained = f"trained on {evidence.partitions[0]} to {evidence.trained_to} because: {evidence.reason}"
    if request.rollback and champion is not None:
        asked = f"**Rollback of {request.pipeline} from version {champion.version} to version {request.version}**"
        judged = f"It was champion before. Why it should come back: {request.reason}."
    else:
        asked = f"**{request.pipeline} version {request.version}**"
        duel = evidence.duel
        against = "no champion yet" if duel is None else f"mean loss {duel['difference']:+.5f} against the champion"
        judged = f"Evaluation passed; {against}."
    return f"{asked}, {trained}. {judged} Evidence `{request.evidence}`, release `{request.id}`."


def _follow(site: Site) -> Champion | None:
    """Let the store's copy and the MLflow alias follow the ledger."""
    mirror_champion(site)
    return mirror(lambda: site.ledger.champion(site.name), lambda c: _alias(site, c.version, c.model_digest))


def _alias(site: Site, version: int, model_digest: str) -> None:
    request = site.request(
        "promote", scope=(), params={"version": version, "model_digest": model_digest}, context=get_current_context()
    )
    outcome_of(unstored(request))


def _trained(evidence: Evidence) -> Trained:
    return Trained(
        model=evidence.model,
        training_set=evidence.training_set,
        evaluation=evidence.evaluation,
        trained_to=evidence.trained_to,
        partitions=evidence.partitions,
        reason=evidence.reason,
        mlflow_run=evidence.mlflow_run,
    )
