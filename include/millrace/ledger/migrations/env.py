"""What Alembic runs: the ledger's migrations, within the transaction that `Database` holds."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], version_table=context.config.attributes["version_table"]
)
with context.begin_transaction():
    context.run_migrations()
