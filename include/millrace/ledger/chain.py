"""The append-only, hash-chained record: every entry holds the hash of the one before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from millrace.canonical import canonical_json, digest
from millrace.errors import MillraceError
from millrace.ledger.schema import ENTRIES

GENESIS = digest(b"millrace ledger")


class LedgerError(MillraceError):
    """The ledger's record does not hold together, or it was asked for something that cannot be."""


@dataclass(frozen=True)
class Entry:
    """One recorded fact. `at` is UTC in microseconds; `subject` names what it is about within its kind."""

    seq: int
    at: str
    pipeline: str
    kind: str
    subject: str
    body: dict[str, Any]
    previous: str
    hash: str


def now() -> str:
    """UTC in microseconds, always of the same width, so that text order is time order."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def append(connection: Connection, pipeline: str, kind: str, subject: str, body: dict[str, Any]) -> Entry:
    """Add an entry within a write transaction. Times never run backwards, whatever the clock does."""
    last = connection.execute(
        select(ENTRIES.c.seq, ENTRIES.c.at, ENTRIES.c.hash).order_by(ENTRIES.c.seq.desc()).limit(1)
    ).first()
    seq, at, previous = (last.seq + 1, max(now(), last.at), last.hash) if last else (1, now(), GENESIS)
    text = canonical_json(body).decode()
    found = _hash(seq, at, pipeline, kind, subject, text, previous)
    connection.execute(
        insert(ENTRIES).values(
            seq=seq, at=at, pipeline=pipeline, kind=kind, subject=subject, body=text, previous=previous, hash=found
        )
    )
    return Entry(seq, at, pipeline, kind, subject, json.loads(text), previous, found)


def entries(
    connection: Connection,
    pipeline: str | None = None,
    kind: str | None = None,
    subject: str | None = None,
    limit: int | None = None,
) -> list[Entry]:
    """Entries in the order they were made; with `limit` the newest ones."""
    query = select(ENTRIES).order_by(ENTRIES.c.seq.desc())
    for column, value in ((ENTRIES.c.pipeline, pipeline), (ENTRIES.c.kind, kind), (ENTRIES.c.subject, subject)):
        if value is not None:
            query = query.where(column == value)
    if limit is not None:
        query = query.limit(limit)
    rows = connection.execute(query).mappings().all()
    return [Entry(**{**row, "body": json.loads(row["body"])}) for row in reversed(rows)]


def verify(connection: Connection) -> int:
    """Check the whole chain and return its length. Raises LedgerError naming the first entry that does not fit.

    A cut tail leaves a chain that holds; keep `head` elsewhere to see that.
    """
    previous, expected = GENESIS, 1
    for row in connection.execute(select(ENTRIES).order_by(ENTRIES.c.seq)):
        if row.seq != expected or row.previous != previous:
            raise LedgerError(f"entry {expected} is missing or out of place; the record was changed from here on",
                              given=f"entry {row.seq}")
        found = _hash(row.seq, row.at, row.pipeline, row.kind, row.subject, row.body, row.previous)
        if found != row.hash:
            raise LedgerError("an entry was changed after it was written", given=f"entry {row.seq} ({row.kind})")
        previous, expected = row.hash, expected + 1
    return expected - 1


def head(connection: Connection) -> str:
    """Hash of the newest entry: to be kept elsewhere and compared later."""
    newest = select(func.max(ENTRIES.c.seq)).scalar_subquery()
    return connection.execute(select(ENTRIES.c.hash).where(ENTRIES.c.seq == newest)).scalar() or GENESIS


def _hash(seq: int, at: str, pipeline: str, kind: str, subject: str, body: str, previous: str) -> str:
    return digest([seq, at, pipeline, kind, subject, body, previous])
