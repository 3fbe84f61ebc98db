"""Who is champion, and who was at any time: one entry per generation, added by compare-and-set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from millrace.contract import Artifact
from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import chain, releases
from millrace.ledger.events import Promoted, Trained


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
    """The champion now, or at an aware moment; None before the first promotion."""
    found = chain.entries(connection, pipeline, Promoted.kind, limit=1, until=at)
    return _champion(found[0]) if found else None


def champions(connection: Connection, pipeline: str) -> list[Champion]:
    """All champions there were, the first one first."""
    return [_champion(entry) for entry in chain.entries(connection, pipeline, Promoted.kind)]


def promote(
    connection: Connection, pipeline: str, request_id: str, evidence: Artifact, trained: Trained, *, approval: bool
) -> Champion:
    """Carry out a release request: add the generation after the one it was made against.

    `approval`: whether persons must have approved it. Carrying it out again changes nothing. Raises Conflict when
    another version was promoted since it was made, LedgerError when it was decided otherwise or is about other
    Evidence.
    """
    request = releases.get(connection, pipeline, request_id)
    if request.state == "promoted":
        return next(c for c in champions(connection, pipeline) if c.release == request.id)
    what = f"{pipeline} version {request.version} cannot be promoted"
    if request.state not in (("approved",) if approval else ("approved", "waiting")):
        raise LedgerError(f"{what}: its release is {releases.words(request)}")
    if approval and any(answer.how == "automatic" for answer in request.answers):
        raise LedgerError(f"{what}: its release was approved by no person, but by {request.by}",
                          next_step="Start the release again")  # fmt: skip
    if request.evidence != evidence.digest:
        raise LedgerError(f"{what}: the release is about other Evidence", given=evidence.digest,
                          allowed=[request.evidence])  # fmt: skip
    now = champion(connection, pipeline)
    generation = now.generation if now else 0
    if generation != request.expected_generation:
        raise Conflict(
            f"generation {generation} of '{pipeline}' is champion{f' (version {now.version})' if now else ''}, "
            f"not the expected {request.expected_generation}",
            given=f"version {request.version}",
            next_step="Start the release again: a challenger must meet the present champion first",
        )
    event = Promoted(
        pipeline=pipeline,
        generation=generation + 1,
        version=request.version,
        evidence=evidence,
        trained=trained,
        release=request.id,
        reason=request.reason,
    )
    entry = chain.append(connection, event)
    releases.record(connection, request, state="promoted")
    return _champion(entry)


def _champion(entry: chain.Entry) -> Champion:
    made = chain.of(Promoted, entry)
    return Champion(**{name: getattr(made, name) for name in Promoted.model_fields}, since=entry.at)
