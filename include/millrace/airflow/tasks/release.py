"""Tasks of the release DAG: open the request, record its answer, promote."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.airflow.runtime import decided
from millrace.airflow.runtime.aliases import crown
from millrace.airflow.runtime.champion import mirror_champion
from millrace.airflow.runtime.form import known_fields
from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.signing import signed
from millrace.airflow.runtime.site import Site
from millrace.core.canonical import digest
from millrace.core.errors import Conflict, EvidenceError, LedgerError, NotFound
from millrace.ledger import Answer, Champion, Registered, ReleaseRequest, Source, Trained, mirror, words
from millrace.rules.evidence import EVIDENCE_TAG, MODEL_TAG, Evidence, check_approval, check_release

log = logging.getLogger(__name__)


def open_release(root: str, pipeline: str) -> str:
    """Check that the version carries complete Evidence, make the release request, and return its id.

    Whatever cannot be promoted is refused before it can void the request of another. A run that was cleared finds its
    request as it was decided; who wants another answer starts another run.
    """
    site, context = Site.at(root, pipeline), get_current_context()
    known_fields(site)
    if (mine := site.ledger.release_of(pipeline, context["ti"].run_id)) is not None and mine.state != "waiting":
        log.info("%s version %s: this run's release is %s", pipeline, mine.version, words(mine))
        if mine.state not in ("approved", "promoted"):
            raise AirflowSkipException(note(ended(mine)))
        return mine.id
    registered, reason = _asked(site), str(context["params"].get("reason") or "")
    version, evidence = registered.version, evidence_of(site, registered)
    champions = site.ledger.champions(pipeline)
    now = champions[-1] if champions else None
    if now is not None and _is(now, registered):
        if now.release is not None and site.spec.serving is not None and not site.ledger.serves(pipeline, version):
            # Promoted before the pipeline served: this run only lets it answer.
            return site.ledger.join_release(pipeline, now.release, context["ti"].run_id).id
        raise AirflowSkipException(note(f"Version {version} is champion already"))
    was_champion = any(_is(each, registered) for each in champions)
    if now is not None and now.version > version and not was_champion:
        raise AirflowSkipException(
            note(f"Version {now.version} is champion already; version {version} is older and never was champion")
        )
    try:
        _check(site, registered, evidence, now, was_champion, reason)
    except EvidenceError as err:
        raise AirflowFailException(note(str(err))) from err
    approval = site.placed.approval
    request = site.ledger.ask_release(
        pipeline,
        version,
        evidence.digest,
        run_id=context["ti"].run_id,
        reason=reason or evidence.reason,
        requesters=[name for name in (registered.requester, decided.requester()) if name],
        expires=approval.expires_after.after(datetime.now(UTC)) if approval.by == "human" else None,
    )
    if request.state == "void":
        raise AirflowSkipException(note(ended(request)))
    return request.id


def promote(root: str, pipeline: str) -> dict[str, Any]:
    """Make the version champion by one compare-and-set in the ledger, then let MLflow's alias and the store follow.

    Reads the Evidence again from the store by the digest that was registered, the verdicts behind it and the answer
    from the ledger; the state and the XComs of earlier tasks count for nothing.
    """
    site = Site.at(root, pipeline)
    return carried_out(site, request_of(site))


def carried_out(site: Site, request: ReleaseRequest) -> dict[str, Any]:
    """Carry out a request that was approved, and let whatever names the champion follow; again, it changes nothing."""
    pipeline = site.name
    if request.state != "promoted":
        registered = registered_of(site, request)
        evidence = evidence_of(site, registered)
        if request.state == "waiting":
            if site.placed.approval.by == "human":
                # It goes on waiting: to mark a task as done neither answers a request nor ends it.
                decided.deny(site, f"{pipeline} version {request.version} cannot be promoted: nobody has approved it. "
                                   "Clear the task 'approve' to ask again")  # fmt: skip
            request = answer_automatically(site, request)
        elif request.state != "approved":
            decided.deny(site, f"{pipeline} version {request.version} cannot be promoted: it is {words(request)}")
        if why := review_overdue(site, request):
            # The request stays approved, for when the review is done and this task is cleared.
            raise AirflowFailException(note(f"{pipeline} version {request.version} cannot be promoted: {why}"))
        try:
            _carry_out(site, request, registered, evidence)
        except (EvidenceError, Conflict, LedgerError) as err:
            # Not tried again: the duel was fought, or the approval asked, against a champion that is no longer one.
            site.ledger.refuse(pipeline, request.id, err.message)
            raise AirflowFailException(note(str(err))) from err
    site.ledger.settle(pipeline, site.anchors.put)  # where a try before this was killed between promotion and anchor
    champion = _follow(site)
    assert champion is not None
    log.info("%s: version %s is champion (generation %s)", pipeline, champion.version, champion.generation)
    return {"version": champion.version, "generation": champion.generation}


def review_overdue(site: Site, request: ReleaseRequest) -> str | None:
    """Why the model inventory lets nothing be promoted now; None where it does. A rollback is not held up: it takes a
    model away that is worse."""
    inventory = site.spec.inventory
    if inventory is None or request.rollback:
        return None
    return inventory.overdue(datetime.now(UTC).date())


def answer_automatically(site: Site, request: ReleaseRequest) -> ReleaseRequest:
    """Record that the environment itself approves."""
    said = Answer(by=f"environment {site.settings.environment}", verdict="approve", how="automatic",
                  at=datetime.now(UTC).isoformat())  # fmt: skip
    return site.ledger.answer(site.name, request.id, said)


def ended(request: ReleaseRequest) -> str:
    """Why a run ends without a promotion, in one line."""
    return f"Version {request.version} of {request.pipeline} is not promoted: its release is {words(request)}"


def _carry_out(site: Site, request: ReleaseRequest, registered: Registered, evidence: Evidence) -> None:
    _check(site, registered, evidence, site.ledger.champion(site.name), request.rollback, request.reason)
    behind = [Source(dataset=g.dataset, partition=g.partition, snapshot=g.snapshot) for g in evidence.gates]
    decided.passed(site, behind)
    by_persons = site.placed.approval.by == "human"
    if by_persons:
        check_approval(evidence, version=request.version, approved_evidence=request.evidence)
    promotion, signer = signed(site, request, registered)
    site.ledger.promote(
        site.name, request.id, registered.evidence, _trained(evidence), approval=by_persons, anchor=site.anchors.put,
        promotion=promotion, signer=signer,
    )  # fmt: skip


def _check(
    site: Site,
    registered: Registered,
    evidence: Evidence,
    champion: Champion | None,
    was_champion: bool,
    reason: str,
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


def registered_of(site: Site, request: ReleaseRequest) -> Registered:
    """What the version of a request was registered with, where that is what the request is about."""
    registered = site.ledger.registered(site.name, request.version)
    if registered is None or registered.evidence.digest != request.evidence:
        decided.deny(site, f"{site.name} version {request.version} was not registered with what this release is about")
    return registered


def evidence_of(site: Site, registered: Registered) -> Evidence:
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
        raise AirflowFailException(note(str(err))) from err
    for artifact in (evidence.model, evidence.evaluation):
        if next(iter(site.objects.list(artifact.uri)), None) is None:
            raise AirflowFailException(
                f"The {artifact.kind} of {site.name} version {registered.version} is no longer in the store "
                f"({artifact.uri}); nothing is promoted"
            )
    return evidence


def request_of(site: Site) -> ReleaseRequest:
    """The request that this run has made: read from the ledger, since people may edit what a task returned."""
    request = site.ledger.release_of(site.name, get_current_context()["ti"].run_id)
    if request is None:
        decided.deny(site, "This run has made no release request. Clear its task 'open' first")
    return request


def _is(champion: Champion, registered: Registered) -> bool:
    return (champion.version, champion.evidence_digest) == (registered.version, registered.evidence.digest)


def _follow(site: Site) -> Champion | None:
    """Let the store's copy and the MLflow alias follow the ledger."""
    mirror_champion(site)
    return mirror(lambda: site.ledger.champion(site.name), lambda c: crown(site, c.version, c.model_digest))


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
