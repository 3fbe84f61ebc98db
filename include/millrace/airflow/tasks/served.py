"""Tasks about what servers answered: collect it into the Table `served`, hold it against offline, and let it go when
it was kept long enough."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.run import outcome_of
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.tell import tell
from millrace.airflow.tasks.partition import partition_of
from millrace.contract import Artifact
from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import Conflict, SpecError
from millrace.ledger import GateVerdict
from millrace.rules.retention import first_kept, is_kept
from millrace.store import SnapshotStore, layout
from millrace.store import served as segments
from millrace.store.layout import TOMBSTONE
from millrace.store.tables import Moved, Pointer

log = logging.getLogger(__name__)
ATTEMPTS = 5
BEFORE = 2
"""Partitions before one whose features are looked at, too: what a server reads online is mostly of the one before."""
SKEW = "skew"
"""What the ledger calls the dataset of a verdict on served against offline features."""
Given = tuple[str, Artifact, str | None]


def collect(root: str, pipeline: str) -> dict[str, Any]:
    """Collect what was asked in the run's partition, in those of its monitoring window and in the one before it, which
    may have had late segments; only what is new makes a Snapshot. Returns partition -> rows."""
    site = Site.at(root, pipeline)
    found = {}
    for key in _wanted(site, partition_of(site)):
        moved = collect_partition(site, key, get_current_context())
        if moved is not None:
            found[key] = moved.rows
    return found


def collect_partition(site: Site, key: str, context: Any = None) -> Moved | None:
    """Make the Snapshot of what was asked in a partition of all that is shipped now, and point `served` at it.

    None where nothing was, and where it was kept long enough. Whoever collects meanwhile is not set back: then it is
    done again, on what is there then. Raises Conflict where that never ends.
    """
    if not kept(site, key):
        return None
    table = _table(site)
    for _ in range(ATTEMPTS):
        before = site.tables.get(table, key)
        listed = [[part.key, part.size, part.changed.isoformat()] for part in _parts(site, key)]
        if not listed and before is None:
            return None
        listing = canonical_json(listed)
        name = digest(listing)
        place = layout.document("listings", site.name, name, "segments.json")
        if not site.objects.exists(place):
            site.objects.put(place, listing)
        inputs: list[Given] = [("segments", Artifact(uri=place, digest=name, kind="listing"), key)]
        inputs += [("features", artifact, partition) for partition, artifact in _features(site, key)[-1:]]
        outcome, _ended = outcome_of(site.request("collect", scope=(key,), inputs=inputs, context=context))
        made = SnapshotStore(site.objects).artifact(site.name, "served", outcome.outputs["data"].digest)
        try:
            pointer, moved = site.tables.move(table, key, made, expect=_still(before))
        except Conflict:
            continue
        log.info("%s served %s: %s rows%s", site.name, key, made.rows, "" if moved else " (unchanged)")
        return pointer.current
    raise Conflict("what was served kept changing while it was collected", given=f"{site.name} {key}")


def skew(root: str, pipeline: str) -> dict[str, Any] | None:
    """Compare sampled rows of the partition with the point-in-time join of when they were asked; an alert where they
    differ. The verdict is on record, whatever it is."""
    site = Site.at(root, pipeline)
    partition = partition_of(site)
    rows = served_in(site, [partition])
    features = _features(site, partition)
    if not rows or not features:
        log.info("%s %s: nothing was served from features that are here", pipeline, partition)
        return None
    inputs: list[Given] = [("served", artifact, key) for key, artifact in rows]
    inputs += [("features", artifact, key) for key, artifact in features]
    inputs += [("former", artifact, key) for key, _ in features for artifact in _former(site, key)]
    request = site.request("skew", scope=(partition,), inputs=inputs, context=get_current_context())
    outcome, ended = outcome_of(request)
    if outcome.verdict is None:
        return outcome.facts
    site.ledger.record(
        GateVerdict(
            pipeline=pipeline,
            dataset=SKEW,
            partition=partition,
            snapshot=rows[0][1].digest,
            outcome=str(ended.outcome_digest),
            passed=outcome.verdict.passed,
        )
    )
    if not outcome.verdict.passed:
        said = "\n".join(check.message for check in outcome.verdict.failures)
        log.warning("%s %s: %s", pipeline, partition, said)
        tell(site, "alert", f"{pipeline} {partition}: served features differ from the offline ones", note(said))
        if site.placed.environment.alerts == "fail":
            raise AirflowFailException(said)
    return outcome.facts


def expire(root: str, pipeline: str) -> dict[str, Any]:
    """Let go of what was served and kept as long as `serving.log.keep` says: the Snapshots of whole partitions, and the
    shipped segments from before the first that is kept. What is left says why it is gone."""
    site = Site.at(root, pipeline)
    serving = site.spec.serving
    assert serving is not None
    store, erased, now = SnapshotStore(site.objects), [], datetime.now(UTC)
    for prefix, manifest in store.all(pipeline, "served"):
        if kept(site, manifest.partition, now) or store.tombstone(prefix) is not None:
            continue
        store.erase(prefix, manifest.digest, f"served predictions are kept {serving.log.keep}")
        erased.append(manifest.partition)
    first = first_kept(serving.log.keep, site.partitioning, now)
    gone = segments.before(site.objects, pipeline, site.partitioning.start(first))
    for key in gone:
        site.objects.delete(key)
    if erased or gone:
        log.info("%s: %s Snapshots and %s segments from before %s are gone", pipeline, len(erased), len(gone), first)
    return {"partitions": sorted(set(erased)), "segments": len(gone)}


def served_in(site: Site, keys: Sequence[str]) -> list[tuple[str, Artifact]]:
    """The Snapshots of what was asked in these partitions, where there are any that are kept."""
    if site.spec.serving is None:
        return []
    found = []
    for key in keys:
        pointer = site.tables.get(_table(site), key)
        if pointer is not None and kept(site, key) and not site.objects.exists(pointer.current.uri + TOMBSTONE):
            found.append((key, pointer.current.artifact))
    return found


def kept(site: Site, key: str, now: datetime | None = None) -> bool:
    """Whether what was served in a partition is kept still."""
    serving = site.spec.serving
    return serving is not None and is_kept(serving.log.keep, site.partitioning.end(key), now or datetime.now(UTC))


def _wanted(site: Site, partition: str) -> list[str]:
    monitoring, cut = site.spec.monitoring, site.partitioning
    window = cut.window(partition, monitoring.window) if monitoring and monitoring.window else [partition]
    first = cut.start(site.spec.partition.start)
    return [key for key in (cut.previous(window[0]), *window) if cut.start(key) >= first]


def _features(site: Site, partition: str) -> list[tuple[str, Artifact]]:
    """Features published of a partition and of those just before it, oldest first; the newest of all where none is."""
    table, cut, keys = f"{site.name}/features", site.partitioning, [partition]
    for _ in range(BEFORE):
        try:
            keys.append(cut.previous(keys[-1]))
        except SpecError:
            break
    found = [(key, site.tables.get(table, key)) for key in reversed(keys)]
    here = [(key, pointer.current.artifact) for key, pointer in found if pointer is not None]
    if here:
        return here
    newest = sorted(site.tables.partitions(table), key=cut.start)[-1:]
    return [(key, site.tables.resolve(table, key).artifact) for key in newest]


def _former(site: Site, key: str) -> list[Artifact]:
    """Earlier Snapshots of a features partition that are there still, the newest five."""
    pointer = site.tables.get(f"{site.name}/features", key)
    assert pointer is not None
    gone = {pointer.current.snapshot}
    found = []
    for moved in reversed(pointer.history):
        if moved.snapshot not in gone and not site.objects.exists(moved.uri + TOMBSTONE):
            found.append(moved.artifact)
        gone.add(moved.snapshot)
    return found[:5]


def _parts(site: Site, key: str) -> Any:
    return segments.parts(site.objects, site.name, site.partitioning.start(key), site.partitioning.end(key))


def _still(before: Pointer | None) -> Any:
    """Refuses to replace another pointer than the one that was there."""

    def expect(now: Pointer | None) -> None:
        if (now.generation if now else 0) != (before.generation if before else 0):
            raise Conflict("somebody else has collected meanwhile")

    return expect


def _table(site: Site) -> str:
    return f"{site.name}/served"
