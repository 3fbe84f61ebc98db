"""The champion of record, and its copy in the store for whoever cannot ask the ledger."""

from __future__ import annotations

import logging

from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.traffic import heal_plan
from millrace.core.errors import MillraceError
from millrace.ledger import Champion
from millrace.store.champions import ChampionCopy, Champions

log = logging.getLogger(__name__)


def champion_of(site: Site) -> Champion | None:
    """The champion of record; its copy is brought up to date where a release died before it could.

    A copy that cannot be written keeps nobody from working with the champion: the next one to ask tries again.
    """
    champion = site.ledger.champion(site.name)
    if champion is not None:
        _warn_of_quarantine(site, champion)
        try:
            _copy(site, champion)
        except MillraceError as err:
            log.warning("%s: the copy of the champion in the store is out of date: %s", site.name, err)
    if site.spec.serving is not None:
        heal_plan(site)
    return champion


def _warn_of_quarantine(site: Site, champion: Champion) -> None:
    for life in site.ledger.lives(site.name):
        if life.version == champion.version and life.moved is not None and life.state != "champion":
            log.warning("%s: the champion, version %s, is %s: %s (%s). It goes on until another version is released",
                        site.name, life.version, life.state, life.moved.reason, life.moved.by)  # fmt: skip


def mirror_champion(site: Site) -> None:
    """Write the champion of record into the store. Raises StoreError."""
    champion = site.ledger.champion(site.name)
    if champion is not None:
        _copy(site, champion)


def _copy(site: Site, champion: Champion) -> None:
    Champions(site.objects).follow(
        ChampionCopy(
            pipeline=champion.pipeline,
            generation=champion.generation,
            version=champion.version,
            model=champion.trained.model,
            evidence=champion.evidence,
            since=champion.since,
        )
    )
