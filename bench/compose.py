"""The loop on the compose stack against the embedded one; needs a Docker engine (see tests/compose)."""

from __future__ import annotations

import os
from pathlib import Path

from bench.measured import measured
from bench.row import Row


def measure(root: Path, folder: Path) -> list[Row]:
    """One row: two months of features, a training and a release; none without an engine."""
    if not os.environ.get("DOCKER_HOST"):
        print("  no Docker engine: set DOCKER_HOST")
        return []
    seen = measured(root, folder, "tests/compose/measure_compose.py")
    return [Row("the loop on the compose stack", seen["compose"], seen["embedded"], "s", "stated")]
