"""The build_training_set job: exactly the rows asked for, features known at their time, from the inputs alone."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import feast_project

from millrace.store import SnapshotStore

FeastProject, at, row = feast_project.FeastProject, feast_project.at, feast_project.row
LATER = "2024-02-01T00:00:00+00:00"


@pytest.fixture
def project(tmp_path: Path) -> Any:
    return FeastProject.applied(tmp_path / "p")


def table(project: Any, result: Any) -> pa.Table:
    assert result.error is None, result.error
    data = result.outcome.outputs["data"]
    return SnapshotStore(project.objects).read(data.uri, data.digest)


def test_rows_are_ordered_complete_and_typed(project: Any) -> None:
    first = project.snapshot("2024-01-01", [row("b", "2024-01-01 05:00", 2), row("a", "2024-01-01 05:00", 1)])
    second = project.snapshot("2024-01-02", [row("a", "2024-01-02 01:00", 3, late=1)])
    result = project.training_set({"2024-01-01": first, "2024-01-02": second}, LATER)
    made = table(project, result)
    assert made.column_names == ["vehicle", "event_timestamp", *feast_project.FEATURE_NAMES, "late"]
    assert {name: made.schema.field(name).type for name in made.column_names} == {
        name: feast_project.SCHEMA.field(name).type for name in made.column_names
    }
    assert made["vehicle"].to_pylist() == ["a", "b", "a"]
    assert made["distance"].to_pylist() == [1, 2, 3]
    assert made["weight"].to_pylist() == [2**60 + 1] * 3
    assert made["late"].to_pylist() == [0, 0, 1]
    assert result.outcome.facts == {
        "asked": 3,
        "rows": 3,
        "unlabelled": 0,
        "not_yet_known": 0,
        "features": feast_project.FEATURE_NAMES,
        "service": "trips_v1",
    }
    data = result.outcome.outputs["data"]
    manifest = SnapshotStore(project.objects).manifest("trips", "training_set", data.digest)
    assert (manifest.partition, manifest.rows) == ("2024-01-02", 3)


def test_columns_that_only_group_rows_stand_beside_the_features(project: Any) -> None:
    """Given a model check that groups by a feature and by a column that is none, then the other is kept under a name
    that no training takes for a feature."""
    check = {"type": "fairness", "columns": ["driver", "created"], "metric": "brier", "max_difference": 1}
    learner = {"learner": {"kind": "xgboost"}, "window": "P1M", "minimum_rows": 1}
    judged = {"thresholds": {"brier": {"max": 1}}, "checks": [check]}
    project.spec = {**project.spec, "training": learner, "evaluation": judged}
    first = project.snapshot("2024-01-01", [row("b", "2024-01-01 05:00", 2), row("a", "2024-01-01 05:00", 1)])
    made = table(project, project.training_set({"2024-01-01": first}, LATER))
    names = ["vehicle", "event_timestamp", *feast_project.FEATURE_NAMES, "group__created", "late"]
    assert made.column_names == names
    assert made["group__created"].to_pylist() == [at("2024-01-01 05:00")] * 2


def test_rows_without_features_before_them_stay_with_nulls(project: Any) -> None:
    """Given a row that became known only after its event, then it is asked for but its values are not yet there."""
    late = row("a", "2024-01-01 05:00", 1, created=at("2024-01-01 08:00"))
    later = row("a", "2024-01-01 09:00", 2, created=at("2024-01-01 10:00"))
    made = table(project, project.training_set({"2024-01-01": project.snapshot("2024-01-01", [late, later])}, LATER))
    assert made["vehicle"].to_pylist() == ["a", "a"]
    assert made["distance"].to_pylist() == [None, 1]
    assert made["driver"].to_pylist() == [None, "ann"]


def test_duplicates_stay_with_their_own_labels(project: Any) -> None:
    rows = [row("a", "2024-01-01 05:00", n, late=n % 2) for n in (1, 2, 3)] + [row("b", "2024-01-01 04:00", 9)]
    made = table(project, project.training_set({"2024-01-01": project.snapshot("2024-01-01", rows)}, LATER))
    assert made["vehicle"].to_pylist() == ["b", "a", "a", "a"]
    assert made["late"].to_pylist() == [0, 1, 0, 1]
    assert made["distance"].to_pylist() == [9, 3, 3, 3]


def test_only_the_snapshots_of_the_request_count(project: Any) -> None:
    """Given a pointer that moved on, then the same request gives the same bytes, and the new Snapshot others."""
    first = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)])
    second = project.snapshot("2024-01-02", [row("a", "2024-01-02 05:00", 2)])
    before = project.training_set({"2024-01-01": first, "2024-01-02": second}, LATER)
    corrected = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 7), row("b", "2024-01-01 05:00", 8)])
    project.snapshot("2023-12-31", [row("a", "2023-12-31 23:00", 6)])
    after = project.training_set({"2024-01-01": first, "2024-01-02": second}, LATER)
    assert before.outcome_digest == after.outcome_digest
    assert table(project, after)["distance"].to_pylist() == [1, 2]
    moved = project.training_set({"2024-01-01": corrected, "2024-01-02": second}, LATER)
    assert table(project, moved)["distance"].to_pylist() == [7, 8, 2]


def test_unpublished_snapshots_are_enough(project: Any) -> None:
    only = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)], publish=False)
    assert table(project, project.training_set({"2024-01-01": only}, LATER)).num_rows == 1


def test_labels_not_known_yet_and_missing_ones_are_left_out_and_counted(project: Any) -> None:
    """Given labels that come six hours after the event, seen at noon, then events up to six o'clock count."""
    rows = [
        row("a", "2024-01-01 05:00", 1),
        row("b", "2024-01-01 06:00", 2),
        row("c", "2024-01-01 06:01", 3),
        row("d", "2024-01-01 05:30", 4, late=None),
        row("e", "2024-01-01 07:00", 5, late=None),
    ]
    result = project.training_set({"2024-01-01": project.snapshot("2024-01-01", rows)}, "2024-01-01T12:00:00")
    assert table(project, result)["vehicle"].to_pylist() == ["a", "b"]
    facts = result.outcome.facts
    assert {k: facts[k] for k in ("asked", "rows", "unlabelled", "not_yet_known")} == {
        "asked": 5,
        "rows": 2,
        "unlabelled": 1,
        "not_yet_known": 2,
    }


