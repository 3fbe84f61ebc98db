"""Snapshots are immutable and whole; Tables move by compare-and-set and forget nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.core.canonical import canonical_json, file_digest
from millrace.core.errors import Corrupt, DataError, NotFound
from millrace.store import SnapshotStore, Tables, open_store
from millrace.store.snapshots import Manifest

KILLED = r"""
import sys, time, pyarrow as pa
from millrace.store import SnapshotStore, open_store
store = open_store(sys.argv[1])
original = store.put_if
def stop(*args):
    print("between data and manifest", flush=True)
    time.sleep(60)
store.put_if = stop
SnapshotStore(store).write(pa.table({"a": [1, 2, 3]}), pipeline="p", dataset="raw.x", partition="2013-01")
"""


def table(values=(1, 2, 3)):
    return pa.table({"a": list(values), "t": pa.array([1, 2, 3][: len(values)], pa.timestamp("ns", "UTC"))})


def write(objects, values=(1, 2, 3), partition="2013-01"):
    return SnapshotStore(objects).write(table(values), pipeline="p", dataset="raw.x", partition=partition)


def test_the_same_content_twice_is_one_snapshot(objects):
    assert write(objects) == write(objects)
    assert len([o for o in objects.list("snapshots/") if o.key.endswith("manifest.json")]) == 1


def test_other_content_or_another_partition_is_another_snapshot(objects):
    assert (
        len({write(objects).digest, write(objects, (1, 2, 4)).digest, write(objects, partition="2013-02").digest}) == 3
    )


def test_an_erased_snapshot_leaves_its_digest_and_the_reason_and_never_comes_back(objects):
    store, made, other = SnapshotStore(objects), write(objects), write(objects, (7, 8, 9))
    store.erase(made.uri, made.digest, "a letter")
    store.erase(made.uri, made.digest, "another letter")
    with pytest.raises(NotFound, match="was erased: a letter"):
        store.read(made.uri, made.digest)
    with pytest.raises(DataError, match="just these rows were erased: a letter"):
        write(objects)
    left = sorted(o.key.rpartition("/")[2] for o in objects.list(made.uri))
    assert left == ["manifest.json", "tombstone.json"]
    assert store.manifest("p", "raw.x", made.digest).digest == made.digest
    assert store.collect(timedelta(0)) == []
    assert store.read(other.uri, other.digest).num_rows == 3
    assert {m.digest for _, m in store.all("p")} == {made.digest, other.digest}


def test_what_was_never_a_snapshot_is_not_erased(objects):
    with pytest.raises(NotFound, match="no such Snapshot"):
        SnapshotStore(objects).erase("snapshots/p/raw.x/abc/", "sha256:" + "0" * 64, "a letter")


def test_timestamps_are_stored_in_microseconds(objects):
    made = write(objects)
    assert SnapshotStore(objects).read(made.uri, made.digest).schema.field("t").type == pa.timestamp("us", "UTC")


def test_chunks_do_not_change_the_digest(objects):
    chunked = pa.concat_tables([table().slice(0, 1), table().slice(1)])
    made = SnapshotStore(objects).write(chunked, pipeline="p", dataset="raw.x", partition="2013-01")
    assert made.digest == write(objects).digest


def test_duckdb_and_arrow_find_the_nan_of_a_snapshot(objects):
    # Given rows of which one is NaN, in two row groups
    values = [0.5, 1.0, float("nan"), 0.0] + [0.25] * 200_000
    table = pa.table({"v": values, "n": pa.array(range(len(values)))})
    snapshots = SnapshotStore(objects)
    made = snapshots.write(table, pipeline="p", dataset="raw.x", partition="2013-01")
    path = str(snapshots.path(made.uri, made.digest))

    def asked(query):
        return duckdb.connect().execute(query.format(f"'{path}'")).fetchall()[0][0]

    # Then a query answers as it does over the rows themselves: NaN is there, and is the largest of all
    assert asked("SELECT count(*) FROM {} WHERE isnan(v)") == 1
    assert asked("SELECT round(avg(v), 3) FROM {} WHERE v <= 1000") == 0.25
    assert str(asked("SELECT max(v) FROM {}")) == "nan"
    assert pq.read_table(path, filters=[("v", "<=", 1000)]).num_rows == len(values) - 1
    # and statistics are there for what has no NaN only
    group = pq.ParquetFile(path).metadata.row_group(0)
    held = {group.column(n).path_in_schema: group.column(n).statistics for n in range(group.num_columns)}
    assert held["v"] is None and held["n"].max == 131_071


def test_a_snapshot_with_statistics_on_all_columns_is_still_read(objects, tmp_path):
    # Given a Snapshot as it was written once
    rows, path = pa.table({"v": [0.5, 1.0]}), tmp_path / "old.parquet"
    pq.write_table(rows, path, compression="zstd", row_group_size=131_072)
    manifest = Manifest(pipeline="p", dataset="raw.x", partition="2013-01", rows=2, columns={"v": "double"},
                        data=file_digest(path))  # fmt: skip
    snapshots = SnapshotStore(objects)
    prefix = snapshots.prefix("p", "raw.x", manifest.digest)
    objects.put_file(prefix + "data.parquet", path)
    objects.put(prefix + "manifest.json", canonical_json(manifest))
    # Then it is what it was
    assert snapshots.read(prefix, manifest.digest) == rows
    assert snapshots.artifact("p", "raw.x", manifest.digest).rows == 2


def test_a_writer_killed_before_the_manifest_leaves_nothing_to_read(root):
    # Given a writer killed between data and manifest
    process = subprocess.Popen([sys.executable, "-c", KILLED, root], stdout=subprocess.PIPE, text=True)
    assert "between" in process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # Then there is data, but no Snapshot
    objects = open_store(root)
    left = [o.key for o in objects.list("snapshots/")]
    assert left and not any(key.endswith("manifest.json") for key in left)
    prefix = left[0].rpartition("/")[0] + "/"
    with pytest.raises(NotFound, match="manifest"):
        SnapshotStore(objects).path(prefix, "sha256:" + "0" * 64)
    # and young leftovers stay, old ones are collected, and the writer can run again
    snapshots = SnapshotStore(objects)
    assert snapshots.collect() == []
    time.sleep(1.1)
    assert snapshots.collect(older_than=timedelta(seconds=1)) == left
    again = snapshots.write(pa.table({"a": [1, 2, 3]}), pipeline="p", dataset="raw.x", partition="2013-01")
    assert snapshots.collect(older_than=timedelta(0)) == []
    assert snapshots.read(again.uri, again.digest).num_rows == 3


def test_changed_bytes_are_found(objects):
    made = write(objects)
    objects.put(made.uri + "data.parquet", objects.get(made.uri + "data.parquet")[:-1] + b"!")
    with pytest.raises(Corrupt, match="digest"):
        SnapshotStore(objects).read(made.uri, made.digest)


def test_a_changed_manifest_is_found(objects):
    made = write(objects)
    text = objects.get(made.uri + "manifest.json").replace(b'"rows":3', b'"rows":4')
    objects.put(made.uri + "manifest.json", text)
    with pytest.raises(Corrupt):
        SnapshotStore(objects).read(made.uri, made.digest)
    with pytest.raises(Corrupt):
        SnapshotStore(objects).artifact("p", "raw.x", made.digest)


def test_a_table_points_at_its_newest_snapshot_and_remembers_the_others(objects):
    tables, first, second = Tables(objects), write(objects), write(objects, (1, 2, 4))
    assert tables.move("p/raw.x", "2013-01", first)[1] is True
    assert tables.move("p/raw.x", "2013-01", first)[1] is False
    pointer, moved = tables.move("p/raw.x", "2013-01", second)
    assert moved and pointer.generation == 2
    assert tables.resolve("p/raw.x", "2013-01").snapshot == second.digest
    assert [m.snapshot for m in pointer.history] == [first.digest, second.digest]
    assert SnapshotStore(objects).read(first.uri, first.digest).num_rows == 3


def test_a_snapshot_made_anew_by_another_recipe_is_a_move_though_it_is_the_same(objects):
    # Given a pointer as earlier versions wrote it, which knows no recipe
    tables, made = Tables(objects), write(objects)
    tables.move("p/features", "2013-01", made)
    key = "tables/p/features/2013-01.json"
    plain = json.loads(objects.get(key))
    for name in ("recipe", "code"):
        assert plain["history"][0].pop(name) is None
    objects.put(key, json.dumps(plain).encode())
    assert tables.recipes("p/features") == {"2013-01": None}
    # When the same bytes come of a recipe, and of another
    assert tables.move("p/features", "2013-01", made, recipe="one", code="c1")[1] is True
    assert tables.move("p/features", "2013-01", made, recipe="one", code="c2")[1] is False
    pointer, moved = tables.move("p/features", "2013-01", made, recipe="two")
    # Then each recipe is in the history once, and a mover that names none moves nothing
    assert moved and [m.recipe for m in pointer.history] == [None, "one", "two"]
    assert {m.snapshot for m in pointer.history} == {made.digest}
    assert tables.move("p/features", "2013-01", made)[1] is False
    assert tables.recipes("p/features") == {"2013-01": "two"}


def test_a_partition_that_is_not_there_is_named_with_those_that_are(objects):
    tables = Tables(objects)
    tables.move("p/raw.x", "2013-01", write(objects))
    with pytest.raises(NotFound, match="2013-01") as caught:
        tables.resolve("p/raw.x", "2013-02")
    assert "2013-02" in str(caught.value) and "features DAG" in str(caught.value)


def test_racing_movers_lose_nothing(root):
    # Given eight writers that move one pointer at once, each to its own Snapshot
    made = [write(open_store(root), (n, n, n)) for n in range(8)]
    threads = [
        threading.Thread(target=lambda m=m: Tables(open_store(root)).move("p/raw.x", "2013-01", m)) for m in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then the history has every one of them once
    pointer = Tables(open_store(root)).get("p/raw.x", "2013-01")
    assert sorted(m.snapshot for m in pointer.history) == sorted(m.digest for m in made)
    assert pointer.generation == 8
