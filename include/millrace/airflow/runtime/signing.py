"""The document of a promotion, kept and signed before the promotion is in the ledger."""

from __future__ import annotations

import json
from typing import Any

from airflow.sdk import get_current_context

from millrace.airflow.runtime.run import outcome_of, unstored
from millrace.airflow.runtime.site import Site
from millrace.contract import Artifact
from millrace.core.errors import NotFound
from millrace.ledger import Champion, Registered, ReleaseRequest
from millrace.rules.promotion import Before, Promotion, Release
from millrace.store import layout


def signed(site: Site, request: ReleaseRequest, registered: Registered) -> tuple[Artifact, str | None]:
    """Have the promotion's document stored, and signed where a key is set; returns it, and the digest of the key.

    Raises AirflowFailException where it cannot be signed: the request stays as it is, for whoever mends the key and
    clears the task.
    """
    document = promotion(site, request, registered, site.ledger.champion(site.name))
    request_ = site.request(
        "sign",
        scope=(),
        inputs=[("evidence", registered.evidence, None), ("model", registered.model, None)],
        params={"promotion": document.model_dump(mode="json")},
        context=get_current_context(),
    )
    outcome, _ = outcome_of(unstored(request_))
    return outcome.outputs["promotion"], outcome.facts["signer"]


def promotion(site: Site, request: ReleaseRequest, registered: Registered, before: Champion | None) -> Promotion:
    """The document, from the ledger alone but for what other systems have signed: the same at every try."""
    said = {name: getattr(request, name) for name in Release.model_fields if name != "answers"}
    return Promotion(
        pipeline=site.name,
        environment=site.settings.environment,
        version=request.version,
        evidence=registered.evidence.digest,
        model=registered.model.digest,
        generation=(request.expected_generation or 0) + 1,
        release=Release(**said, answers=tuple(answer.model_dump(mode="json") for answer in request.answers)),
        statements=_statements(site, request),
        before=None
        if before is None
        else Before(
            version=before.version,
            generation=before.generation,
            model=before.model_digest,
            evidence=before.evidence_digest,
        ),
    )


def _statements(site: Site, request: ReleaseRequest) -> dict[str, Any]:
    found = {}
    for answer in request.answers:
        if answer.how == "external":
            try:
                found[answer.by] = json.loads(site.objects.get(layout.statement(site.name, request.id, answer.by)))
            except (NotFound, ValueError):
                continue  # the ledger's entry stands for it: the statement was verified when that was made
    return found
