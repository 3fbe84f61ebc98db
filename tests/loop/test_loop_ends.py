"""A loop test that is cut off leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.driven import driven

from millrace.local.record import read

# As driver.py, but for what it starts.
HANGS = """
import os, signal, sys, time
from pathlib import Path
from millrace.local import record
from millrace.local.processes import start
home = Path(sys.argv[1]) / ".millrace"
(home / "logs").mkdir(parents=True)
with record.locked(home):
    running = record.Running("", "", "", "")
    process = start("scheduler", ["sleep", "300"], {"PATH": "/usr/bin:/bin"}, home,
                    lambda p: record.write(home, running.with_(p)))
Path(sys.argv[1], "scheduler").write_text(str(process.pid))
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(300)
"""


@pytest.mark.parametrize("how", ["too long", "killed"])
def test_what_a_driver_started_ends_with_the_test(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", HANGS, str(tmp_path), how]
    try:
        done = driven(command, tmp_path, os.environ, seconds=6)
    except subprocess.TimeoutExpired:
        assert how == "too long"
    else:
        assert how == "killed" and done.returncode == -signal.SIGKILL
    pid = int((tmp_path / "scheduler").read_text())
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
    assert read(tmp_path / ".millrace") is None
