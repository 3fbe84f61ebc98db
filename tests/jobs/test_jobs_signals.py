"""Real processes that are asked to leave or killed, at several moments: what they say, what they keep, how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.learning import World, rows, spec

from millrace.contract import JobRequest, JobResult
from millrace.core import interruption

LEARNERS = {
    "xgboost": {"kind": "xgboost", "rounds": 1200, "max_depth": 6, "segments": 12},
    "xgboost with sampling": {"kind": "xgboost", "rounds": 900, "max_depth": 6, "subsample": 0.7, "segments": 9},
    "torch_mlp": {"kind": "torch_mlp", "epochs": 48, "batch_size": 64, "dropout": 0.1, "segments": 12},
}


class Training:
    """A request to train in a store of its own, run as often as one likes."""

    def __init__(self, folder: Path, learner: dict[str, Any]) -> None:
        self.folder, self.world = folder, World(folder, spec(training={"threads": 1}))
        data = {"training_set": self.world.snapshot(rows())}
        self.request: JobRequest = self.world.request("train", data, {"learner": learner})
        self.asked, self.answer = folder / "request.json", folder / "result.json"
        self.asked.write_text(self.request.model_dump_json())
        self.checkpoints = folder / "store" / str(self.request.place.checkpoint)

    def start(self) -> subprocess.Popen[bytes]:
        self.answer.unlink(missing_ok=True)
        command = [sys.executable, "-m", "millrace.jobs", "train"]
        return subprocess.Popen([*command, "--request", str(self.asked), "--result", str(self.answer)])

    def result(self) -> JobResult:
        return JobResult.parse(self.answer.read_bytes())

    def stored(self) -> JobResult:
        return JobResult.parse(self.world.objects.get(str(self.request.place.result)))

    def states(self) -> dict[str, int]:
        """Checkpoints that are there, and when they were written."""
        found = {}
        with suppress(FileNotFoundError):  # all of them are cleared with their folder, while this looks
            for note in self.checkpoints.glob("*.json"):
                found[note.stem] = note.with_suffix(".state").stat().st_mtime_ns
        return found


def until(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it was too fast to be stopped"
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.002)


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_a_training_that_is_stopped_again_and_again_ends_as_an_undisturbed_one(tmp_path: Path, name: str) -> None:
    learner = LEARNERS[name]
    stopped, calm = Training(tmp_path / "stopped", learner), Training(tmp_path / "calm", learner)
    steps = learner.get("rounds") or learner["epochs"]

    # 1. killed when it has two checkpoints: no word, no model
    process = stopped.start()
    until(lambda: "00002" in stopped.states(), process)
    process.kill()
    process.wait()
    assert not stopped.answer.exists()
    assert not list(stopped.world.objects.list("models/"))
    before = stopped.states()

    # 2. asked to leave three segments later: it says so, in its file and in the store, and keeps what it has
    process = stopped.start()
    until(lambda: "00005" in stopped.states(), process)
    time.sleep(0.05)  # somewhere inside the next segment
    began = time.monotonic()
    process.terminate()
    assert process.wait(timeout=60) == 4
    assert time.monotonic() - began < interruption.GRACE
    left = stopped.result()
    assert left.error is not None and left == stopped.stored()
    assert (left.error.type, left.error.retry, left.outcome) == ("Interrupted", "resume", None)
    kept = int(re.findall(rf"(\d+) of {steps}", left.error.message)[0])
    assert kept >= 5 * steps // int(learner["segments"])
    # and it trained nothing that was there before
    after = stopped.states()
    assert {segment: after[segment] for segment in before} == before
    parts = [segment for segment in after if "-" in segment]
    between = kept % (steps // int(learner["segments"])) != 0 or "batches of the next" in left.error.message
    assert len(parts) == (1 if between and "sampling" not in name else 0)

    # 3. run to the end: only what is left
    process = stopped.start()
    seen: dict[str, int] = {}
    while process.poll() is None:
        seen |= stopped.states()
        time.sleep(0.002)
    assert process.returncode == 0
    assert {segment: seen[segment] for segment in after} == after
    ended = stopped.result()
    assert f"Resumed from a checkpoint: {kept} rounds or epochs are not trained again" in ended.observed.notes
    assert not list(stopped.checkpoints.glob("*"))
    assert stopped.stored().outcome == ended.outcome  # in the place of the error

    # then nobody can tell it from one that nothing happened to
    assert calm.start().wait(timeout=120) == 0
    assert calm.result().outcome_digest == ended.outcome_digest
    assert calm.result().outcome == ended.outcome


def test_a_job_may_be_asked_to_leave_at_any_moment(tmp_path: Path) -> None:
    # from its first breath to its last: 0.1 s apart, a training of about two seconds
    learner = {"kind": "xgboost", "rounds": 300, "max_depth": 6, "segments": 3}
    training = Training(tmp_path, learner)
    codes, models = [], set()
    for moment in (0.3, 0.6, 0.9, 1.2, 1.6):
        process = training.start()
        time.sleep(moment)
        process.terminate()
        codes.append(process.wait(timeout=60))
        if codes[-1] == 4:
            result = training.result()
            assert result.error is not None and result.error.retry == "resume"
        else:  # before it could listen, or after the last round
            assert codes[-1] in (-signal.SIGTERM, 0)
        # a model may be there before its result is, but never half of one, nor another
        models |= {found.key for found in training.world.objects.list("models/")}
    assert training.start().wait(timeout=60) == 0
    assert models <= {found.key for found in training.world.objects.list("models/")}
    assert len({key.rsplit("/", 1)[0] for key in models}) <= 1
    calm = Training(tmp_path / "calm", learner)
    assert calm.start().wait(timeout=60) == 0
    assert training.result().outcome_digest == calm.result().outcome_digest


def test_the_first_process_of_a_container_leaves_too(tmp_path: Path) -> None:
    """Process 1 has no default for signals: without a handler SIGTERM would do nothing."""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("a namespace for processes cannot be made here")
    training = Training(tmp_path, LEARNERS["torch_mlp"])
    job = [sys.executable, "-m", "millrace.jobs", "train", "--request", str(training.asked)]
    process = subprocess.Popen([*command, *job, "--result", str(training.answer)], start_new_session=True)
    until(lambda: "00001" in training.states(), process)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)
    assert process.wait(timeout=60) == 4
    assert training.result().error is not None


def test_an_error_never_replaces_an_outcome(tmp_path: Path) -> None:
    # given two processes with one request, of which one is done while the other is asked to leave
    training = Training(tmp_path, LEARNERS["torch_mlp"])
    process = training.start()
    until(lambda: "00001" in training.states(), process)
    process.send_signal(signal.SIGSTOP)
    outcome = JobResult(job="train", request_digest=training.request.request_digest, outcome={})  # type: ignore[arg-type]
    training.world.objects.put(str(training.request.place.result), outcome.to_json().encode())
    process.terminate()
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=60) == 4
    assert training.result().error is not None
    assert training.stored() == outcome


def test_a_job_that_is_done_is_not_killed_while_it_goes(tmp_path: Path) -> None:
    learner = {"kind": "xgboost", "rounds": 3, "max_depth": 2}
    for attempt in range(4):
        training = Training(tmp_path / str(attempt), learner)
        process = training.start()
        until(training.answer.exists, process)
        time.sleep(attempt * 0.02)
        process.terminate()
        assert process.wait(timeout=60) == 0
