"""A process that starts an Airflow, run so that nothing of it is left, however it or its test ends."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from millrace.core.settings import Settings
from millrace.local.stack import down


def driven(
    command: Sequence[str | Path], project: Path, env: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a command that calls `up` for a project, and end what it has left of that: when its time is over, when the
    test's own time is over, when it was killed. Raises TimeoutExpired, with what it had said."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=env, text=True, **pipes)
    try:
        out, err = process.communicate(timeout=seconds)
        return subprocess.CompletedProcess(command, process.returncode, out, err)
    except subprocess.TimeoutExpired as err:
        process.kill()
        out, err_out = process.communicate()
        err.add_note(f"{out[-1000:]}\n{err_out[-4000:]}")
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        down(Settings.load(project, {}))