def test_calendar_durations_count_days_of_the_month(tmp_path: Path) -> None:
    """Given labels a month later, then those of 29, 30 and 31 January are known at the end of February."""
    label = {"column": "late", "task": "binary", "known_after": "P1M"}
    project = FeastProject.make(tmp_path / "p", label=label)
    project.apply()
    rows = [row("a", f"2023-01-{day} 00:00", n) for n, day in enumerate(("28", "29", "30", "31"))]
    rows += [row("a", "2023-02-01 00:00", 9), row("a", "2023-01-31 00:01", 8), row("a", "2023-01-30 12:00", 7)]
    result = project.training_set({"2023-01-28": project.snapshot("2023-01-28", rows)}, "2023-02-28T00:00:00Z")
    assert table(project, result)["distance"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("kind", "wrong"), [(None, 2), ("float64", 0.5), ("string", "1")])
def test_labels_that_the_task_cannot_have_make_no_training_set(project: Any, kind: str | None, wrong: Any) -> None:
    rows = [row("a", "2024-01-01 05:00"), row("b", "2024-01-01 05:00", late=1)]
    made = pa.Table.from_pylist(rows, schema=feast_project.SCHEMA)
    late = pa.array([0, wrong] if kind is None else [type(wrong)(0), wrong])
    only = project.snapshot("2024-01-01", made.set_column(made.column_names.index("late"), "late", late))
    result = project.training_set({"2024-01-01": only}, LATER)
    assert result.error.type == "DataError" and "label 'late' of a binary task" in result.error.message
    assert "allowed: 0, 1 or booleans" in result.error.message


def test_null_labels_can_be_an_error(tmp_path: Path) -> None:
    label = {"column": "late", "task": "binary", "known_after": "PT0S", "nulls": "error"}
    project = FeastProject.make(tmp_path / "p", label=label)
    project.apply()
    rows = [row("a", "2024-01-01 05:00"), row("b", "2024-01-01 05:00", late=None)]
    result = project.training_set({"2024-01-01": project.snapshot("2024-01-01", rows)}, LATER)
    assert result.error.type == "DataError" and "1 of 2 rows" in result.error.message


def test_the_order_of_rows_in_the_inputs_does_not_matter(project: Any) -> None:
    rows = [row(f"v{n % 7}", f"2024-01-01 {n % 24:02d}:{n % 60:02d}", n) for n in range(200)]
    rows = list({(r["vehicle"], r["event_timestamp"]): r for r in rows}.values())
    shuffled = random.Random(5).sample(rows, len(rows))
    results = [
        project.training_set({"2024-01-01": project.snapshot("2024-01-01", some)}, LATER) for some in (rows, shuffled)
    ]
    tables = [table(project, result) for result in results]
    assert tables[0].equals(tables[1]) and tables[0].num_rows == len(rows)


