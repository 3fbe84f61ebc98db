"""What a task pays for importing its libraries: in a fresh interpreter, and in a fork of the warm executor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.row import Row

JOBS = {"gate": "great_expectations", "materialise": "feast", "train": "xgboost, mlflow", "drift": "evidently"}
# Without pyspark, as in a task (see gates/gx.py): GX would bring it along, and from `-c` it ends the program.
COLD = """
import sys, time
sys.modules["pyspark"] = None
began = time.perf_counter()
import {modules}
print(time.perf_counter() - began)
"""
WARM = r"""
import json, multiprocessing, sys, time
from millrace.airflow.executor import WarmLocalExecutor
WarmLocalExecutor()._import()
fork = multiprocessing.get_context("fork")
def task(modules, results):
    began = time.perf_counter()
    exec(f"import {modules}")
    results.put(time.perf_counter() - began)
seen = {}
for name, modules in json.loads(sys.argv[1]).items():
    times = []
    for _ in range(5):
        results = fork.SimpleQueue()
        child = fork.Process(target=task, args=(modules, results))
        child.start(); child.join(); times.append(results.get())
    seen[name] = sorted(times)[2]
print(json.dumps(seen))
"""


def measure(root: Path, folder: Path) -> list[Row]:
    """Median of five warm and of three cold imports per kind of task."""
    env = {**os.environ, "AIRFLOW_HOME": str(folder), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}

    def python(*args: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", *args], env=env, capture_output=True, text=True, check=True, cwd=folder
        )
        return done.stdout.strip().splitlines()[-1]

    warm = json.loads(python(WARM, json.dumps(JOBS)))
    rows = []
    for name, modules in JOBS.items():
        cold = sorted(float(python(COLD.format(modules=modules))) for _ in range(3))[1]
        rows.append(Row(f"import cost of a {name} task, warm against cold", warm[name], cold, "s", "< 0.05"))
    return rows
