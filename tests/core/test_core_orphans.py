"""A child ends with whoever forked it, also where he was killed, and where he was gone before it could say so."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from millrace.core import orphans

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")


@pytest.mark.parametrize("late", [False, True])
def test_a_child_ends_with_its_parent(late):
    reading, writing = os.pipe()
    if not (parent := os.fork()):
        own = os.getpid()
        if not os.fork():
            if late:
                while os.getppid() == own:
                    time.sleep(0.01)
            orphans.end_with(own)
            os.write(writing, b"lives")
            time.sleep(60)
            os._exit(0)
        time.sleep(0 if late else 60)
        os._exit(0)
    os.close(writing)
    if not late:
        assert os.read(reading, 10) == b"lives"
        os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert os.read(reading, 10) == b"", "its end of the pipe was closed: it is gone"
    os.close(reading)
