"""What a pod adds to a job, against the same command as a bare process; needs a cluster (see tests/cluster)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.row import Row

GOAL_S = 4.0


def measure(root: Path, folder: Path) -> list[Row]:
    """Rows for a pod that its task waits for, and for one that the triggerer waits for; none without a cluster."""
    if os.environ.get("MILLRACE_TEST_CLUSTER") != "1" or not os.environ.get("KUBECONFIG"):
        print("  no cluster: set KUBECONFIG and MILLRACE_TEST_CLUSTER=1")
        return []
    told = folder / "rows.json"
    command = [sys.executable, "-m", "pytest", "-q", "tests/cluster/measure_pods.py"]
    env = {**os.environ, "MILLRACE_BENCH_ROWS": str(told)}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    if done.returncode or not told.is_file():
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-1000:])
    seen = json.loads(told.read_text())
    goal = f"at most {GOAL_S:.0f} s more"
    return [
        Row("a training in a pod, waited for by its task", seen["sync"], seen["bare"], "s", goal),
        Row("a training in a pod, deferred", seen["small"], seen["bare"], "s", "stated"),
    ]