def test_no_row_left_is_an_error_that_says_why(project: Any) -> None:
    only = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00")])
    result = project.training_set({"2024-01-01": only}, "2024-01-01T06:00:00Z")
    assert result.error.type == "DataError" and "1 not yet known" in result.error.message


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (lambda t: t.replace('"trips_v1"', '"rides_v1"'), "defines no such FeatureService"),
        (lambda t: t.replace("hours=36", "hours=37"), "another definition"),
    ],
)
def test_a_registry_that_says_otherwise_is_refused(project: Any, features: Any, says: str) -> None:
    only = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00")])
    project.features = features(project.features)
    result = project.training_set({"2024-01-01": only}, LATER)
    assert result.error.type == "SpecError" and says in result.error.message


def test_a_registry_without_the_service_says_to_apply(tmp_path: Path) -> None:
    project = FeastProject.make(tmp_path / "p")
    only = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00")])
    result = project.training_set({"2024-01-01": only}, LATER)
    assert result.error.type == "SpecError" and "Run 'millrace apply'" in result.error.message


def test_a_service_that_serves_the_label_is_refused(project: Any) -> None:
    leaking = project.features.replace('Field(name="weight", dtype=Int64)', 'Field(name="late", dtype=Int64)')
    project.features = leaking.replace('"weight"', '"late"')
    project.write("trips", project.features)
    project.apply()
    only = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00")])
    result = project.training_set({"2024-01-01": only}, LATER)
    assert result.error.type == "SpecError" and "serves the label" in result.error.message


def test_an_entity_row_without_a_key_is_refused(project: Any) -> None:
    only = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00"), row(None, "2024-01-01 05:00")])
    result = project.training_set({"2024-01-01": only}, LATER)
    assert result.error.type == "DataError" and "vehicle is null" in result.error.message


def test_inputs_must_be_the_partitions_in_scope(project: Any) -> None:
    only = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00")])
    request = project.request("build_training_set", "features", {"2024-01-01": only}, {"as_of": LATER})
    identity = request.identity.model_copy(update={"scope": ("2024-01-01", "2024-01-02")})
    result = feast_project.run(request.model_copy(update={"identity": identity}))
    assert result.error.type == "ContractError" and "one input 'features' per partition" in result.error.message


def test_rows_that_feast_loses_are_noticed(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an offline store that drops rows without features, as Feast's file store does, then the job fails."""
    from millrace.feast_stores.offline_stores.retrieval import DuckDBRetrievalJob

    arrow = DuckDBRetrievalJob._to_arrow_internal
    monkeypatch.setattr(
        DuckDBRetrievalJob, "_to_arrow_internal", lambda self, timeout=None: arrow(self, timeout).slice(1)
    )
    only = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00"), row("b", "2024-01-01 05:00")])
    result = project.training_set({"2024-01-01": only}, LATER)
    assert result.error.type == "DataError" and "2 entity rows were asked for" in result.error.message


def test_the_order_in_which_feast_answers_does_not_matter(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from millrace.feast_stores.offline_stores.retrieval import DuckDBRetrievalJob

    arrow = DuckDBRetrievalJob._to_arrow_internal

    def backwards(self: Any, timeout: int | None = None) -> pa.Table:
        found = arrow(self, timeout)
        return found.take(list(reversed(range(found.num_rows))))

    monkeypatch.setattr(DuckDBRetrievalJob, "_to_arrow_internal", backwards)
    rows = [row(f"v{n}", f"2024-01-01 0{n}:00", n) for n in range(5)]
    made = table(project, project.training_set({"2024-01-01": project.snapshot("2024-01-01", rows)}, LATER))
    assert made["distance"].to_pylist() == list(range(5))


def test_runs_from_the_command_line_with_no_word_of_leaks(project: Any, tmp_path: Path) -> None:
    artifact = project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1)])
    request, answer = tmp_path / "request.json", tmp_path / "result.json"
    built = project.request("build_training_set", "features", {"2024-01-01": artifact}, {"as_of": "2024-02-01"})
    request.write_text(built.model_dump_json())
    command = [sys.executable, "-m", "millrace.jobs", "build_training_set", "--request", str(request)]
    done = subprocess.run([*command, "--result", str(answer)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "leak" not in done.stderr and "deprecated" not in done.stderr
