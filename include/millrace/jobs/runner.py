"""Run one job: request in, result out. Outputs first, result last; an error becomes a JobResult with retry advice."""

from __future__ import annotations

import importlib
import os
import platform
import socket
import sys
import traceback
from typing import Any

from pydantic import ValidationError

from millrace.contract import JobError, JobRequest, JobResult, Observed, Outcome
from millrace.core import interruption, threads
from millrace.core.errors import ContractError, MillraceError, NotFound
from millrace.core.usage import Usage
from millrace.jobs.work import Work
from millrace.spec.jobs import JOBS, TABLE
from millrace.store import layout


def run(request: JobRequest) -> JobResult:
    """Run the job that the request names and return its result; never raises for what the job did.

    Where the request places a result, a finished one of the same `request_digest` is taken instead of running a
    reusable job again, and the new one is stored last.
    """
    work, usage = Work(request), Usage()
    outcome: Outcome | None = None
    error: JobError | None = None
    try:
        threads.before_imports(request.identity.threads)
        module = _module(request.identity.job)
        threads.after_imports(request.identity.threads)
        if TABLE[request.identity.job].reusable and (earlier := _earlier(work)):
            return earlier
        outcome = module.run(work, _params(module, request))
    except MillraceError as err:
        error = JobError(type=type(err).__name__, message=str(err), where=err.where, retry=err.retry)
    except interruption.Left:
        error = left()
    except MemoryError:
        error = JobError(type="MemoryError", message="the job ran out of memory", retry="larger")
    except (ConnectionError, TimeoutError) as err:
        error = JobError(type=type(err).__name__, message=f"a service did not answer: {err}", retry="same")
    except Exception as err:
        error = _database_error(err) or JobError(
            type=type(err).__name__, message=f"{type(err).__name__}: {err}", retry="never"
        )
        print(traceback.format_exc(), file=sys.stderr)
    result = JobResult(
        job=request.identity.job,
        request_digest=request.request_digest,
        outcome=outcome,
        error=error,
        observed=Observed(
            **usage.observed(),
            host="/".join(filter(None, (os.environ.get("MILLRACE_NODE"), socket.gethostname()))),
            image=os.environ.get("MILLRACE_IMAGE") or None,
            architecture=platform.machine(),
            device=work.device,
            lock=work.lock,
            links=work.links,
            mlflow_run=work.mlflow_run,
            notes=tuple(work.notes),
            times=work.times,
        ),
    )
    if request.place.result and outcome is not None:
        try:
            work.objects.put(request.place.result, result.to_json().encode())
        except MillraceError as err:
            failed = JobError(type=type(err).__name__, message=f"the result was not stored: {err}", retry="same")
            return result.model_copy(update={"outcome": None, "error": failed})
    return result


def _database_error(err: Exception) -> JobError | None:
    """What to say of an error of a database that a library asks, such as Feast its registry: worth another try where
    the connection broke. None for another error. Neither this nor the traceback shows the statement's parameters,
    which may be values of rows."""
    library = sys.modules.get("sqlalchemy.exc")  # where it was not imported, nothing of it was raised
    if library is None or not isinstance(err, library.DBAPIError):
        return None
    err.hide_parameters = True
    away = isinstance(err, library.OperationalError | library.InterfaceError)
    said = str(err.orig).strip().partition("\n")[0]
    what = "a database did not answer" if away else "a database refused"
    return JobError(type=type(err).__name__, message=f"{what}: {said}", retry="same" if away else "never")


def left() -> JobError:
    """Why a job that was asked to leave has no outcome."""
    said = "the job was asked to leave (SIGTERM) before it was done"
    return JobError(type=interruption.Interrupted.__name__, message=said, retry=interruption.Interrupted.retry)


def exit_code(result: JobResult) -> int:
    """0: an outcome, whatever its verdict; 3: an error that retrying cannot mend; 4: one that it may."""
    if result.error is None:
        return 0
    return 3 if result.error.retry == "never" else 4


def _module(job: str) -> Any:
    if job not in JOBS:
        raise ContractError("no such job", given=job, allowed=JOBS)
    return importlib.import_module(f"millrace.jobs.{job}")


def _params(module: Any, request: JobRequest) -> Any:
    try:
        return module.Params.model_validate(request.identity.params)
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ContractError(
            f"params of job '{request.identity.job}', {where}: {first['msg']}",
            allowed=sorted(module.Params.model_fields),
        ) from err


def _earlier(work: Work) -> JobResult | None:
    """A stored result of the same request whose outputs are all still there."""
    key = work.request.place.result
    if key is None:
        return None
    try:
        result = JobResult.parse(work.objects.get(key))
    except (NotFound, ContractError):
        return None
    if result.request_digest != work.request.request_digest or result.outcome is None:
        return None
    for output in result.outcome.outputs.values():
        if not work.objects.exists(layout.last_written(output)):
            return None
    return result
