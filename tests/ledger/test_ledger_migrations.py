"""A ledger of any earlier version is brought to the present one where it lies, and its chain still holds."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from support.ledger_cluster import together

from millrace.core.canonical import digest
from millrace.core.errors import LedgerError
from millrace.ledger import Ledger, migration
from millrace.ledger.chain import GENESIS
from millrace.ledger.schema import METADATA

# As the first version made it, on either database.
FIRST = (
    "CREATE TABLE millrace_entries (seq BIGINT NOT NULL PRIMARY KEY, at VARCHAR(27) NOT NULL, "
    "pipeline VARCHAR(63) NOT NULL, kind VARCHAR(40) NOT NULL, subject VARCHAR(200) NOT NULL, body TEXT NOT NULL, "
    "previous VARCHAR(71) NOT NULL UNIQUE, hash VARCHAR(71) NOT NULL UNIQUE)",
    "CREATE INDEX millrace_entries_by_pipeline ON millrace_entries (pipeline, kind, subject, seq)",
    "CREATE INDEX millrace_entries_by_kind ON millrace_entries (kind, subject, seq)",
    "CREATE UNIQUE INDEX millrace_one_champion_a_generation ON millrace_entries (pipeline, subject) "
    "WHERE kind = 'promoted'",
)
# Two of its entries, hashes and all.
ROWS = (
    (
        1, "2026-01-02T03:04:05.000001Z", "flights", "gate", "features/2013-01",
        '{"dataset":"features","outcome":"sha256:' + "a" * 64 + '","partition":"2013-01","passed":true,'
        '"snapshot":"sha256:' + "b" * 64 + '"}',
    ),
    (
        2, "2026-01-02T03:04:05.000002Z", "flights", "registered", "v1",
        '{"evidence":"sha256:' + "c" * 64 + '","model":"sha256:' + "d" * 64 + '","version":1}',
    ),
)  # fmt: skip


def make_first(url: str) -> None:
    """A ledger that the first version made and wrote two entries to."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in FIRST:
            connection.exec_driver_sql(statement)
        previous = GENESIS
        for values in ROWS:
            row = dict(
                zip(("seq", "at", "pipeline", "kind", "subject", "body", "previous"), (*values, previous), strict=True)
            )
            row["hash"] = previous = digest(row)
            connection.execute(METADATA.tables["millrace_entries"].insert().values(**row))
    engine.dispose()


def tables(url: str) -> list[str]:
    engine = create_engine(url)
    try:
        return [name for name in inspect(engine).get_table_names() if name.startswith("millrace")]
    finally:
        engine.dispose()


def open_and_verify(url, name, go):
    go()
    return Ledger.open(url).verify()


def test_a_ledger_of_the_first_version_is_upgraded_where_it_lies(url):
    make_first(url)

    ledger = Ledger.open(url)

    assert sorted(tables(url)) == ["millrace_entries", "millrace_ledger_version"]
    assert ledger.verify() == 2
    assert [e.kind for e in ledger.entries()] == ["gate", "registered"]
    assert Ledger.open(url).verify() == 2


@pytest.mark.parametrize("first", [True, False])
def test_several_starters_at_once_upgrade_it_once(first, url):
    if first:
        make_first(url)

    answers = together(open_and_verify, url, [str(n) for n in range(4)])

    assert answers == [2 if first else 0] * 4
    assert Ledger.open(url).verify() == answers[0]


def test_a_ledger_of_a_newer_version_is_left_alone(url):
    Ledger.open(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {migration.VERSION_TABLE} SET version_num = '9999'")
    engine.dispose()

    with pytest.raises(LedgerError, match=r"newer version of Millrace .*given: '9999'.*Install that version"):
        Ledger.open(url)


def test_the_tables_that_the_migrations_make_are_those_that_are_read(url):
    Ledger.open(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, parents: kind != "table" or name == "millrace_entries"}
        )
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_the_newest_migration_is_the_one_that_this_version_names():
    assert ScriptDirectory.from_config(migration._config(None)).get_heads() == [migration.HEAD]


def test_an_opened_ledger_needs_no_alembic(ledger, url, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "alembic.command", None)

    Ledger.open(url)


def test_a_database_with_migrations_of_others_is_shared(url):
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('of another')")

    assert Ledger.open(url).verify() == 0

    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "of another"
        connection.exec_driver_sql("DROP TABLE alembic_version")
    engine.dispose()
