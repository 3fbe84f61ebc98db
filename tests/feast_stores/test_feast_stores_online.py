"""The online store: latest event time wins, whoever writes, in whatever order, killed or not."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from support import feast_project

from millrace.core.errors import DataError, SpecError
from millrace.feast_stores.online_stores import rows
from millrace.feast_stores.online_stores.rows import table_of_view

FeastProject, at = feast_project.FeastProject, feast_project.at
START = datetime(2024, 1, 1, tzinfo=UTC)
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def project(tmp_path: Path, online: tuple[str, str] | None) -> Any:
    project = FeastProject.applied(tmp_path / "p")
    project.online = online
    if online:
        opened = project.open()
        views = [opened.get_feature_view("trips")]
        opened.provider.online_store.update(opened.config, [], views, [], [], partial=True)
    return project


class Online:
    """Writes and reads through the store of a project, as Feast's provider does."""

    def __init__(self, project: Any, store: Any = None) -> None:
        opened = project.open()
        self.config, self.view = opened.config, opened.get_feature_view("trips")
        self.store = store or opened.provider.online_store

    def write(self, rows: list[tuple[str, datetime, datetime | None, int]], progress: Any = None) -> None:
        data = [(key(v), {"distance": Value(int64_val=n)}, event, created) for v, event, created, n in rows]
        self.store.online_write_batch(self.config, self.view, data, progress)

    def read(self, vehicle: str) -> tuple[datetime | None, int | None]:
        ((event, values),) = self.store.online_read(self.config, self.view, [key(vehicle)], ["distance"])
        return event, values["distance"].int64_val if values else None


def key(vehicle: str) -> EntityKey:
    return EntityKey(join_keys=["vehicle"], entity_values=[Value(string_val=vehicle)])


