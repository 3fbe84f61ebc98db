"""Jobs that crash, never return, are killed or asked to leave, in a child of a process that has run no engine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.learning import FAST, World, rows, spec

from millrace.contract import JobRequest, JobResult

CUSTOM = {"kind": "custom", "params": {}}
TRAINER = """import ctypes, os, signal, subprocess, sys, time
import numpy as np
def fit(train, params, settings):
    {does}
    return {{"share": np.array([train.label.mean()])}}
def predict(weights, rows, params, settings):
    return np.full(len(rows), weights["share"][0])
"""
# Locked twice by one thread, it waits for ever, in C: no handler of Python's runs any more.
STUCK = "m = ctypes.create_string_buffer(64); c = ctypes.CDLL(None); c.pthread_mutex_lock(m); c.pthread_mutex_lock(m)"
SLEEPS = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)  # {mark}']); "
DOES = {
    "well": "print('said in the job', flush=True)",
    "segfault": "ctypes.string_at(0)",
    "abort": "os.abort()",
    "illegal": "os.kill(os.getpid(), signal.SIGILL)",
    "memory": "os.kill(os.getpid(), signal.SIGKILL)",
    "exit": "os._exit(7)",
    "stuck": STUCK,
    "spinning": "while True: pass",
    # and stays a moment, so that they are seen
    "leaves children": "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)  # {mark}']); "
    "time.sleep(1)",
    "stuck with children": "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)  # {mark}']); "
    + STUCK,
}
RUN = """
import json, signal, sys, time
from millrace.contract import JobRequest
import numpy, pandas, pyarrow.parquet, safetensors.numpy, xgboost  # imported, as by the executor, and never run
import millrace.jobs.train, millrace.learners.custom, millrace.learners.xgboost
from millrace.jobs.guard import run
# As Airflow's importer of DAG files leaves it in every task.
signal.signal(signal.SIGSEGV, lambda *seen: None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests were started in the background
print("ready", flush=True)
for line in sys.stdin:
    path, fork = json.loads(line)
    began = time.monotonic()
    result = run(JobRequest.parse(open(path).read()), fork=fork)
    seconds = time.monotonic() - began
    print("RESULT", json.dumps([seconds, result.model_dump(mode="json")]), flush=True)
"""


class Parent:
    """A process that runs jobs in children, as a task does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen([sys.executable, "-c", RUN], text=True, **pipes)
        self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def begin(self, request: JobRequest, *, fork: bool = True) -> None:
        self.count += 1
        path = self.folder / f"asked-{self.count}.json"
        path.write_text(request.model_dump_json())
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(path), fork]) + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[float, JobResult, str]:
        said = ""
        while not (line := self.line()).startswith("RESULT"):
            assert line, "the parent is gone"
            said += line
        seconds, result = json.loads(line.removeprefix("RESULT"))
        return seconds, JobResult.model_validate(result), said

    def run(self, request: JobRequest, **more: Any) -> tuple[float, JobResult, str]:
        self.begin(request, **more)
        return self.end()


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Parent(tmp_path_factory.mktemp("parent"))
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., JobRequest]:
    """The request for a training whose code does one of DOES."""

    def make(does: str, seconds: int = 60) -> JobRequest:
        described = spec("regression", training={"learner": CUSTOM}, evaluation={"thresholds": {"rmse": {"max": 1}}})
        text = TRAINER.format(does=DOES[does].format(mark=tmp_path))
        limits = {"custom_code": "process", "seconds": str(seconds)}
        world = World(tmp_path / does, described, code={"trainer.py": text}, means={"limits": limits})
        return world.request("train", {"training_set": world.snapshot(rows(300, task="regression"))})

    return make


