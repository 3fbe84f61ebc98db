"""The ledger's one table: an append-only record with a hash chain per pipeline, from which every state is read."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Sequence, String, Table, Text

METADATA = MetaData()

PROMOTED = "promoted"
"""Kind of the entries that make a champion; their subject is the generation."""

ENTRIES = Table(
    "millrace_entries",
    METADATA,
    # The order of all entries. Within a pipeline it rises with `number`; an entry that was not committed leaves a gap.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", String(27), nullable=False),
    Column("pipeline", String(63), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("body", Text, nullable=False),
    # Unique: of two writers that read the same head only one can follow it, whatever the locks do.
    Column("previous", String(71), nullable=False, unique=True),
    Column("hash", String(71), nullable=False, unique=True),
    # Place in the pipeline's chain, from 1. Null in what was written while all pipelines shared one chain: that is
    # sealed, and a check in the database (migration 0002) lets nobody add to it.
    Column("number", BigInteger),
)
SEQ = Sequence("millrace_entries_seq")
"""Where the database has sequences, as writers of several pipelines take their `seq` at once."""
Index("millrace_entries_chain", ENTRIES.c.pipeline, ENTRIES.c.number, unique=True)
Index("millrace_entries_by_pipeline", ENTRIES.c.pipeline, ENTRIES.c.kind, ENTRIES.c.subject, ENTRIES.c.seq)
Index("millrace_entries_newest", ENTRIES.c.pipeline, ENTRIES.c.kind, ENTRIES.c.seq)
Index("millrace_entries_by_kind", ENTRIES.c.kind, ENTRIES.c.subject, ENTRIES.c.seq)
Index(
    "millrace_one_champion_a_generation",
    ENTRIES.c.pipeline,
    ENTRIES.c.subject,
    unique=True,
    sqlite_where=ENTRIES.c.kind == PROMOTED,
    postgresql_where=ENTRIES.c.kind == PROMOTED,
)
