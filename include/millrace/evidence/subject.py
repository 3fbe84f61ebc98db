"""A registered version, with the store, ledger and key from which everything about it is looked up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from millrace.contract import Artifact
from millrace.core.canonical import digest
from millrace.core.errors import Corrupt, EvidenceError, LedgerError
from millrace.evidence import folder as signed
from millrace.ledger import Champion, Ledger, Registered
from millrace.rules.evidence import Evidence
from millrace.rules.promotion import Promotion
from millrace.store import ObjectStore, layout

SIGNED = "signed"
"""The folder of an export that was signed."""
Anchors = Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class Subject:
    """A registered version with all that can be asked about it."""

    objects: ObjectStore
    ledger: Ledger
    anchors: Anchors
    registered: Registered
    public_key: Path | None

    @property
    def pipeline(self) -> str:
        """Its pipeline."""
        return self.registered.pipeline

    @property
    def champion(self) -> Champion | None:
        """Its newest promotion that counts, None where it never was champion."""
        mine = (self.registered.version, self.registered.evidence.digest)
        found = [c for c in self.ledger.champions(self.pipeline) if (c.version, c.evidence_digest) == mine]
        return found[-1] if found else None


def registered(ledger: Ledger, pipeline: str, version: int) -> Registered:
    """What a version was registered with. Raises LedgerError for one that never was."""
    found = ledger.registered(pipeline, version)
    if found is None:
        raise LedgerError(f"no such version of {pipeline} was registered", given=version,
                          allowed=[each.version for each in ledger.versions(pipeline)])  # fmt: skip
    return found


def evidence_of(objects: ObjectStore, stored: Artifact) -> Evidence:
    """The Evidence of an Artifact, verified. Raises NotFound, Corrupt, EvidenceError."""
    data = objects.get(stored.uri)
    if digest(data) != stored.digest:
        raise Corrupt("the stored Evidence does not have its digest", where=objects.url(stored.uri))
    return Evidence.read(json.loads(data))


def promotion_of(objects: ObjectStore, stored: Artifact) -> Promotion:
    """The promotion of an Artifact, verified. Raises NotFound, Corrupt, EvidenceError."""
    data = objects.get(stored.uri)
    if digest(data) != stored.digest:
        raise Corrupt("the stored promotion does not have its digest", where=objects.url(stored.uri))
    return Promotion.read(json.loads(data))


def export(subject: Subject, target: Path) -> Path:
    """Write the folder that was signed, as `signed/`, and the signature beside it. Raises EvidenceError for a version
    that never was champion, NotFound for what is gone."""
    champion = subject.champion
    if champion is None or champion.promotion is None:
        raise EvidenceError(f"{subject.pipeline} version {subject.registered.version} has no promotion to export")
    signed.lay(subject.objects, target / SIGNED, champion.evidence, champion.promotion, subject.registered.model)
    where = layout.model_signature(champion.promotion.uri)
    if subject.objects.exists(where):
        (target / signed.SIGNATURE).write_bytes(subject.objects.get(where))
    return target
