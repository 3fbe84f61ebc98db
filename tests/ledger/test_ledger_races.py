"""Several processes at once, and processes that are killed: real ones, on SQLite and PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import sqlite3
import time
from collections import Counter

import pytest
from sqlalchemy.exc import DatabaseError
from support.ledger import asked, evidence, said, trained, unanchored
from support.ledger_cluster import start, together

from millrace.core.errors import Conflict, Unavailable
from millrace.ledger import Ledger, MaterializedWindow, chain, database


def numbered(name, number=0, filler=""):
    """A fact of a name: another number is another fact."""
    return MaterializedWindow(
        pipeline="flights", view="test", partition=name, snapshot=f"{number}{filler}", rows=number
    )


def first(url, name, go):
    go()
    Ledger.open(url).record(numbered(name))


def promote(url, name, go):
    ledger = Ledger.open(url)
    request = ledger.release_of("flights", f"release__v{name}")
    go()
    try:
        made = ledger.promote(
            "flights", request.id, evidence(int(name)), trained(int(name)), approval=False, anchor=unanchored
        )
    except Conflict:
        return "lost"
    return made.generation


def claim(url, name, go):
    ledger = Ledger.open(url)
    go()
    made = ledger.claim("flights", name.split("#")[0], "drift")
    return made.id if made else None


def begin(url, name, go):
    decision, run = name.split("#")
    ledger = Ledger.open(url)
    go()
    return ledger.start(decision, run)


def many(url, name, go):
    ledger = Ledger.open(url)
    go()
    for number in range(15):
        ledger.record(numbered(name, number))


def own(url, name, go):
    """Half of what is written is about a pipeline of one's own, half about one that all write of."""
    ledger = Ledger.open(url)
    go()
    for number in range(15):
        ledger.record(numbered(name, number).model_copy(update={"pipeline": name if number % 2 else "shared"}))


def endless(url, name, go):
    """Tell each number once it is written, one byte a number, for ever."""
    ledger, pipe = Ledger.open(url), go()
    for number in range(100_000):
        ledger.record(numbered(name, number, "x" * 2000))
        os.write(pipe, b".")


def test_eight_processes_may_open_a_new_ledger_at_once(url):
    together(first, url, [str(n) for n in range(8)])

    assert Ledger.open(url).verify() == 8


@pytest.mark.parametrize("promoters", [2, 8])
def test_of_racing_promoters_one_wins_each_generation(ledger, url, promoters):
    for generation in (1, 2):
        names = [str(100 * generation + n) for n in range(promoters)]
        for name in names:  # all of them are approved, so that none is voided
            ledger.answer("flights", asked(ledger, int(name)).id, said())

        answers = Counter(together(promote, url, names))

        assert answers == {generation: 1, "lost": promoters - 1}
    assert [e.body["generation"] for e in ledger.entries(kind="promoted")] == [1, 2]
    assert ledger.verify() == 2 * (2 * promoters + 3)


def test_a_promotion_that_many_repeat_is_made_once(ledger, url):
    asked(ledger, 7)

    assert together(promote, url, ["7"] * 6) == [1] * 6
    assert len(ledger.entries(kind="promoted")) == 1


def test_of_eight_claimers_one_waits(ledger, url):
    answers = together(claim, url, [f"2013-{month:02d}" for month in range(1, 9)])

    decisions = ledger.retrains("flights")
    waiting = [d for d in decisions if d.state == "waiting"]
    # Whoever comes after a later partition gets none; whoever comes before it is superseded by it.
    assert [d.partition for d in waiting] == ["2013-08"]
    assert {d.state for d in decisions} <= {"waiting", "superseded"}
    assert sorted(filter(None, answers)) == sorted(d.id for d in decisions)
    assert ledger.verify() == len(ledger.entries(kind="retrain"))


def test_eight_replays_of_one_partition_make_one_decision(ledger, url):
    answers = together(claim, url, [f"2013-05#{n}" for n in range(8)])

    assert len(set(answers)) == 1 and answers[0]
    assert len(ledger.entries(kind="retrain")) == 1


def test_of_eight_runs_of_one_decision_one_starts(ledger, url):
    decision = ledger.claim("flights", "2013-05", "drift")

    answers = together(begin, url, [f"{decision.id}#run{n}" for n in range(8)])

    assert Counter(answers) == {True: 1, False: 7}


def test_no_entry_is_lost_when_all_write_at_once(ledger, url):
    together(many, url, [str(n) for n in range(6)])

    assert ledger.verify() == 90
    for name in range(6):
        assert [e.event.rows for e in ledger.entries(subject=f"test/{name}")] == list(range(15))


