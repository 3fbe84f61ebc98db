"""Measurements that take the servers of the tests: run by pytest, which hands the numbers back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def measured(root: Path, folder: Path, file: str) -> dict[str, float]:
    """Run a `measure_*.py` below tests/ and return the numbers that it wrote. Raises RuntimeError with what it said."""
    path = folder / "rows.json"
    env = {**os.environ, "BENCH_ROWS": str(path)}
    command = [sys.executable, "-m", "pytest", "-q", file]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    if done.returncode or not path.is_file():
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-1000:])
    found: dict[str, float] = json.loads(path.read_text())
    return found
