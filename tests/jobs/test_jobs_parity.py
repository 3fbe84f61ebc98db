"""The parity job: what is served online is what is joined offline, or the verdict names where it is not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import feast_project

FeastProject, at, row = feast_project.FeastProject, feast_project.at, feast_project.row
DAY = "2024-01-01"


@pytest.fixture
def project(tmp_path: Path) -> Any:
    return FeastProject.applied(tmp_path / "p")


def rows(count: int = 20) -> list[dict[str, Any]]:
    """Entities with values of every type, nulls, ties and several rows each."""
    made = []
    for n in range(count):
        made.append(row(f"v{n}", "2024-01-01 05:00", n, speed=n / 3))
        made.append(
            row(f"v{n}", "2024-01-01 06:00", 2**60 + n, speed=None if n % 5 == 0 else 0.1 * n, electric=n % 2 == 0)
        )
        made.append(row(f"v{n}", "2024-01-01 06:00", 2**60 + n - 1, driver=None))
    return made


def push(project: Any, artifact: Any, **values: Any) -> None:
    """Write online past the pipeline: a row of the Snapshot's time with other values, and a later created time."""
    frame = pd.DataFrame([row("v3", "2024-01-01 06:00", **{"created": at("2024-02-01 00:00"), **values})])
    project.open().push("trips_push", frame)


def test_a_materialised_snapshot_agrees(project: Any) -> None:
    artifact = project.snapshot(DAY, rows())
    project.materialize(DAY, artifact)
    outcome = project.parity(DAY, artifact).outcome
    assert outcome.verdict.passed and outcome.facts["compared"] == {"trips": 20}
    # and a sample of it, chosen alike at every run
    few = [project.parity(DAY, artifact, entities=5).outcome for _ in range(2)]
    assert few[0] == few[1] and few[0].facts["compared"] == {"trips": 5}


def test_values_that_differ_are_named_with_their_column(project: Any) -> None:
    artifact = project.snapshot(DAY, rows())
    project.materialize(DAY, artifact)
    push(project, artifact, distance=1, speed=0.1 * 3, driver="ann")
    outcome = project.parity(DAY, artifact).outcome
    assert not outcome.verdict.passed
    (check,) = outcome.verdict.checks
    assert check.unexpected == 1 and check.total == 20
    assert "distance" in check.message and "key digest" in check.message
    # neither the key nor a value of a column that is not public is told
    assert "v3" not in check.message and str(2**60) not in check.message


def test_public_values_are_shown(tmp_path: Path) -> None:
    columns = {"vehicle": "public", "distance": "public"}
    project = FeastProject.make(tmp_path / "p", columns=columns)
    project.apply()
    artifact = project.snapshot(DAY, [row("v3", "2024-01-01 06:00", 7)])
    project.materialize(DAY, artifact)
    push(project, artifact, distance=8)
    (check,) = project.parity(DAY, artifact).outcome.verdict.checks
    assert "entity v3, distance: 7 offline, 8 online" in check.message


def test_an_entity_that_is_not_online_fails(project: Any) -> None:
    artifact = project.snapshot(DAY, rows())
    project.materialize(DAY, project.snapshot(DAY, rows(19), publish=False))
    outcome = project.parity(DAY, artifact).outcome
    assert not outcome.verdict.passed and "missing online" in outcome.verdict.checks[0].message


def test_an_entity_that_has_moved_on_is_anothers_to_check(project: Any) -> None:
    artifact = project.snapshot(DAY, rows())
    later = project.snapshot("2024-01-02", [row("v3", "2024-01-02 00:00", 1), row("v4", "2024-01-02 00:00", 1)])
    project.materialize("2024-01-02", later)
    project.materialize(DAY, artifact)
    outcome = project.parity(DAY, artifact).outcome
    assert outcome.verdict.passed and outcome.facts["compared"] == {"trips": 18}
    assert project.parity("2024-01-02", later).outcome.verdict.passed


def test_a_store_that_goes_back_in_time_is_caught(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an online store that lets the last writer win, as Feast's SQLite store does, then the gate fails."""
    from millrace.feast_stores.online_stores import sqlite

    artifact = project.snapshot(DAY, rows())
    project.materialize(DAY, artifact)
    earlier = [row("v3", (at("2024-01-01 05:00") - timedelta(hours=1)).strftime("%Y-%m-%d %H:%M"), 4)]
    plain = sqlite.EntityRowOnlineStore.upsert

    def last_wins(self: Any, config: Any, table: str, rows: Any) -> None:
        with self._transaction(config) as connection:
            connection.executemany(f'DELETE FROM "{table}" WHERE entity_key = ?', [(r[0],) for r in rows])
        plain(self, config, table, rows)

    monkeypatch.setattr(sqlite.EntityRowOnlineStore, "upsert", last_wins)
    project.materialize("2023-12-31", project.snapshot("2023-12-31", earlier))
    outcome = project.parity(DAY, artifact).outcome
    assert not outcome.verdict.passed and "older there" in outcome.verdict.checks[0].message
