"""Run a JobRequest from a task, and turn its result into what Airflow understands."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException

from millrace.airflow.runtime.decided import keep
from millrace.airflow.runtime.retry import InfrastructureError, may_retry
from millrace.airflow.runtime.site import Site
from millrace.contract import Artifact, JobRequest, JobResult, Outcome
from millrace.spec.compute import PROCESS

log = logging.getLogger(__name__)
# Nothing calls home, and waiting threads do not spin: read by the libraries when they are imported.
VARIABLES = {
    "OMP_WAIT_POLICY": "passive",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "FEAST_USAGE": "False",
    "GX_ANALYTICS_ENABLED": "false",
}


@dataclass(frozen=True)
class Done:
    """A job that ended with an outcome, and what was asked of it."""

    request: JobRequest
    outcome: Outcome
    result: JobResult


class JobTask:
    """A task of one job, wherever that runs: `ask` makes its request (None where there is nothing to do), `take` turns
    what came of it (None where nothing was asked) into the task's value.

    Two functions of the same arguments: between them may lie hours, another process, and another champion. So `take`
    knows what was asked from the request alone.
    """

    def __init__(self, ask: Callable[..., JobRequest | None]) -> None:
        self.ask = ask

    def then(self, take: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate the function that takes `Done | None` before the task's arguments."""
        self.take = take
        return take

    def taken(self, done: Done | None, *, root: str, pipeline: str, **arguments: Any) -> Any:
        """Put on record what came of the job, then turn it into the task's value."""
        if done is not None:
            keep(Site.at(root, pipeline), done.request, done.result)
        return self.take(done, root=root, pipeline=pipeline, **arguments)


def crashes_end_it() -> None:
    """Let a crash of native code end this process. Airflow handles SIGSEGV while it reads DAG files, and its handler
    returns: the crash would come again and again."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)


def step(function: Callable[..., Any], **arguments: Any) -> Callable[..., Any]:
    """A task of a plain function; `arguments` are the operator's (task_id, pool, outlets, trigger_rule ...)."""

    @wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        crashes_end_it()
        return function(*given, **named)

    decorated: Callable[..., Any] = task(**arguments)(call)
    return decorated


def in_process(work: JobTask) -> Callable[..., Any]:
    """The task that runs its job in its own process."""

    @wraps(work.ask)
    def call(**arguments: Any) -> Any:
        request = work.ask(**arguments)
        if request is None:
            return work.taken(None, **arguments)
        outcome, result = outcome_of(request)
        return work.taken(Done(request, outcome, result), **arguments)

    return call


def run_job(request: JobRequest) -> JobResult:
    """Run a job in a child of this process and return its result, whatever it is.

    The job is found by name. It is told that it is in the task's process, whatever profile the
    request names: what may run in pods only refuses by that.
    """
    request = request.model_copy(update={"means": request.means.model_copy(update={"profile": PROCESS})})
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    from millrace.jobs import guard  # with the engines, which parsing a DAG must not import

    result = guard.run(request)
    report(request, result)
    return result


def outcome_of(request: JobRequest) -> tuple[Outcome, JobResult]:
    """Run a job and return its outcome. Raises InfrastructureError to be retried, AirflowFailException for good."""
    result = run_job(request)
    return settled(request, result)


def settled(request: JobRequest, result: JobResult) -> tuple[Outcome, JobResult]:
    """A result's outcome; its error as the exception that says whether Airflow tries again."""
    if result.error is not None:
        message = f"{request.identity.job} failed: {result.error.message}"
        if may_retry(result.error.retry):
            raise InfrastructureError(message)
        raise AirflowFailException(message)
    assert result.outcome is not None
    return result.outcome, result


def unstored(request: JobRequest) -> JobRequest:
    """A request whose effect is outside the store's Snapshots: its result is not kept to be taken again."""
    return request.model_copy(update={"place": request.place.model_copy(update={"result": None})})


def pack(artifact: Artifact) -> dict[str, Any]:
    """An Artifact as XCom carries it."""
    return artifact.model_dump(mode="json")


def unpack(value: dict[str, Any]) -> Artifact:
    """The Artifact that `pack` made."""
    return Artifact.model_validate(value)


def report(request: JobRequest, result: JobResult) -> None:
    """Say in the task's log how a job ended."""
    seen = result.observed
    what = f"{request.identity.job} {' '.join(request.identity.scope[-1:])}".strip()
    if result.error is not None:
        log.error("%s: %s", what, result.error.message)
        return
    again = "" if result.outcome_digest is None else f", outcome {result.outcome_digest[7:19]}"
    log.info("%s: done in %s s (%s CPU-s)%s", what, seen.seconds, seen.cpu_seconds, again)
    for note in seen.notes:
        log.info("%s: %s", what, note)
    for name, address in seen.links.items():
        log.info("%s: %s: %s", what, name, address)
