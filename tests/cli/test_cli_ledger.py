"""`millrace ledger`: what is recorded, whole, and whether it is what was written."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from support.ledger import promoted, verdict

from millrace.core.settings import Settings
from millrace.ledger import Ledger
from millrace.store.anchors import Anchors

DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")


@pytest.fixture
def settings(shop: Path) -> Settings:
    return Settings.load(shop, {})


@pytest.fixture
def anchors(settings: Settings) -> Anchors:
    return Anchors.of(settings)


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    """Three verdicts of visits, one of orders."""
    settings.home.mkdir(exist_ok=True)
    ledger = Ledger.open(settings.ledger)
    for day in DAYS:
        ledger.record(verdict(pipeline="visits", partition=day))
    ledger.record(verdict(pipeline="orders"))
    return ledger


def tamper(settings: Settings, statement: str) -> None:
    engine = create_engine(settings.ledger)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_an_empty_ledger_verifies_and_says_what_its_anchors_are_worth(millrace, shop):
    said = millrace("ledger", "verify")

    assert said.code == 0 and said.err == ""
    assert "tamper-evident only" in said.out and "MILLRACE_ANCHORS_PROFILE" in said.out


def test_it_says_of_each_chain_how_long_it_is_and_how_far_it_is_anchored(millrace, ledger, anchors):
    promoted(ledger, 1, pipeline="visits", anchor=anchors.put)

    orders, visits, _ = millrace("ledger", "verify").out.splitlines()

    assert orders.startswith("orders: 1 entries, unbroken, head sha256:") and orders.endswith("; not anchored")
    assert visits.startswith("visits: 8 entries, unbroken")
    assert visits.endswith("; anchored up to entry 6, 2 newer than that")


def test_the_first_bad_entry_of_each_chain_is_named_and_the_others_are_still_said(millrace, ledger, settings):
    tamper(settings, "UPDATE millrace_entries SET body = replace(body, 'true', 'false') WHERE pipeline = 'visits' "
                     "AND number > 1")  # fmt: skip

    said = millrace("ledger", "verify")

    assert said.code == 1 and said.out.startswith("orders: 1 entries, unbroken")
    assert said.err == (
        "visits: BROKEN: entry 2 of visits (gate features/2024-01-02): was changed after it was written\n"
    )


@pytest.mark.parametrize("cut", [1, 3])
def test_what_was_cut_off_is_found_once_it_was_anchored(millrace, ledger, settings, cut):
    assert millrace("ledger", "anchor").code == 0
    tamper(settings, f"DELETE FROM millrace_entries WHERE pipeline = 'visits' AND number >= {cut}")

    said = millrace("ledger", "verify")

    assert said.code == 1
    assert f"visits ends with entry {cut - 1}; entry 3 was anchored" in said.err


def test_a_removed_anchor_of_a_promotion_is_found(millrace, ledger, settings, anchors):
    promoted(ledger, 1, pipeline="visits", anchor=anchors.put)
    anchors.objects.delete("visits/6")

    said = millrace("ledger", "verify")

    assert said.code == 1 and "speaks of an anchor of entry 6 that is not there" in said.err


def test_anchoring_lets_a_promotion_count_that_was_killed_before_it(millrace, ledger):
    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promoted(ledger, 1, pipeline="visits", anchor=killed)
    assert "generation 1 is not anchored and does not count yet" in millrace("ledger", "verify").out
    assert ledger.champion("visits") is None

    said = millrace("ledger", "anchor")

    assert ledger.champion("visits").version == 1
    assert said.code == 0 and "visits: 8 entries" in said.out and "anchored up to entry 8\n" in said.out


def test_a_damaged_record_is_not_anchored(millrace, ledger, settings, anchors):
    tamper(settings, "DELETE FROM millrace_entries WHERE pipeline = 'visits' AND number = 2")

    said = millrace("ledger", "anchor")

    assert said.code == 1 and "entry 2 is missing" in said.err
    assert anchors.read() == {}


def test_entries_are_shown_whole_and_chosen_by_what_they_are_about(millrace, ledger):
    long = verdict(pipeline="visits", dataset="x" * 180)
    ledger.record(long)

    def shown(*words: object) -> list[str]:
        return millrace("ledger", "show", *words).out.splitlines()

    assert len(shown()) == 5 and len(shown("visits")) == 4 and shown("nobody") == []
    assert [line.split()[3] for line in shown("--limit", 2)] == ["orders/1", "visits/4"]
    assert long.body()["dataset"] in shown("--limit", 1)[0] and shown("--limit", 1)[0].endswith("}")
    assert len(shown("--subject", f"features/{DAYS[1]}")) == 1
    assert len(shown("--kind", "gate")) == 5 and shown("--kind", "promoted") == []
    second = ledger.entries("visits")[1].at
    assert len(shown("visits", "--since", second.isoformat())) == 3
    assert len(shown("visits", "--until", (second - timedelta(microseconds=1)).isoformat())) == 1
    assert len(shown("visits", "--since", second.isoformat(), "--until", second.isoformat())) == 1


def test_a_time_without_a_zone_is_refused(millrace, ledger):
    said = millrace("ledger", "show", "--since", "2024-01-01")

    assert said.code == 1 and said.err.startswith("millrace: --since: a time needs its zone")


def test_entries_as_json_are_what_an_export_writes_and_what_is_checked_without_the_database(millrace, ledger, tmp_path):
    lines = millrace("ledger", "show", "--json").out.splitlines()

    assert [json.loads(line)["body"] for line in lines] == [e.body for e in ledger.entries()]
    assert millrace("ledger", "export").out.splitlines() == lines
    file = tmp_path / "ledger.jsonl"
    assert millrace("ledger", "export", file).out == f"wrote 4 entries to {file}\n"
    assert file.read_text().splitlines() == lines
    from_file, from_database = millrace("ledger", "verify", "--file", file), millrace("ledger", "verify")
    assert from_file == from_database and from_file.code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0].replace("true", "false"), *lines[1:]], "entry 1 of visits"),
        (lambda lines: [lines[0], *lines[2:]], "entry 2 is missing"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "entry 1 is missing"),
        (lambda lines: lines[:2], "visits ends with entry 2; entry 3 was anchored"),
        (lambda lines: [*lines[:2], "{}", *lines[2:]], ":3: not an entry of an export"),
        (lambda lines: [*lines[:2], "nonsense"], ":3: not an entry of an export"),
    ],
)
def test_a_changed_export_is_found(millrace, ledger, tmp_path, change, message):
    millrace("ledger", "anchor")
    file = tmp_path / "ledger.jsonl"
    millrace("ledger", "export", file)
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")

    said = millrace("ledger", "verify", "--file", file)

    assert said.code == 1 and message in said.err
