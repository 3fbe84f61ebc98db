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
# In a process of its own, such as a pod: the first question to an MLflow server (which nobody answers), and Feast.
LEAN = {
    "talking to MLflow": (
        "from millrace.mlflow.runs import connect; connect(a).search_experiments()",
        "from mlflow import MlflowClient; MlflowClient(a).search_experiments()",
    ),
    "importing Feast": ("import millrace.feast_stores", "import feast"),
}
ALONE = """
import os, re, time
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
a = "http://127.0.0.1:9"
try:
    {code}
except Exception as err:
    assert type(err).__name__ == "MlflowException", err
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())  # ru_maxrss would count the parent's
print(time.process_time(), int(peak[1]) / 1024 if peak else 0)
"""
WARM = r"""
import json, multiprocessing, sys, time
from millrace.airflow.runtime.executor import WarmLocalExecutor
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
    """Median of five warm and of three cold imports per kind of task; of three for a process of its own."""
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
    for name, codes in LEAN.items():
        seen = [
            sorted([float(x) for x in python(ALONE.format(code=code)).split()] for _ in range(3))[1] for code in codes
        ]
        for at, what, unit in ((0, "CPU", "CPU-s"), (1, "peak memory", "MB")):
            stock = "as installed" if unit == "CPU-s" else None
            rows.append(Row(f"{name} in a process of its own, {what}", seen[0][at], seen[1][at], unit, "stated", stock))
    return rows
