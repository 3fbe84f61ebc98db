"""The prediction log: acknowledged is on disk, whatever is killed or full, and nothing half is ever read."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import wait
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.core.errors import Conflict, Corrupt, Unavailable
from millrace.serving import log as module
from millrace.serving.log import CLOSED, LARGEST, OPEN, Log, read

WRITER = """
import json, sys, threading
from pathlib import Path
from millrace.serving.log import Log

log = Log(Path(sys.argv[1]), segment_bytes=20_000)

def write(thread):
    for number in range(100_000):
        log.append(json.dumps([thread, number, "x" * (number % 200)]).encode()).result()
        sys.stdout.write(f"{thread} {number}\\n")
        sys.stdout.flush()

threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
for each in threads:
    each.start()
"""


def held(folder: Path) -> list[bytes]:
    """All records of a folder, in order."""
    return [record for path in sorted([*folder.glob(f"*{CLOSED}"), *folder.glob(f"*{OPEN}")]) for record in read(path)]


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_written_is_read_in_order_over_segments(tmp_path, durable):
    sent = [b"%d" % n * (1 + n % 50) for n in range(500)]
    with Log(tmp_path, durable=durable, segment_bytes=2000) as log:
        for start in range(0, len(sent), 50):
            wait([log.append(record) for record in sent[start : start + 50]])
        assert len(log.segments()) > 3
    assert held(tmp_path) == sent
    assert not list(tmp_path.glob(f"*{OPEN}")), "all are closed"


def test_many_threads_share_a_sync(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(module.os, "fdatasync", lambda file: (time.sleep(0.02), synced.append(file)))
    with Log(tmp_path) as log:
        threads = [threading.Thread(target=lambda: [log.append(b"r").result() for _ in range(10)]) for _ in range(16)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert len(held(tmp_path)) == 160 and len(synced) < 60


def test_acknowledged_is_there_after_kill_9(tmp_path):
    for round_ in range(3):
        told: dict[int, int] = {}
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdout is not None
        for _ in range(300 + 171 * round_):
            thread, number = map(int, process.stdout.readline().split())
            told[thread] = number
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            if line.endswith("\n"):
                thread, number = map(int, line.split())
                told[thread] = number
        process.wait()
        before = len(list(tmp_path.glob("*.segment")))
        with Log(tmp_path) as log:  # takes up what was left
            assert len(log.segments()) >= before
        records = [json.loads(record) for record in held(tmp_path)]
        assert told and all([thread, number, "x" * (number % 200)] in records for thread, number in told.items())
        numbers = [(thread, number) for thread, number, _ in records]
        assert len(numbers) == len(set(numbers)), "none twice"
        for path in tmp_path.glob("*.segment"):
            path.unlink()


def test_a_disk_that_is_full_is_said_and_nothing_half_is_kept(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with Log(tmp_path) as log:
            log.append(b"first" * 100).result()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
            refused = log.append(b"second" * 1000)
            with pytest.raises(Unavailable, match="cannot be logged: File too large.*Make room"):
                refused.result()
            log.append(b"third").result()  # there is room for so much
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            log.append(b"fourth" * 1000).result()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert held(tmp_path) == [b"first" * 100, b"third", b"fourth" * 1000]


def test_a_segment_whose_name_may_be_lost_takes_no_record(tmp_path, monkeypatch):
    sync, fails = module._sync_folder, [True]

    def once(folder: Path) -> None:
        if fails:
            raise OSError(5, fails.pop() and "Input/output error")
        sync(folder)

    with Log(tmp_path) as log:
        monkeypatch.setattr(module, "_sync_folder", once)
        with pytest.raises(Unavailable, match="Input/output error"):
            log.append(b"one").result(timeout=20)
        log.append(b"two").result(timeout=20)
    assert held(tmp_path) == [b"two"]
    assert len(log.segments()) == 1 and not list(tmp_path.glob(f"*{OPEN}"))


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6), st.data())
def test_of_a_torn_segment_the_whole_records_are_taken_and_no_other(tmp_path_factory, records, data):
    folder = tmp_path_factory.mktemp("torn")
    with Log(folder) as log:
        wait([log.append(record) for record in records])
    (path,) = folder.glob(f"*{CLOSED}")
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    torn = path.rename(path.with_suffix(OPEN))
    torn.write_bytes(whole[:cut] + data.draw(st.sampled_from([b"", b"\0" * 40, whole[:5]])))
    kept, size = 0, 0
    for record in records:
        size += 8 + len(record)
        kept += size <= cut
    Log(folder).close()
    assert held(folder)[:kept] == records[:kept]
    assert held(folder) in (records[:kept], records[: kept + 1]), "nothing that was not written"


def test_a_closed_segment_that_was_changed_is_corrupt(tmp_path):
    with Log(tmp_path) as log:
        wait([log.append(b"one"), log.append(b"two")])
    (path,) = log.segments()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="11 bytes from its beginning"):
        list(read(path))


def test_a_segment_is_closed_when_it_is_old_enough_though_nobody_writes(tmp_path):
    with Log(tmp_path, segment_seconds=0.2) as log:
        log.append(b"one").result()
        until = time.monotonic() + 20
        while not log.segments() and time.monotonic() < until:
            time.sleep(0.02)
        (path,) = log.segments()
        assert list(read(path)) == [b"one"]


def test_one_process_has_a_folder(tmp_path):
    with Log(tmp_path), pytest.raises(Conflict, match="folder of its own"):
        Log(tmp_path)
    Log(tmp_path).close()


def test_a_thread_that_dies_leaves_nobody_waiting(tmp_path, monkeypatch):
    log = Log(tmp_path)
    monkeypatch.setattr(log, "_write", lambda some: 1 / 0)
    with pytest.raises(Unavailable, match="has failed"):
        log.append(b"one").result(timeout=20)
    with pytest.raises(Unavailable, match="has ended"):
        log.append(b"two")
    log.close()


@pytest.mark.parametrize("record", [b"", b"x" * (LARGEST + 1)])
def test_a_record_of_no_size_or_too_large_is_refused(tmp_path, record):
    with Log(tmp_path) as log, pytest.raises(ValueError, match="a record has 1 to"):
        log.append(record)


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be logged"):
        Log(tmp_path / "file" / "log")


def test_a_log_that_wrote_nothing_leaves_nothing(tmp_path):
    Log(tmp_path).close()
    assert os.listdir(tmp_path) == ["lock"]
