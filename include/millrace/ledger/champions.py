"""Who is champion, and who was at any time: one entry per generation, added by compare-and-set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from millrace.errors import Conflict
from millrace.ledger import chain
from millrace.ledger.schema import PROMOTED


@dataclass(frozen=True)
class Champion:
    """A ModelVersion while it is champion. `body` holds its artifacts and what it was trained on; `since` is UTC."""

    pipeline: str
    generation: int
    version: int
    model_digest: str
    evidence_digest: str
    body: dict[str, Any]
    since: datetime


def champion(connection: Connection, pipeline: str, at: datetime | None = None) -> Champion | None:
    """The champion now, or at an aware moment; None before the first promotion."""
    found = chain.entries(connection, pipeline, PROMOTED, limit=1, until=at)
    return _champion(found[0]) if found else None


def promote(
    connection: Connection,
    pipeline: str,
    *,
    version: int,
    model_digest: str,
    evidence_digest: str,
    expected_generation: int,
    body: dict[str, Any],
) -> Champion:
    """Add the next generation if the current one is the expected one (0: nobody was promoted yet).

    Asking again for what is champion already changes nothing. Raises Conflict when somebody else was promoted first.
    """
    now = champion(connection, pipeline)
    asked = (version, model_digest, evidence_digest)
    if now is not None and (now.version, now.model_digest, now.evidence_digest) == asked:
        return now
    generation = now.generation if now else 0
    if generation != expected_generation:
        raise Conflict(
            f"generation {generation} of '{pipeline}' is champion{f' (version {now.version})' if now else ''}, "
            f"not the expected {expected_generation}",
            given=f"version {version}",
            next_step="Evaluate against the present champion first",
        )
    entry = chain.append(
        connection,
        pipeline,
        PROMOTED,
        f"generation/{generation + 1}",
        {
            "generation": generation + 1,
            "version": version,
            "model": model_digest,
            "evidence": evidence_digest,
            "body": body,
        },
    )
    return _champion(entry)


def _champion(entry: chain.Entry) -> Champion:
    made = entry.body
    return Champion(
        pipeline=entry.pipeline,
        generation=made["generation"],
        version=made["version"],
        model_digest=made["model"],
        evidence_digest=made["evidence"],
        body=made["body"],
        since=entry.at,
    )
