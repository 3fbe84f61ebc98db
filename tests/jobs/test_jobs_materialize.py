"""The materialize job: the rows of one Snapshot reach the online store, and never take it back in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import feast_project

FeastProject, at, row = feast_project.FeastProject, feast_project.at, feast_project.row


@pytest.fixture
def project(tmp_path: Path) -> Any:
    return FeastProject.applied(tmp_path / "p")


def online(project: Any, name: str, *vehicles: str) -> list[Any]:
    rows = [{"vehicle": vehicle} for vehicle in vehicles]
    found: list[Any] = project.open().get_online_features([f"trips:{name}"], rows).to_dict()[name]
    return found


def test_writes_the_latest_row_of_each_entity_of_the_snapshot(project: Any) -> None:
    """Given event times far from the partition and rows in any order, then the Snapshot alone decides."""
    rows = [
        row("a", "2024-01-01 07:00", 2),
        row("a", "2024-01-01 05:00", 1),
        row("b", "2031-05-05 00:00", 3),
        row("c", "2024-01-01 05:00", 5, created=at("2024-01-02 00:00")),
        row("c", "2024-01-01 05:00", 4, created=at("2024-01-01 06:00")),
        row("c", "2024-01-01 05:00", 6, created=None),
        row("d", "2024-01-01 05:00", 7),
        row("d", "2024-01-01 05:00", 8),
    ]
    result = project.materialize("2024-01-01", project.snapshot("2024-01-01", rows, publish=False))
    assert result.error is None
    assert result.outcome.facts == {"partition": "2024-01-01", "rows": 8, "entities": 4, "views": {"trips": 4}}
    assert online(project, "distance", "a", "b", "c", "d", "e") == [2, 3, 5, 8, None]


def test_an_older_partition_after_a_newer_changes_only_entities_that_have_no_newer_row(project: Any) -> None:
    older = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1), row("b", "2024-01-01 05:00", 1)])
    newer = project.snapshot("2024-01-02", [row("a", "2024-01-02 05:00", 2)])
    outcomes = [project.materialize(p, a).outcome for p, a in (("2024-01-02", newer), ("2024-01-01", older)) * 2]
    assert online(project, "distance", "a", "b") == [2, 1]
    assert outcomes[0] == outcomes[2] and outcomes[1] == outcomes[3]


def test_a_corrected_partition_replaces_what_it_corrects(project: Any) -> None:
    first = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)])
    project.materialize("2024-01-01", first)
    project.materialize("2024-01-01", project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 0)]), revision=2)
    assert online(project, "distance", "a") == [0]


def test_every_type_and_null_arrives_as_it_was(project: Any) -> None:
    full = row("a", "2024-01-01 05:00", 2**60 + 1, speed=0.1, electric=False)
    names = ["distance", "speed", "driver", "electric", "serviced", "weight"]
    empty = row("b", "2024-01-01 05:00", **dict.fromkeys(names))
    project.materialize("2024-01-01", project.snapshot("2024-01-01", [full, empty]))
    for name in names:
        assert online(project, name, "a", "b") == [full[name], None]


def test_more_rows_than_one_batch(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from millrace.feast_stores.online_stores import rows as stores

    monkeypatch.setattr(stores, "BATCH", 7)
    rows = [row(f"v{n}", "2024-01-01 05:00", n) for n in range(50)]
    result = project.materialize("2024-01-01", project.snapshot("2024-01-01", rows))
    assert result.outcome.facts["entities"] == 50
    assert online(project, "distance", *(f"v{n}" for n in range(50))) == list(range(50))


def test_a_registry_without_the_view_says_to_apply(tmp_path: Path) -> None:
    project = FeastProject.make(tmp_path / "p")
    result = project.materialize("2024-01-01", project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00")]))
    assert result.error.type == "SpecError" and "Run 'millrace apply'" in result.error.message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(["weight"]), "transform.sql did not make"),
        (lambda t: t.set_column(3, "distance", pa.array(["far"])), "cannot be served"),
        (lambda t: t.set_column(0, "vehicle", pa.array([None], pa.string())), "have no vehicle"),
    ],
)
def test_data_that_do_not_fit_the_view_are_refused_and_nothing_written(project: Any, change: Any, says: str) -> None:
    table = pa.Table.from_pylist([row("a", "2024-01-01 05:00", driver="secret")], feast_project.SCHEMA)
    result = project.materialize("2024-01-01", project.snapshot("2024-01-01", change(table)))
    assert result.error.type == "DataError" and says in result.error.message
    assert "secret" not in result.error.message and "far" not in result.error.message.split("given")[0]
    assert online(project, "distance", "a") == [None]
