"""Who is to blame, and what is tried again: with processes that end as they are told to."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from millrace.serving import supervision as module
from millrace.serving.slots import Slot
from millrace.serving.supervision import Ended, GaveUp, Process, Supervisor

DIGEST = b"d" * 32


def leave() -> None:
    signal.raise_signal(signal.SIGTERM)  # to this thread: others of these tests' process have not blocked it


def children() -> set[str]:
    """Ids of this process's children, those of libraries that other tests have started among them."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def serve(slot: Slot) -> None:
    while True:
        slot.beat()
        time.sleep(0.05)


def dies(number: int) -> Any:
    def run(slot: Slot) -> None:
        slot.beat()
        with slot.predicting(DIGEST, 3):
            os.kill(os.getpid(), number)

    return run


def test_a_process_that_the_kernel_killed_for_memory_is_blamed(monkeypatch):
    counter = itertools.count()
    monkeypatch.setattr(module, "_oom_kills", lambda: next(counter))
    blamed: list[tuple[Any, ...]] = []

    def blame(digest: bytes | None, how: str, ended: Ended) -> None:
        assert ended.predicting is not None
        blamed.append((digest, how, ended.name, ended.code, ended.predicting.pipeline))
        leave()

    Supervisor([Process("it", dies(signal.SIGKILL))], blame=blame).run()
    assert blamed == [(DIGEST, "crashed", "it", -signal.SIGKILL, 3)]


def test_a_vital_process_that_dies_at_once_ends_the_server_and_no_process_is_left(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE_S", 0.02)
    pids: list[int] = []

    def blame(digest: bytes | None, how: str, ended: Ended) -> None:
        pids.append(ended.pid)
        raise OSError("the store is away")  # to serve on matters more

    before = children()
    other = Process("other", serve)
    with pytest.raises(GaveUp, match="it ended 5 times in a row"):
        Supervisor([other, Process("it", dies(signal.SIGSEGV))], blame=blame).run()
    assert len(pids) == module.TRIES
    assert children() == before


def test_one_that_is_not_vital_is_always_tried_again(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE_S", 0.001)
    ended: list[int] = []
    told: list[str] = []

    def blame(digest: bytes | None, how: str, of: Ended) -> None:
        ended.append(of.pid)
        if len(ended) == module.TRIES + 2:
            leave()

    beside = Process("beside", dies(signal.SIGABRT), vital=False)
    Supervisor([Process("it", serve), beside], blame=blame, ready=lambda: told.append("ready")).run()
    assert len(ended) == len(set(ended)) == module.TRIES + 2 and told == ["ready"]


def test_signals_are_heard_as_before_when_it_has_ended():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    Supervisor([Process("it", serve)], blame=lambda *_: None, ready=leave).run()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
