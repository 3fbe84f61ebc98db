"""The append-only record: every entry holds the hash of the one before it in its pipeline's chain.

Entries from before pipelines had chains of their own are one chain over all of them. It is sealed: never added to,
never rehashed, and its head is in the hash that each pipeline's chain begins with.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, func, insert, or_, select

from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import LedgerError
from millrace.ledger.event import Event
from millrace.ledger.events import read
from millrace.ledger.schema import ENTRIES, SEQ

E = TypeVar("E", bound=Event)
GENESIS = digest(b"millrace ledger")
"""What the first entry of all holds as the hash before it."""
_WIDTHS = {"pipeline": 63, "kind": 40, "subject": 200}
_AT_ONCE = 500
"""Subjects in one question: databases bound its parameters."""


@dataclass(frozen=True)
class Entry:
    """One recorded fact. `seq` orders all entries, `number` those of the pipeline's chain, from 1 (None: sealed).
    `at` is UTC in microseconds; `subject` names what it is about within its kind; `body` is as it was written."""

    seq: int
    at: datetime
    pipeline: str
    kind: str
    subject: str
    body: dict[str, Any]
    previous: str
    hash: str
    number: int | None

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
    """Add an event within a write transaction of its pipeline, unless it is what the newest entry of its subject says
    already: a retry adds nothing. Times rise strictly within a chain, whatever the clock does.

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
    seq, number, previous, last = _end(connection, pipeline)
    at = datetime.now(UTC)
    if last is not None:
        at = max(at, datetime.fromisoformat(last) + timedelta(microseconds=1))
    row = {"seq": seq, "at": timestamp(at), "pipeline": pipeline, "kind": kind, "subject": subject,
           "body": text, "previous": previous, "number": number + 1}  # fmt: skip
    row["hash"] = entry_hash(row)
    connection.execute(insert(ENTRIES).values(**row))
    return _of_columns(row)


def not_before(connection: Connection, pipeline: str, moment: datetime) -> datetime:
    """A moment, or the time of a pipeline's newest entry where that is later: by the record time never goes back, so
    that what is over stays over when a clock is set back."""
    at = select(func.max(ENTRIES.c.at)).where(ENTRIES.c.pipeline == pipeline)
    number = select(func.max(ENTRIES.c.number)).where(ENTRIES.c.pipeline == pipeline).scalar_subquery()
    last = connection.execute(at.where(ENTRIES.c.number == number)).scalar()
    return moment if last is None else max(moment, datetime.fromisoformat(last))


def entry_hash(row: Mapping[str, Any]) -> str:
    """Hash of an entry's columns. Those of the sealed chain had no number."""
    return digest({name: value for name, value in row.items() if name != "hash" and (name, value) != ("number", None)})


def first_previous(sealed_head: str, pipeline: str) -> str:
    """What the first entry of a pipeline's chain holds as the hash before it."""
    return digest([sealed_head, pipeline])


def _end(connection: Connection, pipeline: str) -> tuple[int, int, str, str | None]:
    """The next `seq`; number, hash and time of the newest entry of a pipeline's chain, or of what it begins with.

    `seq` is taken while the pipeline's writer is alone, so that it rises within a chain; in one question, as each costs
    a way to the server and back.
    """
    columns = ENTRIES.c
    following = select(func.coalesce(func.max(columns.seq), 0) + 1).scalar_subquery()
    seq = (SEQ.next_value() if connection.dialect.supports_sequences else following).label("seq")
    mine = select(seq, columns.number, columns.hash, columns.at).where(columns.pipeline == pipeline)
    last = connection.execute(mine.where(columns.number.is_not(None)).order_by(columns.number.desc()).limit(1)).first()
    if last is not None:
        return last.seq, last.number, last.hash, last.at
    sealed = select(columns.hash, columns.at).where(columns.number.is_(None))
    head = connection.execute(sealed.order_by(columns.seq.desc()).limit(1)).first()
    number = connection.execute(select(seq)).scalar_one()
    return number, 0, first_previous(head.hash if head else GENESIS, pipeline), head.at if head else None


