"""Nothing calls home: a task says so before it imports what would. The whole proof is the loop in a network of loopback
alone (tests/loop)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.project import DAYS, sample

# The request names a source that is not there: what counts is what the process has been told by then.
ASK = """
import json, sys
from millrace.airflow.runtime.run import run_job
from millrace.airflow.runtime.site import Site
site = Site.at(sys.argv[1], "orders")
run_job(site.request("land", scope=(sys.argv[2],), params={"source": "visits"}))
from mlflow.telemetry.utils import is_telemetry_disabled
print(json.dumps(is_telemetry_disabled()))
"""


def test_mlflow_sends_no_word_home_from_a_task(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    sample(root)
    script = tmp_path / "ask.py"
    script.write_text(ASK)
    silent = ("MLFLOW", "GX_", "DO_NOT_TRACK", "FEAST", "CI", "PYTEST")  # or MLflow keeps quiet since it is tested
    env = {k: v for k, v in os.environ.items() if not k.startswith(silent)}
    done = subprocess.run(
        [sys.executable, str(script), str(root), DAYS[0]], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) is True
