"""The record: append-only, chained, and telling when somebody changed it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import create_engine
from support.ledger import asked, promoted, verdict

from millrace.core.errors import LedgerError, MillraceError, Unavailable
from millrace.ledger import Ledger, MonitoredWindow, chain
from millrace.ledger.schema import ENTRIES


def tamper(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    for number in range(1, 7):
        ledger.record(verdict(number, partition=f"2013-0{number}"))
    return ledger


def test_entries_come_back_as_they_were_appended(ledger):
    before, body = datetime.now(UTC), verdict().body()

    first = ledger.record(verdict())
    second = ledger.record(verdict(pipeline="trains"))

    assert ledger.entries() == [first, second]
    assert ledger.entries("flights", "gate", "features/2013-01") == [first]
    assert ledger.entries(kind="nothing") == []
    assert ledger.entries(limit=1) == [second]
    assert first.body == body and first.event == verdict()
    assert [(e.seq, e.number) for e in (first, second)] == [(1, 1), (2, 1)]
    assert before <= first.at < second.at <= datetime.now(UTC) and first.at.tzinfo == UTC


def test_the_same_fact_is_appended_once_however_often_it_is_recorded(ledger):
    first = ledger.record(verdict(1))

    assert [ledger.record(verdict(1)) for _ in range(3)] == [first] * 3
    assert ledger.verify() == 1


def test_what_was_true_before_and_is_again_is_another_fact(ledger):
    for number in (1, 2, 1, 1):
        ledger.record(verdict(number))

    assert [e.event for e in ledger.entries()] == [verdict(n) for n in (1, 2, 1)]


def heads(ledger: Ledger) -> dict[str, dict[int, str]]:
    """Anchors of every chain as it is now."""
    return {each.pipeline: {each.entries: each.head} for each in ledger.chains() if each.pipeline}


def test_an_untouched_record_verifies_and_says_how_far_it_is_anchored(filled):
    anchors = heads(filled)
    filled.record(verdict(partition="2013-07"))

    assert filled.verify() == filled.verify(anchors) == filled.verify(heads(filled)) == 7
    (chain,) = filled.chains(anchors)
    assert (chain.pipeline, chain.entries, chain.anchored, chain.problem) == ("flights", 7, 6, None)


def test_an_empty_record_verifies(ledger):
    assert ledger.verify() == ledger.verify({}) == 0


def test_each_pipeline_has_a_chain_of_its_own_and_all_have_one_order(ledger):
    for number in (1, 2):
        for pipeline in ("flights", "trains"):
            ledger.record(verdict(number, pipeline=pipeline))

    made = ledger.entries()
    assert [(e.pipeline, e.number) for e in made] == [("flights", 1), ("trains", 1), ("flights", 2), ("trains", 2)]
    assert [e.seq for e in made] == sorted({e.seq for e in made})
    assert (made[2].previous, made[3].previous) == (made[0].hash, made[1].hash)
    assert len({e.previous for e in made}) == 4
    assert [(c.pipeline, c.entries) for c in ledger.chains()] == [("flights", 2), ("trains", 2)]


def test_a_damaged_chain_says_nothing_against_another(filled, url):
    filled.record(verdict(pipeline="trains"))
    tamper(url, "DELETE FROM millrace_entries WHERE pipeline = 'flights' AND number = 3")

    flights, trains = filled.chains()

    assert flights.problem and flights.problem.startswith("entry 4 of flights (gate features/2013-04): entry 3 is")
    assert trains.problem is None


def test_an_entry_that_was_moved_to_another_pipeline_is_found_in_both(filled, url):
    filled.record(verdict(pipeline="trains"))
    tamper(url, "UPDATE millrace_entries SET pipeline = 'trains', number = 2 WHERE seq = 3")

    assert [bool(each.problem) for each in filled.chains()] == [True, True]


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("UPDATE millrace_entries SET body = '{\"passed\":true}' WHERE seq = 3", "entry 3 of flights (gate features"),
        ("UPDATE millrace_entries SET kind = 'other' WHERE seq = 3", "entry 3 of flights (other"),
        ("UPDATE millrace_entries SET at = '2013-01-01T00:00:00.000000Z' WHERE seq = 3", "entry 3 "),
        ("UPDATE millrace_entries SET hash = 'sha256:0' WHERE seq = 3", "entry 3 "),
        ("DELETE FROM millrace_entries WHERE seq = 3", "entry 3 is missing"),
        ("DELETE FROM millrace_entries WHERE seq = 1", "entry 1 is missing"),
    ],
)
def test_a_changed_record_names_the_first_bad_entry(filled, url, statement, names):
    tamper(url, statement)

    with pytest.raises(LedgerError) as caught:
        filled.verify()

    assert names in str(caught.value)


@pytest.mark.parametrize("column", ["seq", "number", "seq, number"])
def test_reordered_entries_are_found(filled, url, column):
    moved = [(3, 100), (4, 3), (100, 4)]
    changes = [
        f"UPDATE millrace_entries SET {name} = {new} WHERE {name} = {old}"
        for name in column.split(", ")
        for old, new in moved
    ]
    tamper(url, *changes)

    with pytest.raises(LedgerError, match=r"entry [34] of flights "):
        filled.verify()


def written_anew(ledger: Ledger, url: str, number: int) -> None:
    """Somebody who knows how hashes are made changes an entry and hashes all that follow it."""
    rows: list[dict[str, Any]] = []
    ledger.export(lambda row: rows.append(dict(row)))
    for index in range(number - 1, len(rows)):
        row = rows[index]
        if index == number - 1:
            row["body"] = row["body"].replace('"passed":true', '"passed":false')
        row["previous"] = rows[index - 1]["hash"] if index else row["previous"]
        row["hash"] = chain.entry_hash(row)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(ENTRIES.delete())
        connection.execute(ENTRIES.insert(), rows)
    engine.dispose()


def test_an_entry_that_was_changed_and_hashed_again_breaks_the_next(filled, url):
    fourth = filled.entries()[3]
    row = {
        "seq": 4, "at": chain.timestamp(fourth.at), "pipeline": "flights", "kind": "gate", "subject": fourth.subject,
        "body": '{"passed":false}', "previous": fourth.previous, "number": 4,
    }  # fmt: skip
    tamper(url, f"UPDATE millrace_entries SET body = '{row['body']}', hash = '{chain.entry_hash(row)}' WHERE seq = 4")

    with pytest.raises(LedgerError, match="entry 5 of flights .*does not follow"):
        filled.verify()


def test_a_chain_that_was_written_anew_is_seen_with_an_anchor_only(filled, url):
    anchors = heads(filled)
    written_anew(filled, url, 4)

    assert filled.verify() == 6
    with pytest.raises(LedgerError, match="entry 6 of flights .*is not the one that was anchored"):
        filled.verify(anchors)


@pytest.mark.parametrize("kept", [4, 0])
def test_a_cut_tail_is_seen_with_an_anchor_only(filled, url, kept):
    anchors = heads(filled)
    tamper(url, f"DELETE FROM millrace_entries WHERE seq > {kept}")

    assert filled.verify() == kept
    with pytest.raises(LedgerError, match=f"flights ends with entry {kept}; entry 6 was anchored"):
        filled.verify(anchors)


def test_time_rises_strictly_though_the_clock_goes_back(ledger, monkeypatch):
    # given: a clock that jumps back by an hour, then stands still
    moments = [datetime(2013, 5, 1, 12, tzinfo=UTC), *[datetime(2013, 5, 1, 11, tzinfo=UTC)] * 3]

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return moments.pop(0)

    monkeypatch.setattr(chain, "datetime", Clock)

    times = [ledger.record(verdict(number)).at for number in range(4)]

    assert times == sorted(set(times))
    assert ledger.verify() == 4


def seen(**changes: Any) -> MonitoredWindow:
    given = {
        "action": "none",
        "reason": "nothing",
        "message": "",
        "window": {},
        "drift": {},
        "performance": None,
        "probe": None,
    }
    return MonitoredWindow(pipeline="flights", partition="2013-05", champion=1, **{**given, **changes})


@pytest.mark.parametrize("drift", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}])
def test_a_body_that_is_not_json_is_refused(ledger, drift):
    with pytest.raises(LedgerError, match="not JSON"):
        ledger.record(seen(drift=drift))

    assert ledger.verify() == 0


def test_text_that_databases_dislike_is_kept(ledger):
    event = seen(message="nul \x00, quote ', emoji 🐢, line\n")

    ledger.record(event)

    assert ledger.entries()[0].event == event
    assert ledger.verify() == 1


def test_a_name_without_a_place_is_refused(ledger):
    with pytest.raises(LedgerError, match="subject has"):
        ledger.record(verdict(partition="x" * 201))


def test_what_carries_a_state_cannot_be_written_past_its_method(ledger):
    asked(ledger, 1), ledger.claim("flights", "2013-05", "drift"), promoted(ledger, 1)
    events = {e.kind: e.event for e in ledger.entries()}
    assert set(events) == {"approval", "retrain", "promoted", "anchored"}

    for event in events.values():
        with pytest.raises(LedgerError, match="written by the ledger itself"):
            ledger.record(event)


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite://", "sqlite:///:memory:", "mysql://user:secret@host/x"], indirect=False
)
def test_a_place_that_cannot_hold_a_ledger_is_refused(url):
    with pytest.raises(LedgerError) as caught:
        Ledger.open(url)

    assert "secret" not in str(caught.value)


def test_a_database_that_does_not_answer_is_worth_another_try(tmp_path):
    with pytest.raises(Unavailable) as caught:
        Ledger.open(f"sqlite:///{tmp_path}/no/such/folder/ledger.db")

    assert caught.value.retry == "same"


def test_a_server_that_does_not_answer_shows_no_password():
    pytest.importorskip("psycopg")

    with pytest.raises(MillraceError) as caught:
        Ledger.open("postgresql+psycopg://user:hunter2@127.0.0.1:1/x")

    assert isinstance(caught.value, Unavailable) and "hunter2" not in str(caught.value)
