"""A folder and a bucket behave alike: whole objects, conditional writes, clear errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from millrace.core.errors import Conflict, NotFound, StoreError, Unavailable
from millrace.store import open_store

RACER = r"""
import sys
from millrace.core.errors import Conflict
from millrace.store import open_store
store = open_store(sys.argv[1])
for turn in range(10):
    try:
        store.put_if(f"race/{turn}", sys.argv[2].encode(), None)
        print(turn)
    except Conflict:
        pass
"""


def test_what_is_put_can_be_read_listed_and_deleted(objects):
    objects.put("a/b.txt", b"one")
    objects.put("a/c.txt", b"two")
    objects.put("b.txt", b"three")
    assert objects.get("a/b.txt") == b"one"
    assert [o.key for o in objects.list("a/")] == ["a/b.txt", "a/c.txt"]
    assert objects.fetch("a/c.txt").read_bytes() == b"two"
    objects.delete("a/b.txt")
    objects.delete("a/b.txt")
    assert not objects.exists("a/b.txt") and objects.exists("a/c.txt")


def test_a_missing_object_is_named(objects):
    for read in (objects.get, objects.get_versioned, objects.fetch):
        with pytest.raises(NotFound, match="no/such"):
            read("no/such")


def test_fetch_after_a_change_gives_the_new_bytes(objects):
    objects.put("x", b"old")
    assert objects.fetch("x").read_bytes() == b"old"
    objects.put("x", b"new")
    assert objects.fetch("x").read_bytes() == b"new"


def test_a_file_is_stored_whole(objects, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"0123456789" * 200_000)
    objects.put_file("big", path)
    assert objects.fetch("big").read_bytes() == path.read_bytes()


def test_compare_and_set(objects):
    objects.put_if("p", b"1", None)
    with pytest.raises(Conflict):
        objects.put_if("p", b"2", None)
    _, version = objects.get_versioned("p")
    objects.put_if("p", b"2", version)
    with pytest.raises(Conflict):
        objects.put_if("p", b"3", version)
    assert objects.get("p") == b"2"


def test_racing_processes_have_one_winner_each_round(root):
    # Given six processes that write the same ten new keys at once
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, root, str(n)], stdout=subprocess.PIPE, text=True)
        for n in range(6)
    ]
    won = [turn for racer in racers for turn in racer.communicate(timeout=60)[0].split()]
    # Then each key was won once, and holds its winner's bytes
    assert sorted(won, key=int) == [str(n) for n in range(10)]
    assert {open_store(root).get(f"race/{turn}") for turn in range(10)} <= {str(n).encode() for n in range(6)}


@pytest.mark.parametrize("key", ["", "/abs", "../up", "a//b", "a/../b", ".tmp-x"])
def test_a_key_cannot_leave_the_store(objects, key):
    with pytest.raises(StoreError):
        objects.put(key, b"x")


def test_an_unknown_kind_of_store_is_refused():
    with pytest.raises(StoreError, match="s3://bucket/prefix"):
        open_store("gs://bucket")


def test_an_s3_server_that_is_away_is_unavailable(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(Unavailable):
        open_store("s3://bucket/x").get("k")


def test_a_store_that_is_no_folder_is_not_empty_and_one_that_is_not_there_yet_is(tmp_path):
    assert list(open_store(tmp_path / "store").list()) == []
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(NotADirectoryError):
        list(open_store(tmp_path / "store").list("plans/"))


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StoreError):
        open_store(tmp_path / "store").put("a/b", b"x")
