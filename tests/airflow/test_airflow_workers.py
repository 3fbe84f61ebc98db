"""Workers of the executor that die: whatever they were at, the others go on, and what they had is told as failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the executor forks its workers")

SCRIPT = r"""
import json, os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from airflow.executors.base_executor import BaseExecutor
from millrace.airflow.runtime.executor import WarmLocalExecutor

@dataclass
class Work:
    key: str
    seconds: float = 0
    display_name = "some work"
    running_state, success_state, failure_state = None, "success", "failed"

def run(work, **given):
    # as Airflow's: the task is a fork of the worker, which waits for it
    task = os.fork()
    if not task:
        Path(f"{work.key}.pid").write_text(str(os.getpid()))
        time.sleep(work.seconds)
        os._exit(0)
    os.waitpid(task, 0)

BaseExecutor.run_workload = staticmethod(run)
executor = WarmLocalExecutor(parallelism=3)
executor.start()

def do(*works, kill=lambda: None):
    executor.running.update(each.key for each in works)
    executor._process_workloads(works)
    kill()
    until = time.monotonic() + 20
    while len(executor.event_buffer) < len(works) and time.monotonic() < until:
        executor.sync()
        time.sleep(0.01)
    ended = {key: list(said) for key, said in executor.event_buffer.items()}
    executor.event_buffer.clear()
    return ended

def at_work(key):
    while not (Path(f"{key}.pid").is_file() and Path(f"{key}.pid").read_text()):
        time.sleep(0.01)
    return int(Path(f"{key}.pid").read_text())

def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
"""


def ran(folder: Path, script: str) -> dict:
    """What a scheduler's process says at its end."""
    env = {**os.environ, "AIRFLOW_HOME": str(folder), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
           "MILLRACE_WARM_MODULES": ""}  # fmt: skip
    command = [sys.executable, "-c", SCRIPT + script]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_workers_that_are_killed_while_they_wait_hold_up_nobody(tmp_path):
    seen = ran(tmp_path, r"""
before = set(executor.workers)
for number, pid in enumerate(sorted(before)):  # one after another: the one that held a lock would be among them
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    last = do(*(Work(f"{number}-{n}") for n in range(6)))
    assert last == {f"{number}-{n}": ["success", None] for n in range(6)}, last
print(json.dumps({"new": len(set(executor.workers) - before), "running": len(executor.running)}))
executor.end()
""")  # fmt: skip
    assert seen == {"new": 3, "running": 0}


def test_a_worker_that_is_killed_at_work_costs_its_task_and_no_slot(tmp_path):
    seen = ran(tmp_path, r"""
tasks = []
def kill():
    pid = at_work("long")
    tasks.append(pid)
    worker = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
began = time.monotonic()
ended = do(Work("long", 100), Work("short"), kill=kill)
took = time.monotonic() - began
while alive(tasks[0]) and time.monotonic() < began + 10:
    time.sleep(0.01)
after = [do(*(Work(f"{r}-{n}") for n in range(3))) for r in range(2)]
print(json.dumps({"ended": ended, "took": took, "task": alive(tasks[0]), "after": after,
                  "running": len(executor.running), "workers": len(executor.workers)}))
executor.end()
""")  # fmt: skip
    state, why = seen["ended"]["long"]
    assert state == "failed" and "has died (exit code -9)" in why
    assert seen["ended"]["short"] == ["success", None]
    assert seen["took"] < 20 and not seen["task"], "its task's process goes with it"
    assert [set(states for states, _ in each.values()) for each in seen["after"]] == [{"success"}] * 2
    assert (seen["running"], seen["workers"]) == (0, 3)


def test_more_work_than_workers_waits_its_turn_and_is_done_before_the_end(tmp_path):
    seen = ran(tmp_path, r"""
first = do(*(Work(f"w{n}", 0.05) for n in range(20)))
executor.running.update(["x", "y"])
executor._process_workloads([Work("x", 0.3), Work("y", 0.3)])
executor.end()
print(json.dumps({"first": first, "last": dict(executor.event_buffer), "workers": len(executor.workers)}))
""")  # fmt: skip
    assert seen["first"] == {f"w{n}": ["success", None] for n in range(20)}
    assert seen["last"] == {"x": ["success", None], "y": ["success", None]} and seen["workers"] == 0


def test_workers_end_by_themselves_when_their_scheduler_is_killed(tmp_path):
    seen = ran(tmp_path, r"""
scheduler = os.fork()
if not scheduler:
    executor = WarmLocalExecutor(parallelism=3)
    executor.start()
    executor._process_workloads([Work("long", 0.5)])
    at_work("long")
    Path("workers.json").write_text(json.dumps(sorted(executor.workers)))
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(scheduler, 0)
workers, until = json.loads(Path("workers.json").read_text()), time.monotonic() + 20
while any(alive(pid) for pid in workers) and time.monotonic() < until:
    time.sleep(0.05)
print(json.dumps({"workers": len(workers), "left": [pid for pid in workers if alive(pid)]}))
executor.end()
""")  # fmt: skip
    assert seen == {"workers": 3, "left": []}
