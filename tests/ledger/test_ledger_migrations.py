"""A ledger of any earlier version is brought to the present one where it lies, and its chain still holds."""

from __future__ import annotations

import os
import random
import signal
import time
from datetime import datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import IntegrityError
from support.ledger import make_first, verdict
from support.ledger_cluster import start, together

from millrace.core.canonical import digest
from millrace.core.errors import LedgerError
from millrace.ledger import Ledger, chain, migration
from millrace.ledger.chain import GENESIS
from millrace.ledger.schema import ENTRIES, METADATA

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


def two(url: str) -> None:
    """A ledger that the first version made and wrote two entries to."""
    rows, previous = [], GENESIS
    for values in ROWS:
        row = dict(
            zip(("seq", "at", "pipeline", "kind", "subject", "body", "previous"), (*values, previous), strict=True)
        )
        row["hash"] = previous = digest(row)
        rows.append(row)
    make_first(url, rows)


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
    two(url)

    ledger = Ledger.open(url)

    assert sorted(tables(url)) == ["millrace_entries", "millrace_ledger_version"]
    assert ledger.verify() == 2
    assert [e.kind for e in ledger.entries()] == ["gate", "registered"]
    assert Ledger.open(url).verify() == 2


@pytest.mark.parametrize("first", [True, False])
def test_several_starters_at_once_upgrade_it_once(first, url):
    if first:
        two(url)

    answers = together(open_and_verify, url, [str(n) for n in range(4)])

    assert answers == [2 if first else 0] * 4
    assert Ledger.open(url).verify() == answers[0]


def as_before(url: str, previous: str, seq: int) -> None:
    """What a process of the version before appends: the next entry of the one chain."""
    engine = create_engine(url)
    values = {"seq": seq, "at": "2027-01-01T00:00:00.000000Z", "pipeline": "flights", "kind": "gate", "subject": "x/y",
              "body": "{}", "previous": previous}  # fmt: skip
    try:
        with engine.begin() as connection:
            connection.execute(ENTRIES.insert().values(**values, hash=digest(values)))
    finally:
        engine.dispose()


def test_the_old_chain_is_sealed_and_its_head_begins_each_pipelines(url):
    two(url)
    ledger = Ledger.open(url)
    sealed = ledger.entries()

    made = [ledger.record(verdict(number, pipeline=name)) for number in (1, 2) for name in ("flights", "trains")]

    assert ledger.entries() == sealed + made and [e.number for e in sealed] == [None, None]
    assert [e.number for e in made] == [1, 1, 2, 2]
    assert [e.previous for e in made[:2]] == [digest([sealed[-1].hash, name]) for name in ("flights", "trains")]
    assert min(e.at for e in made) > sealed[-1].at
    assert [(c.pipeline, c.entries, c.problem) for c in ledger.chains()] == [
        (None, 2, None), ("flights", 2, None), ("trains", 2, None),
    ]  # fmt: skip


def test_a_pipelines_first_time_follows_the_sealed_head_whatever_the_clock_says(url, monkeypatch):
    two(url)
    ledger = Ledger.open(url)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2020, 1, 1, tzinfo=tz)

    monkeypatch.setattr(chain, "datetime", Clock)

    assert ledger.record(verdict()).at > ledger.entries()[1].at
    assert ledger.verify() == 3


@pytest.mark.parametrize("kept", [0, 1])
def test_a_sealed_chain_that_was_cut_is_found_by_what_it_begins(url, kept):
    two(url)
    Ledger.open(url).record(verdict())
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM millrace_entries WHERE number IS NULL AND seq > {kept}")
    engine.dispose()

    with pytest.raises(LedgerError, match="entry 1 of flights .*does not follow"):
        Ledger.open(url).verify()


def test_an_older_process_goes_on_reading_and_adds_nothing_to_the_sealed_chain(url):
    two(url)
    ledger = Ledger.open(url)
    head = ledger.entries()[-1].hash

    with pytest.raises(IntegrityError, match="millrace_entries_sealed"):
        as_before(url, head, 3)

    made = ledger.record(verdict())
    with pytest.raises(IntegrityError, match="millrace_entries_sealed"):
        as_before(url, made.hash, 4)
    old = inspect(create_engine(url)).get_columns("millrace_entries")
    assert [column["name"] for column in old][:8] == list(ENTRIES.c.keys())[:8]
    assert ledger.verify() == 3


def write_and_verify(url, name, go):
    go()
    ledger = Ledger.open(url)
    for number in range(5):
        ledger.record(verdict(number, pipeline=name))
    return [each.entries for each in Ledger.open(url).chains() if each.pipeline == name]


def test_starters_upgrade_it_once_while_others_write_already(url):
    two(url)

    assert together(write_and_verify, url, [f"p{n}" for n in range(6)]) == [[5]] * 6
    assert Ledger.open(url).verify() == 2 + 6 * 5


def test_a_starter_that_is_killed_leaves_the_migration_to_the_next(url):
    two(url)
    chance = random.Random(11)
    for _ in range(6):
        running = [start(write_and_verify, url, f"p{n}", lambda: None)[0] for n in range(2)]
        time.sleep(chance.random() / 10)
        for process in running:
            os.kill(process.pid, signal.SIGKILL)
            process.join()

    ledger = Ledger.open(url)

    assert ledger.verify() == len(ledger.entries())
    assert [e.kind for e in ledger.entries()][:2] == ["gate", "registered"]


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
