"""What happened since the champion was trained: partitions that were published, and what of spec and code changed."""

from __future__ import annotations

import json
import logging

from millrace.airflow.runtime.site import Site
from millrace.contract import Artifact, code_digest
from millrace.core.canonical import digest
from millrace.core.errors import EvidenceError, MillraceError, NotFound
from millrace.ledger import Champion
from millrace.rules.changed import Change, changed
from millrace.rules.evidence import Evidence
from millrace.spec.recipe import Recipe, listed
from millrace.store import bundles

log = logging.getLogger(__name__)


def published(site: Site, champion: Champion, partition: str) -> int:
    """How many partitions are published after the champion's training, up to one of them."""
    first, last = (site.partitioning.start(key) for key in (champion.trained.trained_to, partition))
    return sum(first < site.partitioning.start(key) <= last for key in site.tables.partitions(f"{site.name}/features"))


def changes(site: Site, evidence: Evidence) -> list[Change] | None:
    """What of the pipeline's folder and of Millrace is not as it was when this Evidence's model was trained; None where
    the folder of then cannot be read."""
    try:
        before = bundles.read(site.objects, evidence.spec_digest)
    except MillraceError as err:
        log.warning("%s: the folder that version was trained by cannot be read: %s", site.name, err)
        return None
    return changed(before, site.bundle, code=(evidence.code_digest, code_digest()))


def worth_a_training(site: Site, champion: Champion, partition: str) -> tuple[str, ...]:
    """What changed since the champion's training, in words; empty while a training would be refused, since partitions
    of its window are still made by another recipe."""
    evidence = evidence_of(site, champion)
    found = changes(site, evidence) if evidence is not None else None
    if not found:
        return ()
    training, recipe = site.spec.training, Recipe.of(site.bundle)
    assert training is not None
    features = f"{site.name}/features"
    known = set(site.tables.partitions(features))
    window = [key for key in site.partitioning.window(partition, training.window) if key in known]
    if stale := [key for key in window if not recipe.takes(site.tables.resolve(features, key).recipe)]:
        log.info("%s %s: spec or code changed; a training waits until %s are made anew by the present recipe",
                 site.name, partition, listed(stale))  # fmt: skip
        return ()
    return tuple(str(change) for change in found)


def evidence_of(site: Site, champion: Champion) -> Evidence | None:
    """The Evidence that a champion was promoted on; None where it cannot be read."""
    return evidence_in(site, champion.evidence)


def evidence_in(site: Site, stored: Artifact) -> Evidence | None:
    """Evidence as it was stored; None where it cannot be read."""
    try:
        data = site.objects.get(stored.uri)
        return Evidence.read(json.loads(data)) if digest(data) == stored.digest else None
    except (NotFound, EvidenceError) as err:
        log.warning("%s: Evidence cannot be read: %s", site.name, err)
        return None
