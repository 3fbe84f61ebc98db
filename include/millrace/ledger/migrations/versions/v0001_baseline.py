"""The record as it was before it had migrations: a ledger of that time has the table already."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table and its indexes, unless they are there."""
    if sa.inspect(op.get_bind()).has_table("millrace_entries"):
        return
    op.create_table(
        "millrace_entries",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("pipeline", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(71), nullable=False, unique=True),
        sa.Column("hash", sa.String(71), nullable=False, unique=True),
    )
    op.create_index("millrace_entries_by_pipeline", "millrace_entries", ["pipeline", "kind", "subject", "seq"])
    op.create_index("millrace_entries_by_kind", "millrace_entries", ["kind", "subject", "seq"])
    op.create_index(
        "millrace_one_champion_a_generation",
        "millrace_entries",
        ["pipeline", "subject"],
        unique=True,
        sqlite_where=sa.text("kind = 'promoted'"),
        postgresql_where=sa.text("kind = 'promoted'"),
    )
