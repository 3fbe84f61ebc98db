"""What a process was doing outlives it, and noting it costs next to nothing."""

from __future__ import annotations

import os
import signal
import time
import timeit

import pytest

from millrace.serving.slots import Predicting, Slots

ONE, OTHER = b"1" * 32, b"2" * 32


def test_a_process_that_was_killed_leaves_what_it_was_predicting():
    slots = Slots(2)
    before = time.monotonic_ns()
    if not (child := os.fork()):
        slots[1].beat()
        with slots[1].predicting(ONE, 7):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    left = slots[1].prediction()
    assert left == Predicting(ONE, 7, left.since_ns if left else 0) and before < left.since_ns < time.monotonic_ns()
    assert before < slots[1].beaten() < left.since_ns
    assert slots[0].prediction() is None and slots[0].beaten() == 0, "each has a slot of its own"
    slots[1].clear()
    assert slots[1].prediction() is None and slots[1].beaten() == 0


def test_nothing_is_predicted_after_the_call_however_it_ended():
    slot = Slots(1)[0]
    with slot.predicting(ONE):
        assert slot.prediction() is not None
    assert slot.prediction() is None
    with pytest.raises(ZeroDivisionError), slot.predicting(OTHER):
        1 / 0
    assert slot.prediction() is None


def test_noting_a_prediction_takes_about_a_microsecond():
    slot = Slots(1)[0]

    def call() -> None:
        with slot.predicting(ONE):
            pass

    taken = min(timeit.repeat(call, number=20_000, repeat=10)) / 20_000
    assert taken < 3e-6, "1 us and less on a core of one's own"
