"""`python -m millrace.jobs <job> --request F --result F`: the command line of every job."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from millrace.contract import JobError, JobRequest, JobResult
from millrace.errors import ContractError
from millrace.jobs import JOBS
from millrace.jobs.runner import exit_code, run

USAGE_ERROR = 2


def main(argv: list[str] | None = None) -> int:
    """Exit 0: an outcome was written, 2: the request cannot be read, 3: failed for good, 4: failed, may be retried."""
    parser = argparse.ArgumentParser(prog="python -m millrace.jobs", description="Run one Millrace job.")
    parser.add_argument("job", help=", ".join(JOBS))
    parser.add_argument("--request", required=True, type=Path, help="file with a JobRequest")
    parser.add_argument("--result", required=True, type=Path, help="file to write the JobResult to")
    args = parser.parse_args(argv)
    try:
        request = JobRequest.parse(args.request.read_bytes())
        if request.identity.job != args.job:
            raise ContractError("the request is for another job", given=args.job, allowed=[request.identity.job])
    except OSError as err:
        return _refuse(args, f"cannot read the request: {err}")
    except ContractError as err:
        return _refuse(args, str(err))
    result = run(request)
    _write(args.result, result)
    if result.error:
        print(f"{args.job}: {result.error.message}", file=sys.stderr)
    return exit_code(result)


def _refuse(args: argparse.Namespace, message: str) -> int:
    print(f"{args.job}: {message}", file=sys.stderr)
    error = JobError(type="ContractError", message=message)
    _write(args.result, JobResult(job=args.job, request_digest="", error=error))
    return USAGE_ERROR


def _write(path: Path, result: JobResult) -> None:
    """Write beside and rename, so that a reader never sees half a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(result.to_json(), encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
