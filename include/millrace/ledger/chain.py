"""The append-only, hash-chained record: every entry holds the hash of the one before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, func, insert, select

from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import LedgerError
from millrace.ledger.event import Event
from millrace.ledger.events import read
from millrace.ledger.schema import ENTRIES, PROMOTED

E = TypeVar("E", bound=Event)
GENESIS = digest(b"millrace ledger")
"""What the first entry holds as the hash before it."""
_WIDTHS = {"pipeline": 63, "kind": 40, "subject": 200}


@dataclass(frozen=True)
class Entry:
    """One recorded fact. `at` is UTC in microseconds; `subject` names what it is about within its kind; `body` is as it
    was written."""

    seq: int
    at: datetime
    pipeline: str
    kind: str
    subject: str
    body: dict[str, Any]
    previous: str
    hash: str

    @property
    def event(self) -> Event:
        """The body by its type, whatever version wrote it. Raises LedgerError."""
        return read(self.pipeline, self.kind, self.subject, self.body)


def timestamp(moment: datetime) -> str:
    """UTC in microseconds, always of the same width, so that text order is time order. Refuses a naive datetime."""
    if moment.tzinfo is None:
        raise LedgerError("a moment needs a time zone", given=moment.isoformat())
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def append(connection: Connection, event: Event) -> Entry:
    """Add an event within a write transaction, unless it is what the newest entry of its subject says already: a retry
    adds nothing. Times rise strictly, whatever the clock does.

    Raises LedgerError for a body that is not JSON (such as a number that is not finite) or a name that is too long.
    """
    pipeline, kind, subject = event.pipeline, event.kind, event.subject
    for name, value in (("pipeline", pipeline), ("kind", kind), ("subject", subject)):
        if not 0 < len(value) <= _WIDTHS[name]:
            raise LedgerError(f"{name} has {len(value)} characters", given=value[:80], allowed=f"1 to {_WIDTHS[name]}")
    text = _text(event)
    stands = entries(connection, pipeline, kind, subject, limit=1)
    if stands and _text(stands[0].event) == text:
        return stands[0]
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


def states(connection: Connection, kind: type[E], pipeline: str, prefix: str = "") -> list[E]:
    """How things stand with every subject of a kind, in the order in which they were last spoken of."""
    return [of(kind, entry) for entry in latest(connection, pipeline, kind.kind, prefix).values()]


def state(connection: Connection, kind: type[E], pipeline: str | None, subject: str) -> E | None:
    """How things stand with one subject, None where nothing was recorded of it."""
    found = entries(connection, pipeline, kind.kind, subject, limit=1)
    return of(kind, found[0]) if found else None


def of(kind: type[E], entry: Entry) -> E:
    """An entry's event, of the type that its kind has."""
    event = entry.event
    assert isinstance(event, kind)
    return event


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


def _text(event: Event) -> str:
    try:
        return canonical_json(event.body()).decode()
    except (TypeError, ValueError) as err:
        raise LedgerError(f"the body of '{event.kind} {event.subject}' is not JSON: {err}") from err


def _entry(row: Row[Any]) -> Entry:
    values = dict(row._mapping)
    return Entry(**{**values, "at": datetime.fromisoformat(values["at"]), "body": json.loads(values["body"])})
