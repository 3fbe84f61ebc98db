"""Who is champion, and who was at any time: one entry per generation, added by compare-and-set.

A promotion counts from the moment when its entry was anchored, which a second entry says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from millrace.contract import Artifact
from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import chain, quarantine, releases
from millrace.ledger.events import Anchored, Promoted, Trained


@dataclass(frozen=True)
class Champion:
    """A ModelVersion while it is champion. `since` is UTC; `reason` is that of the release, whose id `release` is."""

    pipeline: str
    generation: int
    version: int
    evidence: Artifact
    trained: Trained
    release: str | None
    reason: str
    promotion: Artifact | None
    signer: str | None
    since: datetime

    @property
    def model_digest(self) -> str:
        """Digest of its model."""
        return self.trained.model.digest

    @property
    def evidence_digest(self) -> str:
        """Digest of the Evidence it was promoted on."""
        return self.evidence.digest


def champion(connection: Connection, pipeline: str, at: datetime | None = None) -> Champion | None:
    """The champion now, or at an aware moment; None before the first promotion that counts."""
    anchored = chain.entries(connection, pipeline, Anchored.kind, limit=1, until=at)
    if anchored:
        (entry,) = chain.entries(connection, pipeline, Promoted.kind, anchored[0].subject)
        return _champion(entry, anchored[0])
    # Promotions of the sealed chain are from before any was anchored. At most one other one may have been begun since.
    begun = chain.entries(connection, pipeline, Promoted.kind, limit=2, until=at)
    return next((_champion(entry) for entry in reversed(begun) if entry.number is None), None)


def of_release(connection: Connection, pipeline: str, request_id: str) -> Champion | None:
    """The champion that a release request made, whoever is champion now; None where it has not, or not yet."""
    for entry in chain.holding(connection, pipeline, Promoted.kind, request_id):
        if chain.of(Promoted, entry).release == request_id:
            marked = chain.entries(connection, pipeline, Anchored.kind, entry.subject, limit=1)
            if entry.number is None or marked:
                return _champion(entry, marked[0] if marked else None)
    return None


def champions(connection: Connection, pipeline: str) -> list[Champion]:
    """All champions there were, the first one first."""
    anchored = {entry.subject: entry for entry in chain.entries(connection, pipeline, Anchored.kind)}
    return [
        _champion(entry, anchored.get(entry.subject))
        for entry in chain.entries(connection, pipeline, Promoted.kind)
        if entry.number is None or entry.subject in anchored
    ]


def not_anchored(connection: Connection, pipeline: str) -> chain.Entry | None:
    """The promotion that does not count yet, since its entry was not anchored. There is at most one, the newest: the
    next one begins when this counts."""
    for entry in chain.entries(connection, pipeline, Promoted.kind, limit=1):
        if entry.number is not None and not chain.entries(connection, pipeline, Anchored.kind, entry.subject, limit=1):
            return entry
    return None


def anchored(connection: Connection, promotion: chain.Entry) -> None:
    """Let a promotion count, now that its entry is anchored; said again, it changes nothing."""
    made = chain.of(Promoted, promotion)
    assert promotion.number is not None
    event = Anchored(pipeline=made.pipeline, generation=made.generation, number=promotion.number,
                     entry_hash=promotion.hash)  # fmt: skip
    chain.append(connection, event)


def promote(
    connection: Connection,
    pipeline: str,
    request_id: str,
    evidence: Artifact,
    trained: Trained,
    *,
    approval: bool,
    promotion: Artifact | None = None,
    signer: str | None = None,
) -> None:
    """Carry out a release request: add the generation after the one it was made against. It counts once it is anchored.

    `approval`: whether persons must have approved it. `promotion` is the document of it, `signer` the key that signed
    that. Carrying it out again changes nothing. Raises Conflict when
    another version was promoted since it was made, LedgerError when it was decided otherwise, is about other
    Evidence, or its model is in quarantine.
    """
    request = releases.get(connection, pipeline, request_id)
    if request.state == "promoted":
        return
    what = f"{pipeline} version {request.version} cannot be promoted"
    if request.state not in (("approved",) if approval else ("approved", "waiting")):
        raise LedgerError(f"{what}: its release is {releases.words(request)}")
    if approval and any(answer.how == "automatic" for answer in request.answers):
        raise LedgerError(f"{what}: its release was approved by no person, but by {request.by}",
                          next_step="Start the release again")  # fmt: skip
    if request.evidence != evidence.digest:
        raise LedgerError(f"{what}: the release is about other Evidence", given=evidence.digest,
                          allowed=[request.evidence])  # fmt: skip
    begun = chain.entries(connection, pipeline, Promoted.kind, limit=1)
    now = chain.of(Promoted, begun[0]) if begun else None
    generation = now.generation if now else 0
    if generation != request.expected_generation:
        raise Conflict(
            f"generation {generation} of '{pipeline}' is champion{f' (version {now.version})' if now else ''}, "
            f"not the expected {request.expected_generation}",
            given=f"version {request.version}",
            next_step="Start the release again: a challenger must meet the present champion first",
        )
    quarantine.check(connection, pipeline, request.version, trained.model.digest)
    event = Promoted(
        pipeline=pipeline,
        generation=generation + 1,
        version=request.version,
        evidence=evidence,
        trained=trained,
        release=request.id,
        reason=request.reason,
        promotion=promotion,
        signer=signer,
    )
    chain.append(connection, event)
    releases.record(connection, request, state="promoted")


def _champion(entry: chain.Entry, anchored: chain.Entry | None = None) -> Champion:
    made = chain.of(Promoted, entry)
    since = entry.at if anchored is None else anchored.at
    return Champion(**{name: getattr(made, name) for name in Promoted.model_fields}, since=since)
