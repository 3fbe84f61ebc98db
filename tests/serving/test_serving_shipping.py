"""Shipping: every record comes into the store once and for all, whoever is killed, away or broken meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import wait
from pathlib import Path

import pytest

from millrace.core.errors import Unavailable
from millrace.serving.log import CLOSED, OPEN, Log
from millrace.serving.shipping import BROKEN, Shipped, ship
from millrace.store import open_store
from millrace.store.served import unpack

AT = 1_700_000_000_000_000
HOUR = 3_600_000_000
SHIPPER = """
import sys
from pathlib import Path
from millrace.serving.shipping import ship
from millrace.store import open_store

print("ready", flush=True)
while True:
    ship(Path(sys.argv[1]), open_store(sys.argv[2]), "s1", left_for=0)
"""


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    return open_store(f"s3://{request.getfixturevalue('bucket')}/prefix")


def record(number: int, pipeline: str = "shop", at: int = AT) -> bytes:
    return json.dumps({"id": f"r{number}", "at": at + number, "pipeline": pipeline, "predictions": [0.5]}).encode()


def write(folder: Path, records: list[bytes], **log) -> None:
    with Log(folder, durable=False, **log) as opened:
        wait([opened.append(each) for each in records])


def shipped(objects) -> list[bytes]:
    return [line for found in objects.list("served/") for line in unpack(objects.get(found.key), found.key)]


def test_records_come_by_pipeline_and_hour_and_the_segment_goes(objects, tmp_path):
    sent = [record(1), record(2, "other"), record(3, at=AT + HOUR), record(4)]
    write(tmp_path / "log" / "w1", sent)
    assert ship(tmp_path / "log", objects, "s1") == Shipped(segments=1, records=4)
    keys = [found.key for found in objects.list("served/")]
    assert [key.rpartition("/")[0] for key in keys] == [
        "served/other/2023-11-14/22/s1", "served/shop/2023-11-14/22/s1", "served/shop/2023-11-14/23/s1",
    ]  # fmt: skip
    assert all(key.rpartition("/")[2].startswith("w1-20") and key.endswith(".jsonl.gz") for key in keys)
    assert sorted(shipped(objects)) == sorted(sent)
    assert not list((tmp_path / "log").rglob(f"*{CLOSED}"))
    assert ship(tmp_path / "log", objects, "s1") == Shipped()


def test_shipped_again_changes_nothing(objects, tmp_path, monkeypatch):
    write(tmp_path / "w1", [record(n) for n in range(5)])
    (segment,) = (tmp_path / "w1").glob(f"*{CLOSED}")
    data = segment.read_bytes()
    ship(tmp_path, objects, "s1")
    before = {found.key: objects.get_versioned(found.key) for found in objects.list("served/")}
    segment.write_bytes(data)  # as if it had been killed before
    assert ship(tmp_path, objects, "s1").segments == 1 and not segment.exists()
    assert {found.key: objects.get_versioned(found.key) for found in objects.list("served/")} == before


def test_a_store_that_is_away_keeps_segments_and_says_so(tmp_path, monkeypatch):
    objects = open_store(str(tmp_path / "store"))
    for start in range(0, 50, 10):
        write(tmp_path / "log", [record(n) for n in range(start, start + 10)])
    count = len(list((tmp_path / "log").glob(f"*{CLOSED}")))
    put, calls = objects.put_if, []

    def away(key, data, version):
        calls.append(key)
        if len(calls) > 2:
            raise Unavailable("the S3 server cannot be reached")
        put(key, data, version)

    monkeypatch.setattr(objects, "put_if", away)
    said = ship(tmp_path / "log", objects, "s1")
    assert said.segments == 2 and said.waiting == count - 2 and "cannot be reached" in said.away
    monkeypatch.setattr(objects, "put_if", put)
    assert ship(tmp_path / "log", objects, "s1").segments == count - 2
    assert sorted(shipped(objects)) == sorted(record(n) for n in range(50))


def test_what_did_not_arrive_keeps_its_segment(tmp_path, monkeypatch):
    objects = open_store(str(tmp_path / "store"))
    write(tmp_path / "log", [record(1)])
    monkeypatch.setattr(objects, "put_if", lambda key, data, version: None)  # says yes and keeps nothing
    assert ship(tmp_path / "log", objects, "s1").waiting == 1


@pytest.mark.parametrize("harm", ["torn", "flipped", "no json", "no pipeline", "no time", "other pipeline's key"])
def test_a_broken_segment_is_set_aside_and_its_good_records_are_shipped(objects, tmp_path, harm, caplog):
    bad = {
        "no json": b"{nonsense", "no pipeline": b'{"at": 1}', "no time": b'{"pipeline": "shop", "at": 1e300}',
        "other pipeline's key": b'{"pipeline": "../shop", "at": 1}',
    }.get(harm, record(2))  # fmt: skip
    write(tmp_path / "w1", [record(1), bad])
    (segment,) = (tmp_path / "w1").glob(f"*{CLOSED}")
    data = segment.read_bytes()
    if harm == "torn":
        segment.write_bytes(data[:-3])
    if harm == "flipped":
        segment.write_bytes(data[:-3] + b"\0" + data[-2:])
    before = segment.read_bytes()
    said = ship(tmp_path, objects, "s1")
    assert said.set_aside == (segment.with_suffix(BROKEN),) and said.records == 1 and said.waiting == 0
    assert said.set_aside[0].read_bytes() == before and "broken" in caplog.text
    assert shipped(objects) == [record(1)]
    assert ship(tmp_path, objects, "s1") == Shipped(), "it is not tried again"


def test_an_object_that_holds_something_else_is_never_replaced(tmp_path):
    objects = open_store(str(tmp_path / "store"))
    write(tmp_path / "w1", [record(1)])
    (segment,) = (tmp_path / "w1").glob(f"*{CLOSED}")
    key = f"served/shop/2023-11-14/22/s1/w1-{segment.stem}.jsonl.gz"
    objects.put(key, b"something else")
    assert len(ship(tmp_path, objects, "s1").set_aside) == 1 and objects.get(key) == b"something else"


def test_what_a_dead_worker_left_open_is_shipped_and_a_living_ones_is_not(objects, tmp_path):
    write(tmp_path / "dead", [record(1)])
    (segment,) = (tmp_path / "dead").glob(f"*{CLOSED}")
    torn = segment.rename(segment.with_suffix(OPEN))
    with torn.open("ab") as file:
        file.write(b"half a rec")
    with Log(tmp_path / "alive") as log:
        log.append(record(2)).result()
        assert ship(tmp_path, objects, "s1", left_for=3600) == Shipped(), "it may have died just now"
        assert ship(tmp_path, objects, "s1", left_for=0).records == 1
        assert shipped(objects) == [record(1)]
        log.append(record(3)).result()
    assert ship(tmp_path, objects, "s1").records == 2


def test_a_name_that_is_no_part_of_a_key_is_refused(tmp_path):
    for name in ("", "../up", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="server's name"):
            ship(tmp_path, open_store(str(tmp_path / "store")), name)


def test_a_pretty_record_is_one_line(tmp_path):
    objects = open_store(str(tmp_path / "store"))
    said = {"pipeline": "shop", "at": AT, "id": "a\nb"}
    write(tmp_path / "w1", [json.dumps(said, indent=1).encode()])
    ship(tmp_path, objects, "s1")
    (line,) = shipped(objects)
    assert json.loads(line) == said


def test_killed_anywhere_every_record_is_there_and_none_twice(tmp_path):
    """Given a shipper that is killed again and again, and a second one beside it, then all arrives once."""
    store, folder, chance = str(tmp_path / "store"), tmp_path / "log", random.Random(7)
    sent: list[bytes] = []
    with Log(folder / "w1", durable=False, segment_bytes=3000) as log:
        for round_ in range(12):
            some = [record(10_000 * round_ + n, pipeline=("shop", "other")[n % 2]) for n in range(600)]
            wait([log.append(each) for each in some])
            sent += some
            command = [sys.executable, "-c", SHIPPER, str(folder), store]
            processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(1 + round_ % 2)]
            for process in processes:
                assert process.stdout is not None and process.stdout.readline()
            time.sleep(chance.random() * 0.08)
            for process in processes:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                process.stdout.close()
    objects = open_store(store)
    before = len(shipped(objects))
    assert ship(folder, objects, "s1", left_for=0).waiting == 0
    assert sorted(shipped(objects)) == sorted(sent) and before < len(sent), "killed while it had work"


def test_killed_at_every_call_of_the_store(tmp_path, monkeypatch):
    """Given a shipper that dies before or after the n-th call, for every n, then the next one ends the work."""

    class Killed(BaseException):
        pass

    sent = [record(n, pipeline=("shop", "other")[n % 2]) for n in range(6)]
    for number in range(12):
        objects, folder = open_store(str(tmp_path / f"store{number}")), tmp_path / f"log{number}"
        write(folder, sent[:3])
        write(folder, sent[3:])
        left = [number]

        def dying(call, left=left):
            def called(*given):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                found = call(*given)
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return found

            return called

        with monkeypatch.context() as patched:
            for name in ("put_if", "get"):
                patched.setattr(objects, name, dying(getattr(objects, name)))
            try:
                ship(folder, objects, "s1")
            except Killed:
                pass
        ship(folder, objects, "s1")
        assert sorted(shipped(objects)) == sorted(sent) and not list(folder.glob(f"*{CLOSED}"))
