"""A gate on a table that lies in PostgreSQL already: the rows stay there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from millrace.core.errors import DataError, SpecError, Unavailable
from millrace.gates.checks import builtin
from millrace.gates.engine import judge
from millrace.gates.gx.suite import Entry
from millrace.gates.result import GateResult
from millrace.gates.sql.rows import VIEW, SQLRows
from millrace.sql.duck import name

KINDS: dict[str, tuple[str, pa.DataType]] = {
    "smallint": ("integer", pa.int64()), "integer": ("integer", pa.int64()), "bigint": ("integer", pa.int64()),
    "double precision": ("number", pa.float64()), "numeric": ("number", pa.float64()),
    "real": ("other", pa.float32()),  # which pandas compares narrowly, as in a file
    "text": ("text", pa.string()), "character varying": ("text", pa.string()),
    "boolean": ("boolean", pa.bool_()), "date": ("date", pa.date32()),
    "timestamp with time zone": ("time", pa.timestamp("us", "UTC")),
    "timestamp without time zone": ("clock", pa.timestamp("us")),
}  # fmt: skip
"""PostgreSQL's type -> what a column of it holds, and its type in Arrow. Others are read as text."""


FLOATS = {"double precision": "double precision", "numeric": "double precision", "real": "real"}
"""Types that can be NaN or infinite -> as what they are read."""


@dataclass(frozen=True)
class _Shape:
    column_names: list[str]
    num_rows: int


def validate_table(
    url: str,
    table: str,
    suite: Mapping[str, Any],
    where: str,
    classify: Callable[[str], str],
    within: builtin.Within | None = None,
) -> GateResult:
    """Run a suite on a table of a PostgreSQL database as `engine.validate` runs it on an Arrow table.

    `url` is SQLAlchemy's, `table` a name or `schema.name`. Columns that an expectation needs in pandas are fetched,
    the others not. Everything is read in one transaction, so that writers meanwhile change no count. Raises SpecError
    where there is no such table or another database, DataError for numbers beyond a double, Unavailable where it cannot
    be reached.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import DataError as OutOfRange
    from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
    from sqlalchemy.pool import StaticPool

    address = make_url(url)
    if address.get_backend_name() != "postgresql":
        raise SpecError("a gate runs on tables in PostgreSQL", where=where, given=address.get_backend_name())
    engine = create_engine(
        address.set(drivername="postgresql+psycopg"),
        poolclass=StaticPool,
        pool_reset_on_return=None,
        isolation_level="REPEATABLE READ",
    )
    # GX gives its connection back after every query, with a rollback; the view and the transaction outlive it.
    engine.dialect.do_rollback = lambda dbapi_connection: None  # type: ignore[method-assign]
    source = ".".join(name(part) for part in table.split(".", 1))
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
            found = connection.exec_driver_sql(
                "SELECT attname, split_part(format_type(atttypid, NULL), '(', 1) FROM pg_attribute "
                "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                (source,),
            ).fetchall()
            types = {column: kind for column, kind in found}
            rows = connection.exec_driver_sql(f"SELECT count(*) FROM {source}").scalar_one()
            listed = ", ".join(f"{_as_pandas_has_it(c, kind)} AS {name(c)}" for c, kind in types.items())
            if types:
                connection.exec_driver_sql(f"CREATE TEMP VIEW {VIEW} AS SELECT {listed} FROM {source}")
        return judge(
            lambda entries: PostgreSQLRows(engine, types, entries), _Shape(list(types), rows), suite, where, classify,
            within,
        )  # fmt: skip
    except ProgrammingError:
        raise SpecError("the table cannot be read; is it there, and may it be read?", where=where,
                        given=table) from None  # fmt: skip
    except OutOfRange:
        raise DataError("a column holds a number that no double holds; gates compare doubles", where=where,
                        given=table) from None  # fmt: skip
    except SQLAlchemyError as err:
        raise Unavailable(f"the database cannot be reached ({type(err).__name__})", where=where) from None
    finally:
        engine.dispose()


class PostgreSQLRows(SQLRows):
    """Rows of the view on a table."""

    def __init__(self, engine: Any, types: Mapping[str, str], entries: Sequence[Entry]) -> None:
        super().__init__(engine, {c: KINDS.get(kind, ("other", None))[0] for c, kind in types.items()}, entries)
        self._types = types

    @property
    def infinite(self) -> Mapping[str, int]:
        """Infinities by column, of those that have any."""
        floats = [column for column, kind in self._types.items() if kind in FLOATS]
        counted = [f"count(*) FILTER (WHERE {name(c)} IN ('Infinity', '-Infinity'))" for c in floats]
        counts = self._row(f"SELECT {', '.join(counted)} FROM {VIEW}") if floats else ()
        return {column: count for column, count in zip(floats, counts, strict=True) if count}

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Columns as Arrow."""
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT {', '.join(map(name, columns)) or 'NULL'} FROM {VIEW}"
            ).fetchall()
        return pa.table({
            column: pa.array((row[at] for row in rows), KINDS.get(self._types[column], ("other", pa.string()))[1])
            for at, column in enumerate(columns)
        })  # fmt: skip


def _as_pandas_has_it(column: str, kind: str) -> str:
    if kind in FLOATS:
        return f"NULLIF({name(column)}::{FLOATS[kind]}, 'NaN')"
    if kind in KINDS and KINDS[kind][0] != "text":
        return name(column)
    return f'{name(column)}::text COLLATE "C"'  # pandas orders texts by code points
