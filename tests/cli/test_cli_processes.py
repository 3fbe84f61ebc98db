"""Processes that outlive their command: the record of them, the lock around it, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millrace.core.errors import MillraceError
from millrace.local import record
from millrace.local.processes import Process, start, stop
from millrace.local.record import Running

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="what came of a process is seen in /proc")

# As LocalExecutor's: a worker, its task in a process group of its own that ignores SIGTERM, and one that left the
# session. The scheduler ends at SIGTERM and leaves them.
SCHEDULER = """
import os, signal, subprocess, sys, time
sleep = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(90)"]
made = [subprocess.Popen(sleep, process_group=0).pid, subprocess.Popen(sleep, start_new_session=True).pid]
open("made", "w").write(" ".join(map(str, made)))
time.sleep(90)
"""
UP = """
import sys
from functools import partial
from pathlib import Path
from millrace.local import record
from millrace.local.processes import start
from millrace.local.record import Running
home = Path(sys.argv[1])
with record.locked(home):
    running = record.read(home)
    if running is None or not running.alive():
        running = Running("", "", "", "")
        for name in ("scheduler", "api-server"):
            process = start(name, ["sleep", "90"], {"PATH": "/usr/bin:/bin"}, home,
                            lambda p: record.write(home, running.with_(p)))
            running = running.with_(process)
            if len(sys.argv) > 2:
                import os, signal
                os.kill(os.getpid(), signal.SIGKILL)
print(*[p.pid for p in running.processes])
"""


@pytest.fixture
def home(tmp_path: Path) -> Any:
    (tmp_path / "logs").mkdir()
    yield tmp_path
    if (running := record.read(tmp_path)) is not None:
        stop(running.processes)


def begin(home: Path, name: str, *command: str) -> Process:
    running = record.read(home) or Running("", "", "", "")
    return start(name, list(command), dict(os.environ), home, lambda p: record.write(home, running.with_(p)))


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it never came so far"
        time.sleep(0.02)
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def in_record(home: Path) -> list[str]:
    running = record.read(home)
    return [p.name for p in running.processes] if running else []


def made(home: Path) -> list[int]:
    return [int(p) for p in until(lambda: (home / "made").is_file() and (home / "made").read_text()).split()]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    from millrace.local import processes

    monkeypatch.setattr(processes, "STOP_LIMIT_S", 2)
    monkeypatch.setattr(processes, "LEAVE_LIMIT_S", 0.5)


def test_tasks_end_with_their_scheduler_whatever_group_and_session_they_are_in(home: Path, impatient: None) -> None:
    scheduler = begin(home, "scheduler", sys.executable, "-c", SCHEDULER)
    tasks = made(home)
    assert all(map(lives, tasks))
    assert stop([scheduler]) == (["scheduler"], [])
    assert [pid for pid in (scheduler.pid, *tasks) if lives(pid)] == []


def test_what_a_killed_scheduler_left_is_ended_too(home: Path, impatient: None) -> None:
    scheduler = begin(home, "scheduler", sys.executable, "-c", SCHEDULER)
    (task, _) = made(home)
    os.kill(scheduler.pid, signal.SIGKILL)
    until(lambda: not scheduler.alive)
    assert lives(task)
    assert stop([scheduler]) == (["scheduler"], [])
    assert not lives(task)


def test_a_later_process_of_the_same_id_is_left_alone(home: Path) -> None:
    process = begin(home, "scheduler", "sleep", "90")
    earlier = Process("scheduler", process.pid, "1")
    assert not earlier.alive
    assert stop([earlier]) == ([], [])
    assert process.alive


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's process")
def test_what_cannot_be_ended_is_named(home: Path) -> None:
    # Given a process of root, and somebody else who would end it
    process = begin(home, "scheduler", "sleep", "90")
    code = (
        "import os, sys; from millrace.local import processes; from millrace.local.processes import *\n"
        "processes.STOP_LIMIT_S = processes.LEAVE_LIMIT_S = 0.3\n"
        f"os.setuid(65534); print(stop([Process('scheduler', {process.pid}, '{process.born}')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str((["scheduler"], [f"scheduler ({process.pid})"])), done.stderr
    assert process.alive


def test_down_says_what_it_could_not_end_and_keeps_it_on_record(
    home: Path, millrace: Any, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millrace.local import stack

    monkeypatch.setenv("MILLRACE_HOME", str(home))
    begin(home, "scheduler", "sleep", "90")
    monkeypatch.setattr(stack, "stop", lambda processes: (["scheduler"], ["scheduler (4711)"]))
    said = millrace("down")
    assert said.code == 1 and "stopped" not in said.out
    assert "could not end scheduler (4711)" in said.err and "run 'millrace down' again" in said.err
    assert in_record(home) == ["scheduler"]
    # and the next one, when it can, forgets it
    monkeypatch.undo()
    monkeypatch.setenv("MILLRACE_HOME", str(home))
    monkeypatch.chdir(shop)
    assert millrace("down").out == "stopped\n"
    assert in_record(home) == []
    assert millrace("down").out == "nothing was running\n"


def test_two_at_once_start_one(home: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", UP, str(home)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    seen = [process.communicate(timeout=60) for process in both]
    assert seen[0][0] == seen[1][0] and len(seen[0][0].split()) == 2, seen
    assert in_record(home) == ["scheduler", "api-server"]


def test_a_command_that_is_killed_leaves_a_record_from_which_all_can_be_ended(home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", UP, str(home), "die"], timeout=60)
    assert done.returncode == -signal.SIGKILL
    (process,) = record.read(home).processes  # type: ignore[union-attr]
    assert process.name == "scheduler" and process.alive
    assert stop([process]) == (["scheduler"], [])


def test_a_process_that_is_on_no_record_does_nothing(home: Path) -> None:
    def dies(process: Process) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start("scheduler", ["touch", str(home / "ran")], dict(os.environ), home, dies)
    time.sleep(0.5)
    assert not (home / "ran").exists()


def test_a_record_that_cannot_be_read_is_said(home: Path) -> None:
    (home / record.FILE).write_text('{"processes": [')
    with pytest.raises(MillraceError, match="record of what runs cannot be read"):
        record.read(home)
    (home / record.FILE).unlink()


def test_who_waits_for_the_lock_says_so(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(record, "PATIENCE_S", 0.1)
    with record.locked(home), pytest.raises(MillraceError, match="at work for too long"), record.locked(home):
        pass
    assert "waiting for another 'millrace up' or 'millrace down'" in capsys.readouterr().err
