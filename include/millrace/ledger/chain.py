"""The append-only, hash-chained record: every entry holds the hash of the one before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from millrace.canonical import canonical_json, digest
from millrace.errors import LedgerError
from millrace.ledger.schema import ENTRIES, PROMOTED

GENESIS = digest(b"millrace ledger")
"""What the first entry holds as the hash before it."""
_WIDTHS = {"pipeline": 63, "kind": 40, "subject": 200}


@dataclass(frozen=True)
class Entry:
    """One recorded fact. `at` is UTC in microseconds; `subject` names what it is about within its kind."""

    seq: int
    at: datetime
    pipeline: str
    kind: str
    subject: str
    body: dict[str, Any]
    previous: str
    hash: str


def timestamp(moment: datetime) -> str:
    """UTC in microseconds, always of the same width, so that text order is time order. Refuses a naive datetime."""
    if moment.tzinfo is None:
        raise LedgerError("a moment needs a time zone", given=moment.isoformat())
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def append(connection: Connection, pipeline: str, kind: str, subject: str, body: dict[str, Any]) -> Entry:
    """Add an entry within a write transaction. Times rise strictly, whatever the clock does.

    Raises LedgerError for a body that is not JSON (such as a number that is not finite) or a name that is too long.
    """
    for name, value in (("pipeline", pipeline), ("kind", kind), ("subject", subject)):
        if not 0 < len(value) <= _WIDTHS[name]:
            raise LedgerError(f"{name} has {len(value)} characters", given=value[:80], allowed=f"1 to {_WIDTHS[name]}")
    try:
        text = canonical_json(body).decode()
    except (TypeError, ValueError) as err:
        raise LedgerError(f"the body of '{kind} {subject}' is not JSON: {err}") from err
    columns = ENTRIES.c
    last = connection.execute(
        select(columns.seq, columns.at, columns.hash).order_by(columns.seq.desc()).limit(1)
    ).first()
    seq, previous, at = 1, GENESIS, datetime.now(UTC)
    if last is not None:
        seq, previous = last.seq + 1, last.hash
        at = max(at, datetime.fromisoformat(last.at) + timedelta(microseconds=1))
    row = {"seq": seq, "at": timestamp(at), "pipeline": pipeline, "kind": kind, "subject": subject, "body": text,
           "previous": previous}  # fmt: skip
    row["hash"] = digest(row)
    connection.execute(insert(ENTRIES).values(**row))
    return Entry(seq, at, pipeline, kind, subject, json.loads(text), previous, str(row["hash"]))


def entries(
    connection: Connection,
    pipeline: str | None = None,
    kind: str | None = None,
    subject: str | None = None,
    limit: int | None = None,
    until: datetime | None = None,
) -> list[Entry]:
    """Entries in the order they were made; with `limit` the newest ones, with `until` those made up to a moment."""
    query = select(ENTRIES).order_by(ENTRIES.c.seq.desc())
    for column, value in ((ENTRIES.c.pipeline, pipeline), (ENTRIES.c.kind, kind), (ENTRIES.c.subject, subject)):
        if value is not None:
            query = query.where(column == value)
    if until is not None:
        query = query.where(ENTRIES.c.at <= timestamp(until))
    if limit is not None:
        query = query.limit(limit)
    return [_entry(row) for row in reversed(connection.execute(query).all())]


def latest(connection: Connection, pipeline: str, kind: str, prefix: str = "") -> dict[str, Entry]:
    """The newest entry of each subject that begins with `prefix`, oldest first: the state that a kind describes."""
    newest = select(func.max(ENTRIES.c.seq)).where(ENTRIES.c.pipeline == pipeline, ENTRIES.c.kind == kind)
    if prefix:
        newest = newest.where(ENTRIES.c.subject.startswith(prefix, autoescape=True))
    query = select(ENTRIES).where(ENTRIES.c.seq.in_(newest.group_by(ENTRIES.c.subject))).order_by(ENTRIES.c.seq)
    return {row.subject: _entry(row) for row in connection.execute(query)}


def verify(connection: Connection, anchor: str | None = None) -> int:
    """Check the whole chain and return its length. Raises LedgerError naming the first entry that does not fit.

    A cut tail leaves a chain that holds: keep `head` elsewhere and give it as `anchor`, which must be in the record.
    """
    previous, expected, at, anchored = GENESIS, 1, "", anchor in (None, GENESIS)
    generations: dict[str, int] = {}
    for row in connection.execute(select(ENTRIES).order_by(ENTRIES.c.seq).execution_options(yield_per=1000)):
        what = f"entry {row.seq} ({row.kind} {row.subject} of {row.pipeline})"
        if row.seq != expected:
            raise LedgerError(f"entry {expected} is missing; the record was changed from there on", given=what)
        if row.previous != previous or row.at <= at:
            raise LedgerError("an entry does not follow the one before it; the record was changed", given=what)
        content = {name: value for name, value in row._mapping.items() if name != "hash"}
        if digest(content) != row.hash:
            raise LedgerError("an entry was changed after it was written", given=what)
        if row.kind == PROMOTED:
            generations[row.pipeline] = generations.get(row.pipeline, 0) + 1
            if json.loads(row.body).get("generation") != generations[row.pipeline]:
                raise LedgerError("a promotion is out of order", given=what)
        previous, expected, at = row.hash, expected + 1, row.at
        anchored = anchored or row.hash == anchor
    if not anchored:
        raise LedgerError("the record ends before the entry it once held, or is another one", given=anchor)
    return expected - 1


def head(connection: Connection) -> str:
    """Hash of the newest entry: to be kept elsewhere and compared later."""
    return connection.execute(select(ENTRIES.c.hash).order_by(ENTRIES.c.seq.desc()).limit(1)).scalar() or GENESIS


def _entry(row: Row[Any]) -> Entry:
    values = dict(row._mapping)
    return Entry(**{**values, "at": datetime.fromisoformat(values["at"]), "body": json.loads(values["body"])})
