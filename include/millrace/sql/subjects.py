"""Subjects by a list of keys: which of a Snapshot's rows are theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from millrace.core.canonical import digest
from millrace.core.errors import SpecError
from millrace.sql.duck import Limits, connection, name, text


@dataclass(frozen=True)
class Subjects:
    """A list of keys, open to be asked. `keys` is the digest of the list, whatever the order of its lines."""

    columns: tuple[str, ...]
    count: int
    keys: str
    database: duckdb.DuckDBPyConnection

    def names(self) -> frozenset[tuple[str, ...]]:
        """The keys themselves, as text; no message quotes one."""
        found = self.database.execute("SELECT * FROM subjects").fetchall()
        return frozenset(tuple(map(str, row)) for row in found)

    def rows_in(self, path: Path) -> int:
        """How many rows of a Parquet file are of these subjects, compared as text."""
        same = " AND ".join(f"CAST(data.{name(c)} AS VARCHAR) = subjects.{name(c)}" for c in self.columns)
        found = self.database.execute(
            f"SELECT count(*) FROM read_parquet({text(str(path))}) AS data SEMI JOIN subjects ON {same}"
        ).fetchone()
        assert found is not None
        return int(found[0])


@contextmanager
def subjects(path: Path) -> Iterator[Subjects]:
    """The keys of a CSV file, whose header names the columns that name a subject, in one row each.

    Raises SpecError for a file that is none, has no row, or has an empty field. No message quotes a key.
    """
    if not path.is_file():
        raise SpecError("no such file of keys", given=str(path))
    with connection(Limits()) as database:
        try:
            source = f"read_csv({text(str(path))}, header = true, all_varchar = true, delim = ',', nullstr = '')"
            database.execute(f"CREATE TABLE subjects AS SELECT DISTINCT * FROM {source}")
        except duckdb.Error as err:
            raise SpecError("this is no CSV file of keys with a header", given=str(path)) from err
        columns = tuple(row[0] for row in database.execute("DESCRIBE subjects").fetchall())
        rows = sorted(database.execute("SELECT * FROM subjects").fetchall(), key=lambda row: tuple(map(str, row)))
        if not rows or any(value is None for row in rows for value in row):
            what = "has an empty field, which is no key" if rows else "names nobody"
            raise SpecError(f"the file of keys {what}", given=str(path), allowed="a header, and a row a subject")
        yield Subjects(columns, len(rows), digest([list(columns), [list(row) for row in rows]]), database)
