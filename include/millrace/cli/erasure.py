"""`millrace erase`: which Snapshots and versions hold rows of subjects that withdrew, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from millrace.cli import erasure_served
from millrace.core.errors import Corrupt, EvidenceError, MillraceError, NotFound
from millrace.evidence import subject
from millrace.ledger import Erasure, Ledger, Moved, Registered, Touched
from millrace.rules.evidence import Evidence
from millrace.store import ObjectStore
from millrace.store.snapshots import SnapshotStore


@dataclass(frozen=True)
class Found:
    """What subjects touch. `unread` are datasets without their columns, in which nothing can be looked for."""

    keys: str
    columns: tuple[str, ...]
    count: int
    snapshots: tuple[Touched, ...]
    versions: tuple[int, ...]
    unread: tuple[str, ...]
    unsure: tuple[int, ...]
    """Versions whose Evidence cannot be read."""
    segments: dict[str, int] = field(default_factory=dict)
    """Shipped segments of servers' logs -> rows of theirs."""
    names: frozenset[tuple[str, ...]] = field(default=frozenset(), repr=False)
    """The keys, which no message quotes."""


def find(objects: ObjectStore, ledger: Ledger, pipeline: str, file: Path) -> Found:
    """Look through all Snapshots of a pipeline, current or not, and the Evidence of all versions.

    What an earlier erasure of the same keys found is found, though its bytes may be gone. Raises SpecError for a file
    that is no list of keys, and Unavailable.
    """
    from millrace.sql.subjects import subjects

    store = SnapshotStore(objects)
    touched: dict[str, Touched] = {}
    unread, looked = set(), set()
    with subjects(file) as asked:
        before = ledger.erasure(pipeline, asked.keys)
        touched |= {each.snapshot: each for each in (before.snapshots if before else ())}
        for prefix, manifest in store.all(pipeline):
            if not {*asked.columns} <= {*manifest.columns}:
                unread.add(manifest.dataset)
                continue
            looked.add(manifest.dataset)
            if manifest.digest in touched or store.tombstone(prefix) is not None:
                continue
            if rows := asked.rows_in(store.path(prefix, manifest.digest)):
                touched[manifest.digest] = Touched(
                    dataset=manifest.dataset, partition=manifest.partition, snapshot=manifest.digest, rows=rows
                )  # fmt: skip
        names = asked.names()
        segments = erasure_served.touched(objects, pipeline, asked.columns, names)
        if not looked and not segments:
            raise MillraceError(f"no Snapshot of {pipeline} has these columns", given=", ".join(asked.columns),
                                next_step="Name the entity's columns in the file's first line")  # fmt: skip
        versions, unsure = set(before.versions if before else ()), []
        for registered in ledger.versions(pipeline):
            evidence = evidence_of(objects, registered)
            if evidence is None:
                unsure.append(registered.version)
            elif {evidence.training_set.digest, *(gate.snapshot for gate in evidence.gates)} & {*touched}:
                versions.add(registered.version)
    found = sorted(touched.values(), key=lambda each: (each.dataset, each.partition, each.snapshot))
    return Found(asked.keys, asked.columns, asked.count, tuple(found), tuple(sorted(versions)),
                 tuple(sorted(unread - looked)), tuple(unsure), segments, names)  # fmt: skip


def carry_out(
    objects: ObjectStore,
    ledger: Ledger,
    pipeline: str,
    found: Found,
    *,
    reason: str,
    by: str,
    quarantine: bool,
    remove: bool,
) -> Erasure:
    """Put it on record, quarantine the versions where the policy says so, then take the bytes away where asked.

    Again, it changes nothing. In this order: killed anywhere, what was not done yet is found and done the next time.
    """
    before = ledger.erasure(pipeline, found.keys)
    removed = remove or (before is not None and before.removed)
    event = Erasure(
        pipeline=pipeline, keys=found.keys, columns=found.columns, count=found.count, snapshots=found.snapshots,
        versions=found.versions, removed=removed, reason=before.reason if before else reason,
        by=before.by if before else by,
    )  # fmt: skip
    ledger.record(event)
    if quarantine:
        lives = {life.version: life for life in ledger.lives(pipeline)}
        for version in found.versions:
            if lives[version].state not in ("quarantined", "retired"):
                why = f"subjects withdrew ({event.subject[:12]}): {event.reason}"
                ledger.move(Moved(pipeline=pipeline, version=version, to="quarantined", reason=why, by=by))
    if remove:
        # Before the Snapshots: from the segments they would be made again.
        erasure_served.forget(objects, list(found.segments), found.columns, found.names)
        store = SnapshotStore(objects)
        for each in found.snapshots:
            prefix = store.prefix(pipeline, each.dataset, each.snapshot)
            store.erase(prefix, each.snapshot, f"subjects withdrew ({event.subject[:12]}): {event.reason}")
    return event


def evidence_of(objects: ObjectStore, registered: Registered) -> Evidence | None:
    """The Evidence that a version was registered with; None where the store does not have it."""
    try:
        return subject.evidence_of(objects, registered.evidence)
    except (NotFound, Corrupt, EvidenceError):
        return None
