"""What the campaign of kills looks for is found when it is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from chaos import invariants, report, victims
from support.ledger import digest
from support.project import DAYS, PIPELINE, features, sample
from support.releases import House

from millrace.ledger import MaterializedWindow, chain
from millrace.ledger.events import Promoted


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    sample(tmp_path)
    made = House(tmp_path, monkeypatch)
    for version in (1, 2):
        made.register(version)
        made.release(version)
    return made


def champions(house: House) -> list[str]:
    return invariants.champions(house.ledger, house.site.objects, PIPELINE)


def forge(house: House, **changes: object) -> None:
    """Append a promotion that nobody asked for."""
    last = house.ledger.entries(PIPELINE, Promoted.kind)[-1].event
    with house.ledger._database.write(PIPELINE) as connection:
        chain.append(connection, last.model_copy(update={"generation": 3, **changes}))


def test_champions_that_were_made_as_they_should_are_fine(house):
    assert champions(house) == []


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"generation": 4}, "not linear"),
        ({}, "was carried out 2 times"),
        ({}, "never anchored"),
        ({"release": "nobody's"}, "not approved"),
    ],
)
def test_a_promotion_too_many_is_found(house, changes, said):
    forge(house, **changes)

    assert any(said in each for each in champions(house))


def test_a_champion_that_had_not_passed_is_found(house):
    house.register(3, evaluation_passed=False)
    registered = house.ledger.registered(PIPELINE, 3)
    forge(house, version=3, evidence=registered.evidence)

    assert any("had not passed" in each for each in champions(house))


def test_a_copy_that_did_not_follow_is_found(house):
    house.site.objects.put(f"champions/{PIPELINE}.json", b'{"version": 1}')

    assert champions(house) == ["the store's copy names version 1 as champion, the ledger 2"]


def test_a_pointer_that_moved_twice_and_a_day_that_is_not_online_are_found(house):
    site, table = house.site, f"{PIPELINE}/features"
    for rows in (3, 4):
        site.tables.move(table, DAYS[0], features(site, DAYS[0], rows))
    site.ledger.record(MaterializedWindow(pipeline=PIPELINE, view="v", partition=DAYS[0], snapshot=digest(1), rows=3))

    found = invariants.partitions(site.ledger, site.tables, PIPELINE, [DAYS[0], DAYS[1]])

    assert [said for said in ("published are", "moved 2 times", "not online") if any(said in f for f in found)] == [
        "published are", "moved 2 times", "not online",
    ]  # fmt: skip


def test_a_version_that_nobody_asked_to_release_is_found_unless_it_was_overtaken(house):
    def unasked(fought: str | None) -> list[str]:
        known = house.ledger.registered(PIPELINE, 3)
        house.ledger.record(known.model_copy(update={"fought": fought}))
        found = invariants.versions(house.ledger, house.site.settings, PIPELINE, ["a", "b", "c", "d"])
        return [each for each in found if "no release" in each]

    house.register(3)
    champion = house.ledger.champion(PIPELINE).model_digest
    assert unasked(champion) == ["no release was asked for version 3"]
    assert unasked("sha256:" + "0" * 64) == [], "its duel was with another"
    house.register(4)
    house.release(4)
    assert unasked(house.ledger.champion(PIPELINE).model_digest) == [], "a newer one is champion"


def test_what_is_left_of_a_project_is_found(tmp_path):
    left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                            env={"MILLRACE_PROJECT": str(tmp_path)})  # fmt: skip
    try:
        (found,) = victims.left(tmp_path, [])
        assert found.startswith(f"{left.pid} ")
    finally:
        left.kill()
        left.wait()
    assert victims.left(tmp_path, []) == []


def test_a_report_counts_by_victim_and_by_what_was_at_work():
    state = {"kills": [["job", "training.train features.land"], ["job", "none"]], "round": 1, "seconds": 7.0,
             "ledger": "sqlite", "seed": 1, "days": ["2024-01-01"], "trainings": [], "versions": 0, "champions": 0,
             "cleared": 0, "wrong": ["a stuck run"]}  # fmt: skip

    text = report.markdown(state)

    assert "| job | 2 | 1 | 1 | 0 | 0 | 1 |" in text and "- a stuck run" in text
