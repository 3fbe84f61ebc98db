"""Tables of the ledger. `entries` is append-only and hash-chained; the others are states that change by compare-and-set."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

METADATA = MetaData()

ENTRIES = Table(
    "millrace_entries",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("pipeline", String(63), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(71), nullable=False),
    Column("hash", String(71), nullable=False, unique=True),
    Index("millrace_entries_by_subject", "pipeline", "kind", "subject"),
)

CHAMPIONS = Table(
    "millrace_champions",
    METADATA,
    Column("pipeline", String(63), primary_key=True),
    # One row per generation: the primary key is the compare-and-set, and the rows are the history.
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("model_digest", String(71), nullable=False),
    Column("evidence_digest", String(71), nullable=False),
    Column("body", Text, nullable=False),
    Column("since", String(32), nullable=False),
)

RETRAINS = Table(
    "millrace_retrains",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("pipeline", String(63), nullable=False),
    Column("partition", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("reason", String(40), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(12), nullable=False),
    Column("run_id", String(250)),
    Column("number", Integer, nullable=False),
    # The slot: 'waiting' and 'running' while taken, NULL afterwards. Unique, so that each is taken once a pipeline.
    Column("slot", String(12)),
    UniqueConstraint("pipeline", "slot"),
    UniqueConstraint("pipeline", "partition", "attempt"),
    UniqueConstraint("pipeline", "number"),
)

APPROVALS = Table(
    "millrace_approvals",
    METADATA,
    Column("pipeline", String(63), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("evidence_digest", String(71), nullable=False),
    Column("state", String(12), nullable=False),
    Column("by", String(200)),
)

WINDOWS = Table(
    "millrace_windows",
    METADATA,
    Column("pipeline", String(63), primary_key=True),
    Column("view", String(63), primary_key=True),
    Column("partition", String(32), primary_key=True),
    Column("snapshot", String(71), nullable=False),
    Column("rows", Integer, nullable=False),
)