def entries(
    connection: Connection,
    pipeline: str | None = None,
    kind: str | None = None,
    subject: str | None = None,
    limit: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Entry]:
    """Entries in the order of all; with `limit` the newest ones, with `since` and `until` those made from one moment up
    to another, both included."""
    query = select(ENTRIES).order_by(ENTRIES.c.seq.desc())
    for column, value in ((ENTRIES.c.pipeline, pipeline), (ENTRIES.c.kind, kind), (ENTRIES.c.subject, subject)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(ENTRIES.c.at >= timestamp(since))
    if until is not None:
        query = query.where(ENTRIES.c.at <= timestamp(until))
    if limit is not None:
        query = query.limit(limit)
    return [_entry(row) for row in reversed(connection.execute(query).all())]


def about(connection: Connection, pipeline: str, kind: str, subjects: Collection[str]) -> Iterator[Entry]:
    """All entries of these subjects; of each subject in the order of all."""
    names = sorted(subjects)
    for start in range(0, len(names), _AT_ONCE):
        some = ENTRIES.c.subject.in_(names[start : start + _AT_ONCE])
        query = select(ENTRIES).where(ENTRIES.c.pipeline == pipeline, ENTRIES.c.kind == kind, some)
        yield from (_entry(row) for row in connection.execute(query.order_by(ENTRIES.c.seq)))


def rows(connection: Connection) -> Iterator[Mapping[str, Any]]:
    """All entries as they lie, in the order of all."""
    query = select(ENTRIES).order_by(ENTRIES.c.seq).execution_options(yield_per=1000)
    for row in connection.execute(query):
        yield dict(row._mapping)


def latest(
    connection: Connection, pipeline: str, kind: str, prefix: str = "", holding: Collection[str] = ()
) -> dict[str, Entry]:
    """The newest entry of each subject that begins with `prefix`, oldest first: the state that a kind describes.

    With `holding` those only in whose text one of these pieces of canonical JSON stands: a sieve that the database
    shakes, since to read thousands of bodies for one costs much more. What it lets through may still be another.
    """
    newest = select(func.max(ENTRIES.c.seq)).where(ENTRIES.c.pipeline == pipeline, ENTRIES.c.kind == kind)
    if prefix:
        newest = newest.where(ENTRIES.c.subject.startswith(prefix, autoescape=True))
    query = select(ENTRIES).where(ENTRIES.c.seq.in_(newest.group_by(ENTRIES.c.subject))).order_by(ENTRIES.c.seq)
    return {row.subject: _entry(row) for row in connection.execute(_sieved(query, holding))}


def holding(connection: Connection, pipeline: str, kind: str, text: str) -> list[Entry]:
    """All entries of a kind in whose text a piece of canonical JSON stands, in the order of all. See `latest`."""
    query = select(ENTRIES).where(ENTRIES.c.pipeline == pipeline, ENTRIES.c.kind == kind).order_by(ENTRIES.c.seq)
    return [_entry(row) for row in connection.execute(_sieved(query, [text]))]


def states(
    connection: Connection, kind: type[E], pipeline: str, prefix: str = "", holding: Collection[str] = ()
) -> list[E]:
    """How things stand with every subject of a kind, in the order in which they were last spoken of. See `latest`."""
    return [of(kind, entry) for entry in latest(connection, pipeline, kind.kind, prefix, holding).values()]


def state(connection: Connection, kind: type[E], pipeline: str | None, subject: str) -> E | None:
    """How things stand with one subject, None where nothing was recorded of it."""
    found = entries(connection, pipeline, kind.kind, subject, limit=1)
    return of(kind, found[0]) if found else None


def of(kind: type[E], entry: Entry) -> E:
    """An entry's event, of the type that its kind has."""
    event = entry.event
    assert isinstance(event, kind)
    return event


def _sieved(query: Select[Any], pieces: Collection[str]) -> Select[Any]:
    return query.where(or_(*(ENTRIES.c.body.contains(piece, autoescape=True) for piece in pieces))) if pieces else query


def _text(event: Event) -> str:
    try:
        return canonical_json(event.body()).decode()
    except (TypeError, ValueError) as err:
        raise LedgerError(f"the body of '{event.kind} {event.subject}' is not JSON: {err}") from err


def _entry(row: Row[Any]) -> Entry:
    return _of_columns(dict(row._mapping))


def _of_columns(row: dict[str, Any]) -> Entry:
    return Entry(**{**row, "at": datetime.fromisoformat(row["at"]), "body": json.loads(row["body"])})
