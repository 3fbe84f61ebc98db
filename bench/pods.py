"""What a pod adds to a job, against the same command as a bare process; needs a cluster (see tests/cluster)."""

from __future__ import annotations

import os
from pathlib import Path

from bench.measured import measured
from bench.row import Row


def measure(root: Path, folder: Path) -> list[Row]:
    """Rows for a pod that its task waits for, and for one that the triggerer waits for; none without a cluster."""
    if os.environ.get("MILLRACE_TEST_CLUSTER") != "1" or not os.environ.get("KUBECONFIG"):
        print("  no cluster: set KUBECONFIG and MILLRACE_TEST_CLUSTER=1")
        return []
    seen = measured(root, folder, "tests/cluster/measure_pods.py")
    return [
        Row("a training in a pod, waited for by its task", seen["sync"], seen["bare"], "s", "at most 4 s more"),
        Row("a training in a pod, deferred", seen["small"], seen["bare"], "s", "stated"),
    ]