def history(seed: int, rows: int = 400) -> list[tuple[str, datetime, datetime | None, int]]:
    """Rows with distinct (event, created) per vehicle, microseconds apart, many of them duplicates."""
    chance = random.Random(seed)
    made = [
        (
            f"v{chance.randrange(20)}",
            START + timedelta(microseconds=chance.randrange(40)),
            START + timedelta(microseconds=number),
            number,
        )
        for number in range(rows)
    ]
    return made + chance.sample(made, rows // 2)


def oracle(rows: list[tuple[str, datetime, datetime | None, int]]) -> dict[str, tuple[datetime, int]]:
    found: dict[str, tuple[Any, ...]] = {}
    for vehicle, event, created, number in rows:
        found[vehicle] = max(found.get(vehicle, (START - timedelta(1),)), (event, created, number))
    return {vehicle: (row[0], row[2]) for vehicle, row in found.items()}


def write_in_batches(project: Any, rows: list[Any], size: int) -> None:
    online = Online(project)
    for start in range(0, len(rows), size):
        online.write(rows[start : start + size])


@pytest.mark.parametrize("seed", range(4))
def test_any_order_ends_in_the_latest_row(project: Any, seed: int) -> None:
    rows = history(seed)
    random.Random(seed + 99).shuffle(rows)
    write_in_batches(project, rows, 37)
    online = Online(project)
    assert {v: online.read(v) for v in oracle(rows)} == oracle(rows)


def test_parallel_processes_end_in_the_latest_row(project: Any) -> None:
    rows = history(7, 900)
    random.Random(1).shuffle(rows)
    parts = [rows[n::3] + rows[:50] for n in range(3)]
    writers = [FORK.Process(target=write_in_batches, args=(project, part, 11)) for part in parts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    online = Online(project)
    assert {v: online.read(v) for v in oracle(rows)} == oracle(rows)


def test_parallel_threads_share_one_store(project: Any) -> None:
    rows, online = history(8, 600), Online(project)
    parts = [rows[n::4] for n in range(4)]
    threads = [threading.Thread(target=lambda p=part: [online.write([row]) for row in p[:60]]) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = oracle([row for part in parts for row in part[:60]])
    assert {v: online.read(v) for v in expected} == expected


@pytest.mark.parametrize("batches", [1, 3, 6])
def test_a_killed_writer_leaves_whole_rows_and_a_rerun_mends(project: Any, batches: int) -> None:
    old = [(f"v{n}", START, None, n) for n in range(4000)]
    new = [(f"v{n}", START + timedelta(hours=1), None, 10_000 + n) for n in range(4000)]
    write_in_batches(project, old, 4000)
    read_end, write_end = os.pipe()

    def child() -> None:
        online = Online(project)
        for start in range(0, len(new), 500):
            online.write(new[start : start + 500], lambda n: os.write(write_end, b"."))

    process = FORK.Process(target=child)
    process.start()
    for _ in range(batches):
        os.read(read_end, 1)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    online = Online(project)
    seen = [online.read(f"v{n}") for n in range(4000)]
    assert all(row in ((START, n), (START + timedelta(hours=1), 10_000 + n)) for n, row in enumerate(seen))
    assert sum(row[1] >= 10_000 for row in seen) % 500 == 0
    assert seen[0][1] == 10_000

    write_in_batches(project, new, 500)
    assert [online.read(f"v{n}")[1] for n in range(4000)] == [10_000 + n for n in range(4000)]


def older_after_newer(online: Online) -> None:
    online.write([("a", START + timedelta(hours=2), None, 2)])
    online.write([("a", START + timedelta(hours=1), None, 1)])
    assert online.read("a") == (START + timedelta(hours=2), 2)


def test_an_older_window_materialised_later_changes_nothing(project: Any) -> None:
    older_after_newer(Online(project))


def test_feasts_own_store_fails_the_same_test(project: Any, tmp_path: Path) -> None:
    online = Online(project, SqliteOnlineStore())
    online.config._online_store = SqliteOnlineStoreConfig(path=str(tmp_path / "stock.db"))
    online.store.update(online.config, [], [online.view], [], [], partial=True)
    with pytest.raises(AssertionError):
        older_after_newer(online)


def test_created_time_decides_between_equal_event_times(project: Any) -> None:
    online, late = Online(project), START + timedelta(days=1)
    online.write([("a", START, late, 2)])
    online.write([("a", START, START, 1)])
    online.write([("a", START, None, 0)])
    assert online.read("a") == (START, 2)


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
def test_rows_with_equal_times_end_alike_in_any_order(project: Any, numbers: tuple[int, int]) -> None:
    online = Online(project)
    for number in numbers:
        online.write([("a", START, START, number)])
    assert online.read("a") == (START, 2)


@pytest.mark.parametrize("revisions", [(1, 2), (2, 1)])
def test_a_correction_with_equal_times_replaces_in_any_order(project: Any, revisions: tuple[int, int]) -> None:
    """Given a greater value that a later revision of the data corrects to a smaller one."""
    online = Online(project)
    for revision in revisions:
        corrected = feast_project.row("a", "2024-01-01 05:00", 10 - revision)
        online.store.write_table(
            online.config, online.view, feast_project.pa.Table.from_pylist([corrected], feast_project.SCHEMA), revision
        )
    assert online.read("a")[1] == 8


def test_microseconds_count_and_zones_do_not_matter(project: Any) -> None:
    online = Online(project)
    naive = datetime(2024, 1, 1, 0, 0, 0, 5)
    online.write([("a", naive, None, 1)])
    online.write([("a", START + timedelta(microseconds=4), None, 0)])
    assert online.read("a") == (START + timedelta(microseconds=5), 1)


def test_only_requested_features_come_back_and_unknown_entities_are_none(project: Any) -> None:
    online = Online(project)
    values = {"distance": Value(int64_val=1), "driver": Value(string_val="ann"), "weight": Value()}
    online.store.online_write_batch(online.config, online.view, [(key("a"), values, START, None)], None)
    read = online.store.online_read
    keys = [key("nobody"), key("a"), key("a")]
    answers = read(online.config, online.view, keys, ["driver"])
    assert answers == [(None, None), *[(START, {"driver": Value(string_val="ann")})] * 2]
    assert read(online.config, online.view, [key("a")])[0][1] == values
    assert read(online.config, online.view, []) == []


def test_more_keys_than_one_query_takes(project: Any) -> None:
    online = Online(project)
    online.write([(f"v{n}", START, None, n) for n in range(1300)])
    keys = [key(f"v{n}") for n in reversed(range(1300))]
    answers = online.store.online_read(online.config, online.view, keys)
    assert [values["distance"].int64_val for _, values in answers] == list(reversed(range(1300)))


def test_a_row_without_event_time_is_refused_and_nothing_written(project: Any) -> None:
    online = Online(project)
    with pytest.raises(DataError, match="event time"):
        online.write([("a", START, None, 1), ("b", pd.NaT, None, 2)])
    assert online.read("a") == (None, None)


def test_a_write_that_fails_half_way_leaves_nothing(project: Any) -> None:
    if project.online is not None:
        pytest.skip("the trigger that breaks the write is SQLite's")
    online = Online(project)
    with sqlite3.connect(project.settings.feast_online) as database:
        database.execute(
            'CREATE TRIGGER full BEFORE INSERT ON "reference_trips" WHEN (SELECT count(*) FROM "reference_trips") = 3 '
            "BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    with pytest.raises(sqlite3.IntegrityError, match="full"):
        online.write([(f"v{n}", START, None, n) for n in range(5)])
    online.write([("after", START, None, 1)])
    assert [online.read(v) for v in ("v0", "v1", "v2", "after")] == [(None, None)] * 3 + [(START, 1)]


def test_a_forked_child_opens_its_own_connection(project: Any) -> None:
    online = Online(project)
    online.write([("a", START, None, 1)])
    inherited = online.store._connect(online.config)
    assert online.store._connect(online.config) is inherited
    answers = FORK.Queue()

    def child() -> None:
        online.write([("a", START, None, 2)])
        answers.put(online.store._connect(online.config) is inherited)

    process = FORK.Process(target=child)
    process.start()
    process.join(30)
    assert answers.get(timeout=10) is False
    assert online.read("a") == (START, 2)


def test_a_view_that_was_never_applied_says_what_to_do(project: Any) -> None:
    if project.online and project.online[0] == "redis":
        pytest.skip("Redis makes a hash with its first row")
    online = Online(project)
    online.store.teardown(online.config, [online.view], [])
    with pytest.raises(SpecError, match="millrace apply"):
        online.read("a")


def test_update_drops_the_tables_of_deleted_views(project: Any) -> None:
    online = Online(project)
    online.write([("a", START, None, 1)])
    online.store.update(online.config, [online.view], [], [], [], partial=True)
    online.store.update(online.config, [], [online.view], [], [], partial=True)
    assert online.read("a") == (None, None)


FRAME = {
    "vehicle": ["a", "b"],
    "event_timestamp": [at("2024-01-02 00:00"), at("2024-01-02 00:00")],
    "created": [at("2024-01-02 00:00"), at("2024-01-02 00:00")],
    "distance": [3, 2**60 + 1],
    "speed": [0.1, None],
    "driver": ["ann", None],
    "electric": [True, False],
    "serviced": [at("2023-12-01 00:00"), at("2023-12-02 00:00")],
    "weight": [7, 8],
}
ASKED = [f"trips:{name}" for name in ("distance", "speed", "driver", "electric", "serviced", "weight")]


def online_features(store: Any, *vehicles: str) -> dict[str, list[Any]]:
    rows = [{"vehicle": vehicle} for vehicle in vehicles]
    found: dict[str, list[Any]] = store.get_online_features(features=ASKED, entity_rows=rows).to_dict()
    return found


def test_every_type_comes_back_through_feast(project: Any) -> None:
    store = project.open()
    store.write_to_online_store("trips", pd.DataFrame(FRAME))
    assert online_features(store, "b", "a", "nobody") == {
        "vehicle": ["b", "a", "nobody"],
        "distance": [2**60 + 1, 3, None],
        "speed": [None, 0.1, None],
        "driver": [None, "ann", None],
        "electric": [False, True, None],
        "serviced": [at("2023-12-02 00:00"), at("2023-12-01 00:00"), None],
        "weight": [8, 7, None],
    }


def test_push_goes_through_the_guard(project: Any) -> None:
    store = project.open()
    store.push("trips_push", pd.DataFrame(FRAME))
    older = {**FRAME, "event_timestamp": [at("2024-01-01 00:00")] * 2, "distance": [0, 0]}
    store.push("trips_push", pd.DataFrame(older))
    assert online_features(store, "a", "b")["distance"] == [3, 2**60 + 1]


def test_feasts_own_materialize_works_and_an_old_window_changes_nothing(project: Any) -> None:
    row = feast_project.row
    project.snapshot("2024-01-01", [row("a", "2024-01-01 05:00", 1), row("b", "2024-01-01 06:00", 1)])
    project.snapshot("2024-01-02", [row("a", "2024-01-02 05:00", 2)])
    store = project.open()
    store.materialize(at("2024-01-02 00:00"), at("2024-01-02 23:59"), feature_views=["trips"])
    store.materialize(at("2024-01-01 00:00"), at("2024-01-01 23:59"), feature_views=["trips"])
    assert online_features(store, "a", "b")["distance"] == [2, 1]


def test_tables_are_written_as_rows_are(project: Any) -> None:
    """Given the same values by push and by table, then the bytes are equal, so that neither replaces the other."""
    online = Online(project)
    frame = pd.DataFrame(FRAME)
    table = feast_project.pa.Table.from_pandas(frame, preserve_index=False)
    table = table.set_column(0, "vehicle", table["vehicle"].cast("string"))
    online.store.write_table(online.config, online.view, table)
    held = stored(online, "a", "b")
    project.open().push("trips_push", frame)
    assert stored(online, "a", "b") == held and len(held) == 2


def stored(online: Online, *vehicles: str) -> Any:
    from feast.infra.key_encoding_utils import serialize_entity_key

    keys = [serialize_entity_key(key(vehicle), 3) for vehicle in vehicles]
    return online.store.fetch(online.config, table_of_view(online.config, online.view), "trips", keys)


def test_batches_of_a_table_follow_the_order_of_the_keys(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given rows in no order, one key twice, in several pieces; when written in batches, then no batch goes back."""
    online, written = Online(project), list[bytes]()
    upsert = online.store.upsert

    def seen(config: Any, table: str, rows: Any) -> None:
        written.extend(row[0] for row in rows)
        upsert(config, table, rows)

    monkeypatch.setattr(online.store, "upsert", seen)
    monkeypatch.setattr(rows, "BATCH", 2)
    pieces = [("vv", 1), ("b", 2), ("a", 3)], [("ccc", 4), ("b", 5)]
    made = [[feast_project.row(name, f"2024-01-01 0{number}:00", number) for name, number in some] for some in pieces]
    tables = [feast_project.pa.Table.from_pylist(some, feast_project.SCHEMA) for some in made]
    online.store.write_table(online.config, online.view, feast_project.pa.concat_tables(tables))
    assert written == sorted(written) and len(set(written)) == 4
    assert [online.read(name)[1] for name in ("vv", "a", "b", "ccc")] == [1, 3, 5, 4]


def test_a_window_without_rows_writes_nothing(project: Any) -> None:
    online = Online(project)
    empty = feast_project.pa.Table.from_pylist([], feast_project.SCHEMA)
    assert online.store.write_table(online.config, online.view, empty) == 0
