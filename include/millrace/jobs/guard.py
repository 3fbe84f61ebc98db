"""Run one job in a process of its own, so that its crash has a name and its time an end.

Native code (Arrow, DuckDB, XGBoost) may crash or never return, and no handler of Python's runs while it does. The
process that waits here runs no engine: it can always kill. The job's process is a fork of it where that is safe
(Linux): what was imported ahead is there at once.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from millrace.contract import JobError, JobRequest, JobResult, Observed
from millrace.core import interruption, orphans
from millrace.core.errors import Crashed, MillraceError, TimedOut
from millrace.jobs import runner

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
LEAVE = (signal.SIGTERM, signal.SIGINT)
_LOOK_S = 1.0  # seconds between two looks at the clock
_SETTLE_S = 2.0  # seconds that processes which a job left behind get to end by themselves


def run(request: JobRequest, *, fork: bool = sys.platform == "linux") -> JobResult:
    """As `runner.run`; a crash, and the end of `request.means.time_limit`, are errors of the result.

    Asked to leave (SIGTERM, SIGINT), it asks the job, waits for its result, and is then asked itself. The job's process
    does not outlive this one. Without `fork` it is a fresh interpreter, which imports everything anew.
    """
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="millrace-job-", ignore_cleanup_errors=True) as folder:
        answer = Path(folder) / "result.json"
        pid = _fork(request, answer) if fork else _spawn(request, answer)
        with suppress(OSError):  # both sides do it: whoever comes first, the group is there for the other
            os.setpgid(pid, pid)
        status, used, why = _wait(pid, request.means.time_limit)
        if answer.is_file():  # written whole and renamed: an end after that takes nothing away
            return JobResult.parse(answer.read_bytes())
    return JobResult(
        job=request.identity.job,
        request_digest=request.request_digest,
        error=why or _why(os.waitstatus_to_exitcode(status)),
        observed=Observed(
            started=started,
            seconds=round(time.monotonic() - began, 3),
            cpu_seconds=round(used.ru_utime + used.ru_stime, 3),
            peak_memory_mb=round(used.ru_maxrss / 1024, 1),
            host="/".join(filter(None, (os.environ.get("MILLRACE_NODE"), socket.gethostname()))),
        ),
    )


def main() -> NoReturn:
    """In a fresh interpreter: the job of the request in one file, its result into the other."""
    request, answer, parent = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    _work(JobRequest.parse(request.read_bytes()), answer, parent)


def _fork(request: JobRequest, answer: Path) -> int:
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):  # or both processes would write what waits in it
        with suppress(OSError, ValueError):
            stream.flush()
    return os.fork() or _work(request, answer, parent)


def _spawn(request: JobRequest, answer: Path) -> int:
    asked = answer.with_name("request.json")
    asked.write_text(request.model_dump_json(), encoding="utf-8")
    code = "from millrace.jobs.guard import main; main()"
    command = [sys.executable, "-c", code, str(asked), str(answer), str(os.getpid())]
    return os.posix_spawn(sys.executable, command, os.environ)


def _work(request: JobRequest, answer: Path, parent: int) -> NoReturn:
    """The job's process, from its first step to its end."""
    code = 1
    try:
        _settle(parent)
        try:
            result = runner.run(request)
            for number in LEAVE:
                signal.signal(number, signal.SIG_IGN)
        except interruption.Left:
            result = JobResult(job=request.identity.job, request_digest=request.request_digest, error=runner.left())
        temporary = answer.with_suffix(".tmp")
        temporary.write_text(result.to_json(), encoding="utf-8")
        temporary.rename(answer)
        atexit._run_exitfuncs()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)  # what was made before the fork is the parent's to close


def _settle(parent: int) -> None:
    """A group of its own, an end with its parent's, crashes that end it and show their stack, an ear for SIGTERM."""
    with suppress(OSError):
        os.setpgid(0, 0)
    orphans.end_with(parent)
    # Airflow handles SIGSEGV while it reads DAG files, and returns: the crash would come again and again.
    for crash in CRASHES:
        signal.signal(crash, signal.SIG_DFL)
    faulthandler.enable(file=2)
    for number in LEAVE:
        signal.signal(number, lambda number, frame: interruption.ask())
    atexit._clear()
    gc.freeze()  # what is shared with the parent is not looked through, and so not copied


def _wait(pid: int, limit: int | None) -> tuple[int, Any, JobError | None]:
    """Wait status and use of the job's process, and why it was killed here. Nothing of its group is left afterwards."""
    ends = float("inf") if limit is None else time.monotonic() + limit
    why: JobError | None = None
    status = -1
    with _passing_on(pid) as asked:
        try:
            while True:
                done, status, used = os.wait4(pid, os.WNOHANG)
                if done:
                    return status, used, why
                now = time.monotonic()
                if why is None and now > ends:
                    why = _error(_too_late(limit))
                elif why is None and asked and now > asked[0][1] + interruption.GRACE:
                    why = runner.left()
                if why is not None:
                    _kill(pid, signal.SIGKILL)
                _sleep(pid, min(_LOOK_S, max(0.01, ends - now)))
        finally:
            _clear(pid, gently=status == 0)


def _sleep(pid: int, seconds: float) -> None:
    """Until the process ends, but no longer than this."""
    if not hasattr(os, "pidfd_open"):
        time.sleep(min(seconds, 0.02))
        return
    watch = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        poll.poll(seconds * 1000)
    finally:
        os.close(watch)


@contextmanager
def _passing_on(pid: int) -> Iterator[list[tuple[int, float]]]:
    """Inside, requests to leave go to the job; afterwards to whoever listened here before. Yields what came, when."""
    asked: list[tuple[int, float]] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def hear(number: int, frame: Any) -> None:
        asked.append((number, time.monotonic()))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    before = {number: signal.signal(number, hear) for number in LEAVE}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came in dict.fromkeys(number for number, _ in asked):
            os.kill(os.getpid(), came)


def _clear(pid: int, *, gently: bool) -> None:
    """End the process where it is still there, and what it started and left behind."""
    with suppress(ChildProcessError):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            _kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    until = time.monotonic() + (_SETTLE_S if gently and _kill(pid, signal.SIGTERM) else 0)
    while _kill(pid, 0) and time.monotonic() < until:
        time.sleep(0.02)
    _kill(pid, signal.SIGKILL)


def _kill(group: int, number: int) -> bool:
    """Send a signal to a process group; whether there is one."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _too_late(limit: int | None) -> TimedOut:
    return TimedOut(
        f"the job ran longer than its time limit of {limit} s and was ended (SIGKILL)",
        next_step="Find in its log what held it up, or give it more time (the key 'time_limits' of pipeline.yaml)",
    )


def _why(code: int) -> JobError:
    """The error of a job whose process ended without a result."""
    if -code in LEAVE:  # before it could listen
        return runner.left()
    if code >= 0:
        return _error(Crashed(f"the job's process ended with exit code {code} and left no result"))
    if -code == signal.SIGKILL:
        said = "the job's process was killed (SIGKILL), most likely because the machine's memory ran out"
        todo = "Run fewer tasks at once (the pool millrace_compute), or the job in a pod (the key 'compute')"
        return _error(Crashed(said, next_step=todo)).model_copy(update={"retry": "larger"})
    named = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    said = f"native code crashed: the job's process ended by {named} ({signal.strsignal(-code)})"
    return _error(Crashed(said, next_step="Its stack stands in the task's log; another try would end the same"))


def _error(err: MillraceError) -> JobError:
    return JobError(type=type(err).__name__, message=str(err), retry=err.retry)
