"""Verification of a registered version's Evidence, offline: from the store, the ledger, and a public key.

Nothing is believed that can be looked up: every digest is computed again, and what the ledger says is held against
what the documents say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from millrace.contract import Artifact
from millrace.core.canonical import digest
from millrace.core.errors import Corrupt, EvidenceError, MillraceError
from millrace.evidence import folder as signed
from millrace.evidence import promoted
from millrace.evidence.finding import Finding
from millrace.evidence.subject import Subject, evidence_of
from millrace.ledger import Source
from millrace.rules.evidence import Evidence, missing
from millrace.store import ObjectStore, SnapshotStore, bundles


def verify(subject: Subject) -> list[Finding]:
    """Look at everything behind a version; the order is that of its making."""
    objects, stored = subject.objects, subject.registered.evidence
    found = [_of_ledger(subject)]
    evidence: Evidence | None = None
    try:
        evidence = evidence_of(objects, stored)
        found.append(Finding("Evidence", True, f"{stored.digest}, of version {evidence.evidence_version}"))
    except MillraceError as err:
        found.append(Finding("Evidence", False, str(err)))
    if evidence is not None:
        given = evidence
        gaps = missing(given, has_champion=False)
        found.append(Finding("complete", not gaps, "; ".join(gaps) or "it lacks nothing that a promotion needs"))
        found.append(_looked("model", lambda: _model(subject, given)))
        found.append(_looked("training set", lambda: _snapshot(objects, given.training_set)))
        found.append(_looked("evaluation", lambda: _evaluation(objects, given)))
        found.append(
            _looked("spec", lambda: f"the pipeline's folder is {bundles.read(objects, given.spec_digest).digest}")
        )
        found += _gates(subject, given)
    return [*found, *promoted.findings(subject)]


def _looked(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except MillraceError as err:
        return Finding(what, False, str(err))


def _of_ledger(subject: Subject) -> Finding:
    problems = [c.problem for c in subject.ledger.chains(subject.anchors)
                if c.problem and c.pipeline in (subject.pipeline, None)]  # fmt: skip
    if problems:
        return Finding("ledger", False, "; ".join(problems))
    return Finding("ledger", True, f"the chain of {subject.pipeline} is unbroken, up to its anchors")


def _model(subject: Subject, evidence: Evidence) -> str:
    if evidence.model != subject.registered.model:
        raise EvidenceError("the version was registered with another model", given=evidence.model.digest,
                            allowed=[subject.registered.model.digest])  # fmt: skip
    signed.check_model(subject.objects, evidence.model)
    return f"{evidence.model.digest}, card and weights"


def _snapshot(objects: ObjectStore, stored: Artifact) -> str:
    SnapshotStore(objects).path(stored.uri, stored.digest)
    return f"{stored.digest}, {stored.rows} rows"


def _evaluation(objects: ObjectStore, evidence: Evidence) -> str:
    stored = evidence.evaluation
    data = objects.get(stored.uri)
    if digest(data) != stored.digest:
        raise Corrupt("the stored evaluation does not have its digest", where=objects.url(stored.uri))
    document = json.loads(data)
    if not (document.get("passed") is True and document.get("model") == evidence.model.digest):
        raise EvidenceError("the evaluation does not say that this model passed")
    return f"{stored.digest}, passed by this model"


def _gates(subject: Subject, evidence: Evidence) -> Iterator[Finding]:
    """Each verdict as the ledger has it now, and each Snapshot that it is about."""
    snapshots = SnapshotStore(subject.objects)
    for name, records in (("gates", evidence.gates), ("parity", evidence.parity or ())):
        asked = [Source(dataset=g.dataset, partition=g.partition, snapshot=g.snapshot) for g in records]
        known, wrong = subject.ledger.verdicts_on(subject.pipeline, asked), []
        for source, record in zip(asked, records, strict=True):
            verdict, what = known.get(source), f"{record.dataset} {record.partition}"
            if verdict is None or (verdict.passed, verdict.outcome) != (record.passed, record.outcome):
                wrong.append(f"{what}: the ledger has {'no such' if verdict is None else 'another'} verdict")
            if name == "gates":
                try:
                    prefix = snapshots.prefix(subject.pipeline, record.dataset, record.snapshot)
                    snapshots.path(prefix, record.snapshot)
                except MillraceError as err:
                    wrong.append(f"{what}: {err}")
        if not records:
            yield Finding(name, None if name == "parity" else False, "none")
            continue
        count = f"{len(records)} verdicts as the ledger has them"
        with_data = ", and their Snapshots by their digests" if name == "gates" else ""
        yield Finding(name, not wrong, "; ".join(wrong) or count + with_data)
