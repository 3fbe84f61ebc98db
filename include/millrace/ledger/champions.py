"""Who is champion, and who was at any time: one row per generation, added by compare-and-set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from millrace.canonical import canonical_json
from millrace.errors import Conflict
from millrace.ledger import chain
from millrace.ledger.schema import CHAMPIONS


@dataclass(frozen=True)
class Champion:
    """A ModelVersion while it is champion. `body` holds its artifacts and what it was trained on."""

    pipeline: str
    generation: int
    version: int
    model_digest: str
    evidence_digest: str
    body: dict[str, Any]
    since: str


def champion(connection: Connection, pipeline: str, at: datetime | None = None) -> Champion | None:
    """The champion now, or at an aware moment; None before the first promotion."""
    query = select(CHAMPIONS).where(CHAMPIONS.c.pipeline == pipeline).order_by(CHAMPIONS.c.generation.desc()).limit(1)
    if at is not None:
        query = query.where(CHAMPIONS.c.since <= at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    row = connection.execute(query).mappings().first()
    return None if row is None else Champion(**{**row, "body": json.loads(row["body"])})


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
    """Add the next generation if the current one is the expected one.

    Asking again for what is champion already changes nothing. Raises Conflict when somebody else was promoted first.
    """
    now = champion(connection, pipeline)
    generation = now.generation if now else 0
    if now is not None and (now.version, now.evidence_digest) == (version, evidence_digest):
        return now
    if generation != expected_generation:
        raise Conflict(
            f"generation {generation} of '{pipeline}' is champion, not the expected {expected_generation}",
            given=f"version {version}", next_step="Evaluate against the new champion first",
        )
    entry = chain.append(
        connection, pipeline, "promoted", f"v{version}",
        {"generation": generation + 1, "version": version, "model": model_digest, "evidence": evidence_digest},
    )
    new = Champion(pipeline, generation + 1, version, model_digest, evidence_digest, body, entry.at)
    row = {**new.__dict__, "body": canonical_json(body).decode()}
    connection.execute(insert(CHAMPIONS).values(**row))
    return new
