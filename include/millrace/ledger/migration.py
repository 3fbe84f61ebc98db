"""Bring a ledger's tables to what this version of Millrace reads and writes, by Alembic.

Migrations only add: a process of the version before, which a rolling upgrade leaves running for a while, goes on with
the same tables. No migration touches an entry, whose hash is fixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

from millrace.core.errors import LedgerError

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0003"
"""The newest revision in `migrations/versions`; read without Alembic, whose import every task would pay."""
VERSION_TABLE = "millrace_ledger_version"
"""A name of our own: the database may hold Airflow's or MLflow's `alembic_version` too."""
_VERSION = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))


def current(connection: Connection, place: str) -> bool:
    """Whether the tables are those of this version.

    Raises LedgerError where a newer version of Millrace has changed them: what it writes could not be read here.
    """
    if not inspect(connection).has_table(VERSION_TABLE):
        return False
    found = connection.execute(select(_VERSION.c.version_num)).scalar()
    if found is not None and found > HEAD:
        raise LedgerError(
            "a newer version of Millrace has changed the ledger's tables",
            where=place,
            given=found,
            allowed=f"up to {HEAD}",
            next_step="Install that version here too",
        )
    return found == HEAD


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, within the caller's write transaction: of several starters one does it."""
    from alembic import command

    command.upgrade(_config(connection), "head")


def _config(connection: Connection | None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "millrace.ledger:migrations")
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    return config
