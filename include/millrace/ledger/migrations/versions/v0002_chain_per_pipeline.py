"""A chain per pipeline: what is there is sealed as it lies, and its head begins the chain of each pipeline.

A process of the version before goes on reading. What it would write continues the sealed chain; the check refuses it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the place in the pipeline's chain, and what gives out the order of all entries to several writers at once."""
    sealed = op.get_bind().execute(sa.text("SELECT COALESCE(MAX(seq), 0) FROM millrace_entries")).scalar_one()
    op.execute(
        "ALTER TABLE millrace_entries ADD COLUMN number BIGINT "
        f"CONSTRAINT millrace_entries_sealed CHECK (number IS NOT NULL OR seq <= {int(sealed)})"
    )
    op.create_index("millrace_entries_chain", "millrace_entries", ["pipeline", "number"], unique=True)
    if op.get_bind().dialect.supports_sequences:
        op.execute(f"CREATE SEQUENCE millrace_entries_seq START {int(sealed) + 1} OWNED BY millrace_entries.seq")
