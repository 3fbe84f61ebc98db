"""DuckDB as SQLAlchemy, and so GX, sees it: duckdb-engine's dialect, mended in what GX needs."""

from __future__ import annotations

from typing import Any

import duckdb
import duckdb_engine
from sqlalchemy import Engine, create_engine, types
from sqlalchemy.dialects import registry
from sqlalchemy.pool import StaticPool

from millrace.sql.duck import name


class Dialect(duckdb_engine.Dialect):
    """The dialect for a single connection that only reads.

    GX fetches results after it has given a connection back, which duckdb-engine answers with a rollback that loses
    them (GX keeps the connections of a few dialects for this, DuckDB's not among them): no transactions here.
    duckdb-engine asks a catalogue of PostgreSQL's for columns, which SQLAlchemy 2.1 does in a way that DuckDB does
    not know: DESCRIBE here.
    """

    supports_statement_cache = False

    def do_begin(self, dbapi_connection: Any) -> None:
        """Nothing is written."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Nothing was written; a rollback would lose the result not yet fetched."""

    def do_commit(self, dbapi_connection: Any) -> None:
        """Nothing was written."""

    def get_columns(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> list[Any]:
        """Columns of a table or view, in order."""
        rows = connection.exec_driver_sql(f"DESCRIBE {name(str(table_name))}").fetchall()
        return [
            {
                "name": row[0],
                "type": self.ischema_names.get(row[1].lower(), types.NullType)(),
                "nullable": True,
                "default": None,
            }
            for row in rows
        ]

    def get_pk_constraint(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        """A view has no key."""
        return {"constrained_columns": [], "name": None}


registry.impls["duckdb.millrace"] = lambda: Dialect


def engine_over(connection: duckdb.DuckDBPyConnection) -> Engine:
    """SQLAlchemy's engine over one open connection, which stays the caller's to close."""
    wrapped = duckdb_engine.ConnectionWrapper(connection)
    return create_engine("duckdb+millrace://", creator=lambda: wrapped, poolclass=StaticPool, pool_reset_on_return=None)
