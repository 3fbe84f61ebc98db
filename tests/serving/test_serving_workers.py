"""Real processes on a free port: one that dies, hangs or is asked to leave costs what it had begun, and no more."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from typing import Any

import pytest
from support.running import DIGEST, Load, Served, alive, until

from millrace.core.errors import SpecError, Unavailable
from millrace.serving.workers import Tls, Workers

OPENSSL = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
    *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
)


def test_two_workers_answer_on_one_port():
    with Served() as server:
        workers = server.children()
        assert len(workers) == 2
        answered: set[int] = set()
        until(lambda: answered.add(server.ask()) or answered == workers, 10, lambda: f"only {answered} of {workers}")


def test_a_worker_that_is_killed_takes_what_it_had_begun_and_is_replaced():
    with Served() as server, Load(server.port) as load:
        before = server.children()
        until(lambda: load.answers > 200, 10)
        killed = min(before)
        time.sleep(0.2)
        os.kill(killed, signal.SIGKILL)
        new = until(lambda: server.children() - before if len(server.children()) == 2 else None, 2).pop()
        until(lambda: server.ask() == new, 10)
        assert len(load.failed) <= 8 and {of for of, _ in load.failed} <= {killed, None}, load.failed
        failed, answers = len(load.failed), load.answers
        until(lambda: load.answers > answers + 200, 10)
        assert len(load.failed) == failed and not load.refused
    assert not [said for said in server.said if "blame" in said], "somebody sent the signal: no version is to blame"
    assert server.process.returncode == 0


def test_a_crash_is_blamed_on_the_version_that_was_predicting_and_on_none_otherwise():
    with Served() as server:
        for path in ("/segv", "/segv-elsewhere", "/killed"):
            with pytest.raises((OSError, http.client.HTTPException)):
                server.ask(path)
            assert isinstance(server.ask(), int), "the other one answers"
            until(lambda: len(server.children()) == 2, 5)
    blamed = [(said["blame"], said["how"], said["code"]) for said in server.said if "blame" in said]
    assert blamed == [(DIGEST.hex(), "crashed", -signal.SIGSEGV)]


def test_a_worker_that_hangs_is_killed_and_its_version_blamed():
    with Served(hang_s=1.0) as server:
        workers = server.children()
        asking = server.ask_in_vain("/spin")
        began = time.monotonic()
        blamed = server.hear("blame")
        assert 0.9 < time.monotonic() - began < 2.0
        assert (blamed["blame"], blamed["how"]) == (DIGEST.hex(), "hung") and blamed["pid"] in workers
        asking.join()
        until(lambda: len(server.children()) == 2 and blamed["pid"] not in server.children(), 2)


def test_a_server_that_stood_still_as_a_whole_accuses_nobody():
    with Served(hang_s=1.0) as server:
        workers = server.children()
        assert isinstance(server.ask(), int)
        os.killpg(server.process.pid, signal.SIGSTOP)
        time.sleep(1.8)
        os.killpg(server.process.pid, signal.SIGCONT)
        time.sleep(0.6)
        assert server.children() == workers


@pytest.mark.parametrize("of", ["parent", "group"])
def test_asked_to_leave_it_ends_what_was_begun(of):
    with Served() as server:
        workers = server.children()
        slow: list[int] = []
        asking = [threading.Thread(target=lambda: slow.append(server.ask("/slow"))) for _ in range(4)]
        with Load(server.port) as load:
            until(lambda: load.answers > 200, 10)
            for each in asking:
                each.start()
            time.sleep(0.2)
            (os.killpg if of == "group" else os.kill)(server.process.pid, signal.SIGTERM)
            assert server.process.wait(10) == 0
            for each in asking:
                each.join()
        assert load.failed == [] and len(slow) == 4 and set(slow) <= workers
        assert not [each for each in workers if alive(each)]
        socket.create_server(("127.0.0.1", server.port)).close()


def test_what_does_not_leave_is_killed_when_the_time_is_over():
    with Served(drain_s=1.0, hang_s=60) as server:
        asking = server.ask_in_vain("/spin")
        time.sleep(0.3)
        began = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0 and 0.9 < time.monotonic() - began < 3
        asking.join()


def test_nothing_is_left_when_the_parent_is_killed():
    with Served(shadow=True) as server:
        children = server.children()
        assert len(children) == 3
        server.process.kill()
        server.process.wait()
        until(lambda: not [each for each in children if alive(each)], 2)
        socket.create_server(("127.0.0.1", server.port)).close()


def test_what_cannot_start_ends_the_server_with_an_error():
    with Served(fails=True, pause=0.05) as server:
        assert server.process.wait(30) == 1
        assert "GaveUp: worker" in server.errors() and "nothing can be loaded" in server.errors()


def test_a_start_has_a_limit_of_its_own():
    with Served(**{"never starts": True}, workers=1, start_s=0.5, hang_s=0.1) as server:
        until(lambda: "had not started after 0.5 s" in server.errors(), 10)


def test_an_address_that_cannot_be_had_and_a_key_that_does_not_fit_are_said_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Unavailable, match="cannot listen here"):
        Workers(Any, count=1, host="127.0.0.1", port=taken.getsockname()[1], blame=Any)
    with pytest.raises(SpecError, match="none.pem"):
        tls = Tls(tmp_path / "none.pem", tmp_path / "key.pem")
        Workers(Any, count=1, host="127.0.0.1", port=0, blame=Any, tls=tls)


def test_it_speaks_tls(tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run([*OPENSSL, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with Served(tls=[str(certificate), str(key)]) as server:
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=10)
        connection.request("GET", "/")
        assert int(connection.getresponse().read()) in server.children()
        connection.close()
