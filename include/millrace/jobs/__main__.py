"""`python -m millrace.jobs <job> --request F --result F`: the command line of every job.

In a pod `--store URI --request KEY`: the request comes from the object store, and the result goes where it says.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from millrace.contract import JobError, JobRequest, JobResult, code_digest
from millrace.core import interruption
from millrace.core.errors import ContractError, MillraceError, NotFound
from millrace.jobs.runner import exit_code, left, run
from millrace.spec.jobs import JOBS
from millrace.store import open_store

USAGE_ERROR = 2


def main(argv: list[str] | None = None) -> int:
    """Exit 0: an outcome was written, 2: the request cannot be read, 3: failed for good, 4: failed, may be retried.

    SIGTERM and SIGINT end the job with advice to resume: a training keeps a checkpoint first.
    """
    parser = argparse.ArgumentParser(prog="python -m millrace.jobs", description="Run one Millrace job.")
    parser.add_argument("job", help=", ".join(JOBS))
    parser.add_argument("--request", required=True, help="file with a JobRequest, or its key in --store")
    parser.add_argument("--result", type=Path, help="file to write the JobResult to; not needed with --store")
    parser.add_argument("--store", help="object store that holds the request")
    args = parser.parse_args(argv)
    if args.result is None and args.store is None:
        parser.error("--result is needed where there is no --store")
    request: JobRequest | None = None
    result: JobResult | None = None
    code = USAGE_ERROR
    # The first process of a container has no default for SIGTERM: without a handler it would not even end.
    _on_request_to_leave(_leave)
    try:
        request = JobRequest.parse(
            _read(args.request) if args.store is None else open_store(args.store).get(args.request)
        )
        _check(request, args.job)
        result = run(request)
        _on_request_to_leave(signal.SIG_IGN)
        code = exit_code(result)
    except ContractError as err:
        result = _error(args.job, request, JobError(type="ContractError", message=str(err)))
    except MillraceError as err:
        said = f"cannot read the request: {err}"
        result = _error(args.job, request, JobError(type=type(err).__name__, message=said, retry=err.retry))
        code = exit_code(result)
    except interruption.Left:
        result = result or _error(args.job, request, left())
        code = exit_code(result)
    # From here on it is seconds to the end. Ignored, not handled: Python takes handlers off before it has ended, and
    # a job that is done would seem killed.
    _on_request_to_leave(signal.SIG_IGN)
    if args.result is not None:
        _write(args.result, result)
    if result.error:
        print(f"{args.job}: {result.error.message}", file=sys.stderr)
        if request is not None:
            _keep(request, result)
    return code


def _on_request_to_leave(handler: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _leave(number: int, frame: Any) -> None:
    interruption.ask()


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as err:
        raise ContractError(f"cannot read the request: {err}") from err


def _check(request: JobRequest, job: str) -> None:
    """Refuse a request for another job, or one that was made by other code than will run it."""
    if request.identity.job != job:
        raise ContractError("the request is for another job", given=job, allowed=[request.identity.job])
    if request.identity.code_digest != code_digest():
        raise ContractError(
            "this code is not the one that the request was made for",
            given=request.identity.code_digest,
            allowed=code_digest(),
            next_step="Run the job with an image of the Millrace that made the request, "
            "or make the request again (clear the task) after an upgrade",
        )


def _error(job: str, request: JobRequest | None, error: JobError) -> JobResult:
    return JobResult(job=job, request_digest=request.request_digest if request else "", error=error)


def _write(path: Path, result: JobResult) -> None:
    """Write beside and rename, so that a reader never sees half a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(result.to_json(), encoding="utf-8")
    temporary.replace(path)


def _keep(request: JobRequest, result: JobResult) -> None:
    """Store an error where the request places its result: from a pod nothing else comes back.

    An outcome that is there already stays, also when it comes at the same moment.
    """
    key = request.place.result
    if key is None:
        return
    try:
        objects = open_store(request.place.store)
        version: str | None = None
        try:
            stored, version = objects.get_versioned(key)
            if JobResult.parse(stored).outcome is not None:
                return
        except (NotFound, ContractError):
            pass
        objects.put_if(key, result.to_json().encode(), version)
    except MillraceError as err:
        print(f"{result.job}: the error was not stored: {err}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