def test_no_entry_is_lost_when_all_write_of_their_own_and_of_a_shared_pipeline(ledger, url):
    together(own, url, [f"p{n}" for n in range(6)])

    assert {c.pipeline: c.entries for c in ledger.chains()} == {"shared": 48, **{f"p{n}": 7 for n in range(6)}}
    assert ledger.verify() == 90
    for made in (ledger.entries("shared"), ledger.entries("p0")):
        assert [e.number for e in made] == list(range(1, len(made) + 1))
        assert [e.at for e in made] == sorted({e.at for e in made})


def test_killed_writers_leave_a_whole_chain_with_all_they_were_told_was_written(ledger, url):
    # given: three rounds of three writers, each killed at some moment after a few entries
    chance = random.Random(5)
    counts: dict[str, int] = {}
    for attempt in range(3):
        running = []
        for number in range(3):
            ours, theirs = os.pipe()
            process, _ = start(endless, url, f"{attempt}{number}", lambda theirs=theirs: theirs)
            running.append((f"{attempt}{number}", process, ours))
            os.close(theirs)
        for name, process, ours in running:
            counts[name] = sum(len(os.read(ours, 1)) for _ in range(chance.randrange(3, 12)))
            time.sleep(chance.random() / 50)
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            counts[name] += len(os.read(ours, 100_000))

    length = ledger.verify()

    assert length == len(ledger.entries())
    for name, count in counts.items():
        written = [e.event.rows for e in ledger.entries(subject=f"test/{name}")]
        assert written == list(range(len(written))) and len(written) >= count
    ledger.record(numbered("after"))
    assert ledger.verify() == length + 1


def test_no_connection_crosses_a_fork(ledger):
    ledger.record(numbered("parent"))

    def inherit(url, name, go):
        go()
        return [ledger.record(numbered(name, n)).event.partition for n in range(5)]

    answers = together(inherit, "", [f"child {n}" for n in range(4)])

    assert answers == [[f"child {n}"] * 5 for n in range(4)]
    ledger.record(numbered("parent", 1))
    assert ledger.verify() == 22


def test_a_reader_does_not_wait_for_a_writer_and_sees_only_what_is_committed(ledger):
    ledger.record(numbered("x"))

    with ledger._database.write("flights") as connection:
        chain.append(connection, numbered("y"))
        assert len(ledger.entries()) == 1

    assert len(ledger.entries()) == 2


def test_a_writer_does_not_wait_for_a_reader_who_keeps_seeing_what_was(ledger):
    ledger.record(numbered("x"))

    with ledger._database.read() as connection:
        assert len(chain.entries(connection)) == 1
        ledger.record(numbered("y"))
        assert len(chain.entries(connection)) == 1

    assert len(ledger.entries()) == 2


def test_on_postgresql_writers_of_different_pipelines_do_not_wait_for_each_other(postgres):
    ledger = Ledger.open(postgres)
    before = ledger.verify()
    with ledger._database.write("one") as connection:
        chain.append(connection, numbered("x").model_copy(update={"pipeline": "one"}))
        made = ledger.record(numbered("x").model_copy(update={"pipeline": "other"}))

    assert ledger.verify() == before + 2
    assert ledger.entries("one")[-1].seq < made.seq  # begun first, though committed last


def test_an_error_inside_a_transaction_leaves_nothing(ledger):
    with pytest.raises(RuntimeError), ledger._database.write("flights") as connection:
        chain.append(connection, numbered("x"))
        raise RuntimeError

    assert ledger.entries() == []
    ledger.record(numbered("x"))


def test_a_writer_that_does_not_end_is_told_as_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "WAIT", 0.2)
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable, match="locked"):
        ledger.record(numbered("x"))

    other.execute("ROLLBACK")
    ledger.record(numbered("x"))


def test_a_database_that_has_gone_is_unavailable_whatever_its_driver_calls_that(tmp_path):
    # As psycopg2 says it; `test_airflow_restart.py` does it to a real server
    gone = DatabaseError("SELECT 1", None, Exception("server closed the connection"), connection_invalidated=True)

    with pytest.raises(Unavailable, match="has gone"), Ledger.open(f"sqlite:///{tmp_path}/l.db")._database.write("x"):
        raise gone


def test_both_postgresql_drivers_do(postgres):
    for driver in ("psycopg", "psycopg2"):
        if importlib.util.find_spec(driver) is None:
            continue
        ledger = Ledger.open(postgres.replace("+psycopg2", "").replace("+psycopg", "").replace("://", f"+{driver}://"))
        before = ledger.verify()
        ledger.record(numbered(driver))
        assert ledger.verify() == before + 1