def with_mark(mark: Path) -> list[int]:
    """Processes that a job of this test started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"# {mark}" in path.read_text():
                found.append(int(path.parent.name))
        except OSError:
            pass  # it ended just now
    return found


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it never came so far"
        time.sleep(0.02)
    return found


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_job_that_goes_well_gives_its_result_and_its_words(parent: Parent, asked: Any) -> None:
    request = asked("well")
    _, result, said = parent.run(request)
    assert result.outcome is not None and result.error is None
    assert result.request_digest == request.request_digest
    assert said == "said in the job\n"
    assert result.observed.cpu_seconds and result.observed.peak_memory_mb
    # and it is in the store, where the request places it
    from millrace.store import open_store

    stored = JobResult.parse(open_store(request.place.store).get(str(request.place.result)))
    assert stored.outcome_digest == result.outcome_digest


@pytest.mark.parametrize(("does", "named", "retry"), [
    ("segfault", "SIGSEGV (Segmentation fault)", "never"),
    ("abort", "SIGABRT (Aborted)", "never"),
    ("illegal", "SIGILL (Illegal instruction)", "never"),
    ("memory", "killed (SIGKILL), most likely because the machine's memory ran out", "larger"),
    ("exit", "ended with exit code 7 and left no result", "never"),
])  # fmt: skip
def test_a_crash_ends_the_job_at_once_and_has_a_name(
    parent: Parent, asked: Any, does: str, named: str, retry: str
) -> None:
    seconds, result, _ = parent.run(asked(does))
    assert result.outcome is None and result.error is not None
    assert (result.error.type, result.error.retry) == ("Crashed", retry)
    assert named in result.error.message
    assert seconds < 15
    assert result.observed.peak_memory_mb and result.observed.seconds and result.observed.host


@pytest.mark.parametrize("does", ["stuck", "spinning"])
def test_what_takes_too_long_is_ended_also_where_no_handler_can_run(parent: Parent, asked: Any, does: str) -> None:
    seconds, result, _ = parent.run(asked(does, seconds=2))
    assert result.error is not None and (result.error.type, result.error.retry) == ("TimedOut", "never")
    assert "longer than its time limit of 2 s" in result.error.message
    assert "'time_limits' of pipeline.yaml" in result.error.message
    assert 2 <= seconds < 5
    assert children(parent.process.pid) == []


@pytest.mark.parametrize("does", ["leaves children", "stuck with children"])
def test_what_a_job_started_ends_with_it(parent: Parent, asked: Any, tmp_path: Path, does: str) -> None:
    parent.begin(asked(does, seconds=8))
    until(lambda: with_mark(tmp_path))
    parent.end()
    until(lambda: not with_mark(tmp_path), 5)


def test_who_is_asked_to_leave_asks_the_job_and_hears_of_it_afterwards(asked: Any, tmp_path: Path) -> None:
    parent = Parent(tmp_path)
    parent.begin(asked("spinning"))
    (job,) = until(lambda: children(parent.process.pid))
    until(lambda: _cpu(job) > 20)
    # Python's own handler for SIGINT ends the parent, but only when the job has gone
    parent.process.send_signal(signal.SIGINT)
    _, said = parent.process.communicate(timeout=30)
    assert "KeyboardInterrupt" in said
    assert not Path(f"/proc/{job}").exists()


def test_a_training_keeps_its_checkpoint_when_the_task_is_asked_to_leave(tmp_path: Path) -> None:
    # Given a training of XGBoost at work in the child of a task's process, which listens to SIGTERM as Airflow's does
    world = World(tmp_path, spec(training={"threads": 1}))
    learner = {**FAST, "rounds": 1200, "max_depth": 6, "segments": 12}
    request = world.request("train", {"training_set": world.snapshot(rows())}, {"learner": learner})
    heard = RUN.replace("signal.signal(signal.SIGSEGV", "signal.signal(signal.SIGTERM")
    asked = tmp_path / "asked.json"
    asked.write_text(request.model_dump_json())
    process = subprocess.Popen([sys.executable, "-c", heard], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps([str(asked), True]) + "\n")
    process.stdin.close()
    kept = tmp_path / "store" / str(request.place.checkpoint)
    until(lambda: list(kept.glob("00001*")))
    # When the task is asked to leave
    process.terminate()
    # Then the job says that the next try resumes, and what it has is kept
    *_, line = process.stdout.read().splitlines()
    result = JobResult.model_validate(json.loads(line.removeprefix("RESULT"))[1])
    assert process.wait(timeout=30) == 0
    assert result.error is not None and (result.error.type, result.error.retry) == ("Interrupted", "resume")
    assert list(kept.glob("*"))


def test_a_task_that_is_killed_leaves_no_job_behind(asked: Any, tmp_path: Path) -> None:
    parent = Parent(tmp_path)
    parent.begin(asked("stuck"))
    (job,) = until(lambda: children(parent.process.pid))
    parent.process.kill()
    parent.process.communicate()
    until(lambda: not Path(f"/proc/{job}").exists(), 5)


def test_a_fresh_interpreter_does_the_same(parent: Parent, asked: Any) -> None:
    _, result, _ = parent.run(asked("well"), fork=False)
    assert result.outcome is not None
    _, result, _ = parent.run(asked("segfault"), fork=False)
    assert result.error is not None and "SIGSEGV" in result.error.message


def _cpu(pid: int) -> int:
    """Ticks of CPU that a process has used."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
