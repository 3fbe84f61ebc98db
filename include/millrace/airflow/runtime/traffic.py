"""The traffic plan's copy in the store, and what servers and guards have left beside it."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from millrace.airflow.runtime.site import Site
from millrace.core.errors import MillraceError
from millrace.ledger import Planned
from millrace.rules.guards import Counts
from millrace.store import layout
from millrace.store.champions import Champions
from millrace.store.plans import Plans, TrafficPlan, Veto

log = logging.getLogger(__name__)


def mirror_plan(site: Site) -> Planned | None:
    """Write the plan in force into the store, where servers follow it. Raises StoreError.

    A copy never goes back in generation, in whatever order those who decided come to write it.
    """
    planned = site.ledger.plan(site.name)
    if planned is not None:
        Plans(site.objects).follow(copy_of(planned))
    return planned


def heal_plan(site: Site) -> None:
    """Bring the copy up to date where whoever decided was killed before it could, and keep nobody from working."""
    try:
        mirror_plan(site)
    except MillraceError as err:
        log.warning("%s: the copy of the traffic plan in the store is out of date: %s", site.name, err)


def copy_of(planned: Planned) -> TrafficPlan:
    """The plan as servers read it."""
    return TrafficPlan.model_validate(planned.in_store())


def counts(site: Site, since: int, generation: int) -> list[Counts]:
    """What servers have counted from one generation to another; what cannot be read is told and left out."""
    plans, found = Plans(site.objects), []
    for number in range(since, generation + 1):
        for server, tally in plans.tallies(site.name, number).items():
            try:
                found.append(Counts.model_validate_json(tally))
            except ValidationError as err:
                first = err.errors()[0]["msg"]
                log.warning(
                    "%s: what %s counted under generation %s cannot be read: %s", site.name, server, number, first
                )
    return found


def vetoes_against(site: Site, planned: Planned, version: int) -> list[Veto]:
    """What guards have said against a version of the plan, the first one first."""
    found = [veto for veto in Plans(site.objects).vetoes(copy_of(planned)) if veto.version == version]
    return sorted(found, key=lambda veto: veto.at)


def unsettled(site: Site) -> list[int]:
    """Versions that guards have spoken against and that the plan, or the champion, still is: by the store alone.

    Empty once the plan has moved and the champion of record is who the plan says.
    """
    plans = Plans(site.objects)
    plan = plans.get(site.name)
    if plan is None:
        return []
    if named := plans.vetoed(plan):
        return sorted(named)
    copy = Champions(site.objects).get(site.name)
    if copy is None or not plan.arms or plan.arms[0].version == copy.version:
        return []
    keys = [layout.veto_of(each.key) for each in site.objects.list(layout.vetoes(site.name))]
    return sorted({version for generation, version in keys if generation >= plan.since and version == copy.version})


def words_of(veto: Veto) -> str:
    """A veto for a person."""
    return f"{veto.why} (guard {veto.guard}{f', {veto.server}' if veto.server else ''})"
