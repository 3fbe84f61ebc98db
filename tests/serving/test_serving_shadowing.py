"""Whatever a shadow does, sending to it takes no time and raises nothing, and it is replaced."""

from __future__ import annotations

import os
import signal
import time

import pytest
from support.running import DIGEST, Served, until

from millrace.serving.shadowing import NICENESS, Counts, ShadowChannel, ShadowClient


def test_what_there_is_no_room_for_is_dropped_and_counted():
    channel = ShadowChannel(largest=100_000)
    client = ShadowClient(channel)
    assert not client.send(bytes(99_999), b"12") and client.dropped == 1, "larger than a frame may be"
    while client.send(b"head", bytes(50_000)):
        assert client.sent < 10_000
    assert client.sent > 0 and client.dropped == 2
    assert channel.far.recv(200_000) == b"head" + bytes(50_000), "frames keep their bounds"
    assert client.send(b"head", bytes(50_000)), "there is room again"
    channel.far.close()
    assert not client.send(b"nobody is there") and client.dropped == 3


def test_a_slow_handler_costs_frames_and_no_time_of_the_sender():
    with Served(shadow=True, slow=0.2, workers=1) as server:
        told = server.ask("/shadowed")
        assert told["sent"] + told["dropped"] == 3000 and told["dropped"] > 0 < told["sent"]
        assert told["median_us"] < 200, told
        assert server.ask("/too-large") is False
        assert not [said for said in server.said if "blame" in said]


def test_frames_are_handled_in_batches_at_the_lowest_cost_to_others():
    with Served(shadow=True, workers=1) as server:
        nicer = min(19, os.nice(0) + NICENESS)

        def nice() -> set[int]:
            return {pid for pid in server.children() if os.getpriority(os.PRIO_PROCESS, pid) == nicer}

        assert server.children() - until(nice, 5) == {server.ask()}
        server.ask("/shadowed")
        counts = until(lambda: (told := [s for s in server.said if "handled" in s]) and told[-1]["counts"], 5)
        assert counts["lost"] == 0


@pytest.mark.parametrize(
    ("frame", "how", "code"), [("segv", "crashed", signal.SIGSEGV), ("hang", "hung", signal.SIGKILL)]
)
def test_a_handler_that_breaks_is_replaced_and_blamed_and_live_traffic_sees_nothing(frame, how, code):
    with Served(shadow=True) as server:
        workers = set(server.children())
        assert server.ask(f"/frame/{frame}")
        began = time.monotonic()
        while not [said for said in server.said if "blame" in said]:
            assert isinstance(server.ask(), int) and time.monotonic() < began + 10
        blamed = server.hear("blame")
        assert (blamed["blame"], blamed["how"], blamed["code"]) == (DIGEST.hex(), how, -code)
        assert server.ask("/frame/a"), "it is sent whether or not the process is there"
        assert server.hear("handled", handled=["a"])["counts"] == vars(Counts(handled=0, in_hand=1, lost=1))
        assert len(workers & server.children()) == 2, "the workers are the same"


def test_what_waits_is_handled_before_the_shadow_leaves():
    with Served(shadow=True, slow=0.3, workers=1) as server:
        for _ in range(3):
            server.ask("/frame/a")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
    assert sum(len(said.get("handled", [])) for said in server.said) == 3
