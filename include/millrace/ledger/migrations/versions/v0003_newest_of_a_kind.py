"""An index by which the newest entry of a kind is found without sorting all of them: who is champion, above all."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add it; a process of the version before reads and writes on beside it."""
    op.create_index("millrace_entries_newest", "millrace_entries", ["pipeline", "kind", "seq"])
