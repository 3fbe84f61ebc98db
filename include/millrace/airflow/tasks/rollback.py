"""The tasks of the rollback DAG: decide once, carry out. And the rollback that a rollout's own guards ask for."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.airflow.runtime import decided
from millrace.airflow.runtime.form import known_fields
from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.tell import tell
from millrace.airflow.runtime.traffic import copy_of, mirror_plan, unsettled, words_of
from millrace.airflow.tasks.release import carried_out
from millrace.core.errors import LedgerError
from millrace.ledger import RolledBack, quarantine_words
from millrace.ledger.events.serving import How
from millrace.store import layout
from millrace.store.plans import Plans, Veto

log = logging.getLogger(__name__)
PERSON = "person"
"""Guard of a veto that a person has written; `server` is the person's name."""


def decide(root: str, pipeline: str) -> list[int]:
    """Record a rollback of every version that guards, or the form, speak against, and let the store's plan follow."""
    site = Site.at(root, pipeline)
    known_fields(site)
    params = get_current_context()["params"]
    mirror_plan(site)
    if params.get("version"):
        versions = [_by_hand(site, str(params["version"]), str(params.get("reason") or ""))]
    else:
        versions = [version for version in unsettled(site) if _by_veto(site, version)]
    mirror_plan(site)
    if not versions:
        log.info("%s: nobody has spoken against a version that is served", pipeline)
    return versions


def carry_out(root: str, pipeline: str) -> dict[str, Any] | None:
    """Promote the champion before, where the champion of record is one that was rolled back."""
    site = Site.at(root, pipeline)
    site.ledger.settle(pipeline, site.anchors.put)
    champion = site.ledger.champion(pipeline)
    bad = site.ledger.quarantined(pipeline, champion.model_digest) if champion is not None else None
    if champion is not None and bad is None and champion.release is not None:
        request = site.ledger.look(pipeline, champion.release)
        if request.reuses is not None:  # it came back: what a killed task has left is finished
            return carried_out(site, request)
    if champion is None or bad is None:
        raise AirflowSkipException(note(f"{pipeline}: the champion stays"))
    if bad.release is None:
        raise AirflowFailException(
            note(f"{pipeline} version {champion.version} is rolled back, and no champion before it may come back: its "
                 f"plan names no model. Release another version ({bad.why})")
        )  # fmt: skip
    request = site.ledger.look(pipeline, bad.release)
    if request.state not in ("approved", "promoted"):
        raise AirflowFailException(
            note(f"{pipeline} version {request.version} cannot come back, its release is {request.state}: "
                 f"{request.note}. Release another version by hand")
        )  # fmt: skip
    made = carried_out(site, request)
    tell(site, "decision", f"{pipeline}: version {made['version']} is champion again",
         f"Version {bad.version} was rolled back by {bad.by}: {bad.why}")  # fmt: skip
    note(f"Version {made['version']} of {pipeline} is champion again: {quarantine_words(bad)}")
    return made


def roll_back(site: Site, version: int, *, why: str, by: str, how: How) -> RolledBack:
    """Record the decision, and let the store's plan follow.

    Before that it is a veto: servers hear it at once, and it starts the rollback DAG, which promotes the champion
    before and finishes what is killed here.
    """
    if _first_veto(site, version) is None:
        veto(site, version, guard=PERSON if how == "person" else "rollout", why=why, server=by)
    site.ledger.settle(site.name, site.anchors.put)
    by_persons = site.placed.approval.by == "human"
    made = site.ledger.roll_back(site.name, version, why=why, by=by, how=how, approval=by_persons)
    mirror_plan(site)
    said = f"{site.name} version {version} was rolled back by {made.quarantined.by}: {made.quarantined.why}"
    tell(site, "alert", f"{site.name}: version {version} was rolled back", note(said))
    return made


def veto(site: Site, version: int, *, guard: str, why: str, server: str = "") -> Veto | None:
    """Speak against a version in the store, where servers hear it; None where no plan names it."""
    planned = site.ledger.plan(site.name)
    if planned is None or version not in {arm.version for arm in planned.versions}:
        return None
    said = Veto(pipeline=site.name, generation=planned.generation, version=version, guard=guard, why=why, server=server,
                at=datetime.now(UTC).isoformat())  # fmt: skip
    return Plans(site.objects).veto(said)


def _by_hand(site: Site, given: str, reason: str) -> int:
    if not reason.strip():
        raise AirflowFailException("A rollback needs the field 'reason', which the ledger keeps")
    if not given.isdecimal():
        raise AirflowFailException(f"'{given}' is no version of {site.name}")
    by = decided.requester() or "somebody whom Airflow does not know"
    try:
        roll_back(site, int(given), why=reason.strip(), by=by, how="person")
    except LedgerError as err:
        raise AirflowFailException(note(str(err))) from err
    return int(given)


def _by_veto(site: Site, version: int) -> bool:
    """Whether a veto in the store led to a rollback: another run may have made it, or the plan moved on."""
    said = _first_veto(site, version)
    if said is None:
        return False
    person = said.guard == PERSON and bool(said.server)
    by = said.server if person else f"guard {said.guard}{f' of {said.server}' if said.server else ''}"
    try:
        roll_back(site, version, why=said.why if person else words_of(said), by=by, how="person" if person else "guard")
    except LedgerError as err:
        log.info("%s: %s", site.name, err)
        return False
    return True


def _first_veto(site: Site, version: int) -> Veto | None:
    """The first veto against a version since the rollout in force began."""
    planned = site.ledger.plan(site.name)
    if planned is None:
        return None
    plans = Plans(site.objects)
    found = [each for each in plans.vetoes(copy_of(planned)) if each.version == version]
    if not found:  # the plan has moved on, and only the champion of record is left to be changed
        keys = [layout.veto_of(each.key) for each in site.objects.list(layout.vetoes(site.name))]
        wanted = [layout.veto(site.name, g, v) for g, v in keys if v == version and g >= planned.since]
        found = [Veto.model_validate_json(site.objects.get(key)) for key in wanted]
    return min(found, key=lambda each: each.at, default=None)
