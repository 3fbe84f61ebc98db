"""apply: explicit, repeatable, never deleting unasked; and what a Feast file says, read without a registry."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from support import feast_project

from millrace.core.errors import SpecError
from millrace.feast_stores.apply import describe
from millrace.feast_stores.repo import open_feature_store, registered, service_definitions, views_of_table

FeastProject, FEATURES, FEATURE_STORE = feast_project.FeastProject, feast_project.FEATURES, feast_project.FEATURE_STORE
ALL = ("entity vehicle", "feature service trips_v1", "feature view trips", "source trips_features", "source trips_push")


def other(text: str = FEATURES) -> str:
    """The same definitions under other names, sharing the entity."""
    return text.replace('"trips', '"rides').replace("millrace://trips", "millrace://rides")


@pytest.fixture
def project(tmp_path: Path) -> Any:
    return FeastProject.make(tmp_path / "p")


def test_apply_adds_then_changes_nothing(project: Any) -> None:
    first, second = project.apply(), project.apply()
    assert (first.added, first.changed, first.absent) == (ALL, (), ())
    assert (second.added, second.changed, second.absent) == ((), (), ())


def test_a_changed_view_is_reported(project: Any) -> None:
    project.apply()
    project.write("trips", FEATURES.replace("hours=36", "hours=48"))
    report = project.apply()
    assert report.added == () and report.changed == ("feature view trips",)


def test_what_no_file_defines_is_reported_and_stays_until_deletion_is_asked_for(project: Any) -> None:
    rides = project.write("rides", other())
    project.apply()
    rides.unlink()
    left = ("feature service rides_v1", "feature view rides", "source rides_features", "source rides_push")
    kept = project.apply()
    assert kept.absent == left and not kept.deleted
    assert set(registered(project.open()).views) == {"trips", "rides"}

    removed = project.apply(delete=True)
    assert removed.absent == left and removed.deleted
    held = registered(project.open())
    assert (set(held.views), set(held.services), held.entities) == ({"trips"}, {"trips_v1"}, {"vehicle": "vehicle"})
    assert project.apply().absent == ()


def apply_in_child(project: Any, barrier: Any, answers: Any) -> None:
    barrier.wait()
    answers.put(project.apply().added)


def test_two_at_once_on_an_empty_registry(project: Any) -> None:
    fork = multiprocessing.get_context("fork")
    barrier, answers = fork.Barrier(4), fork.Queue()
    children = [fork.Process(target=apply_in_child, args=(project, barrier, answers)) for _ in range(4)]
    for child in children:
        child.start()
    found = sorted(answers.get(timeout=60) for _ in children)
    for child in children:
        child.join(60)
    assert found == [(), (), (), ALL]
    assert set(registered(project.open()).views) == {"trips"}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("from feast import Entity\n\nx = Entity(name='a'\n", 3, "not valid Python"),
        ("from feast import Entity\n\nx = Entity(nome='a')\n", 3, "nome"),
        ("import feast\nfrom trips import vehicle\n", 2, "stands alone"),
        ("def fail():\n    raise KeyError('gone')\n\nfail()\n", 2, "gone"),
    ],
)
def test_a_broken_file_is_named_with_its_line(project: Any, text: str, line: int, says: str) -> None:
    path = project.write("broken", text)
    with pytest.raises(SpecError, match=says) as caught:
        project.apply()
    assert caught.value.where == f"{path}:{line}"


def test_one_broken_file_changes_nothing_in_the_registry(project: Any) -> None:
    project.apply()
    project.write("rides", other())
    project.write("zzz", "raise ValueError('broken')\n")
    with pytest.raises(SpecError, match="broken"):
        project.apply()
    assert set(registered(project.open()).views) == {"trips"}


def test_a_view_in_two_files_names_both(project: Any) -> None:
    path = project.write("twice", FEATURES)
    with pytest.raises(SpecError, match=r"feature view trips is already defined in trips\.py") as caught:
        project.apply()
    assert caught.value.where == str(path)


def test_files_that_disagree_about_an_entity_are_refused(project: Any) -> None:
    project.write("rides", other().replace('join_keys=["vehicle"]', 'join_keys=["vehicle"], description="x"'))
    with pytest.raises(SpecError, match="entity vehicle is already defined"):
        project.apply()


def test_a_missing_feature_store_says_so(project: Any) -> None:
    (project.root / "feature_repo" / "feature_store.yaml").unlink()
    with pytest.raises(SpecError, match=r"no feature_store\.yaml"):
        project.apply()


def open_text(project: Any, text: str) -> Any:
    s = project.settings
    return open_feature_store(text, registry=s.feast_registry, online=s.feast_online, store=s.store, where="f.yaml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("${MILLRACE_STORE_ROOT}", "${MILLRACE_NO_SUCH}", "MILLRACE_NO_SUCH"),
        ("project: reference", "project: [", "not valid YAML"),
        ("EntityRowOnlineStore", "EntityRowOnlineStroe", "f.yaml"),
        ('store: "', 'stores: "', "f.yaml: store"),
        ("project: reference", "project: a project", "f.yaml"),
    ],
)
def test_a_wrong_feature_store_yaml_is_explained(project: Any, old: str, new: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        open_text(project, FEATURE_STORE.replace(old, new))


def test_pins_need_the_offline_store_that_knows_them(project: Any) -> None:
    text = FEATURE_STORE.replace(
        '{type: millrace.feast_stores.offline_stores.duckdb.TableOfflineStore, store: "${MILLRACE_STORE_ROOT}"}',
        "{type: duckdb}",
    )
    s = project.settings
    with pytest.raises(SpecError, match="repeated"):
        open_feature_store(text, registry=s.feast_registry, online=s.feast_online, store=s.store, pinned={})


def test_describe_says_what_a_file_defines() -> None:
    found = describe(FEATURES, "feature_repo/trips.py")
    assert found.entities == {"vehicle": "vehicle"}
    assert found.views == {
        "trips": {
            "distance": "Int64",
            "speed": "Float64",
            "driver": "String",
            "electric": "Bool",
            "serviced": "UnixTimestamp",
            "weight": "Int64",
        }
    }
    assert found.join_keys == {"trips": {"vehicle": "String"}}
    assert found.services == {"trips_v1": [f"trips:{name}" for name in feast_project.FEATURE_NAMES]}
    assert found.features("trips_v1") == feast_project.FEATURE_NAMES
    source = found.sources["trips"]
    assert (source.path, source.timestamp_field, source.created_timestamp_column) == (
        "millrace://trips/features",
        "event_timestamp",
        "created",
    )
    assert found.ttl == {"trips": 36 * 3600}


def test_describe_resolves_references_by_name() -> None:
    text = FEATURES.replace(
        'features=[trips[["speed", "distance", "driver", "electric", "weight"]]]', 'features=["trips:speed", "trips"]'
    )
    assert describe(text, "f.py").services["trips_v1"][:3] == ["trips:speed", "trips:distance", "trips:speed"]
    with pytest.raises(SpecError, match="does not define"):
        describe(text.replace('"trips:speed"', '"tripps:speed"'), "f.py")


def test_an_unknown_service_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean 'trips_v1'"):
        describe(FEATURES, "f.py").features("trip_v1")


def test_the_registry_and_the_file_are_held_against_each_other(project: Any) -> None:
    with pytest.raises(SpecError, match="Run 'millrace apply'"):
        service_definitions(project.open(), "trips_v1", FEATURES, "f.py")
    with pytest.raises(SpecError, match="Run 'millrace apply'"):
        views_of_table(project.open(), "trips/features", FEATURES, "f.py")
    project.apply()
    store = project.open()
    assert service_definitions(store, "trips_v1", FEATURES, "f.py").features("trips_v1") == feast_project.FEATURE_NAMES
    assert [view.name for view in views_of_table(store, "trips/features", FEATURES, "f.py")] == ["trips"]
    newer = FEATURES.replace('["speed", ', '["serviced", "speed", ').replace("hours=36", "hours=48")
    with pytest.raises(SpecError, match=r"features of the service, view 'trips'.*millrace apply"):
        service_definitions(store, "trips_v1", newer, "f.py")
    with pytest.raises(SpecError, match="another definition"):
        views_of_table(store, "trips/features", newer, "f.py")
