"""What the DAG processor pays per pipeline, against a stock DAG file of the same number of tasks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.row import Row

STOCK = """
from airflow.sdk import DAG, task

for part, count in (("features", 12), ("training", 7), ("release", 3), ("monitoring", 5)):
    with DAG(f"{name}__{{part}}"):
        last = None
        for number in range(count):
            @task(task_id=f"t{{number}}")
            def run():
                return None
            this = run()
            if last is not None:
                last >> this
            last = this
"""
PIPELINES = 1000


def measure(root: Path, folder: Path) -> list[Row]:
    """Wall seconds of one pass of the DAG processor over one and over a thousand pipelines."""
    rows = []
    for count in (1, PIPELINES):
        ours = _process(_pipelines(root, folder / f"ours{count}", count), folder / f"ours{count}-home")
        stock = _process(_stock(folder / f"stock{count}", count), folder / f"stock{count}-home")
        name = "one pipeline" if count == 1 else f"{count} pipelines"
        rows.append(Row(f"DAG processor, one pass over {name}", ours, stock, "s", "<= 2 times stock files"))
    return rows


def _pipelines(root: Path, target: Path, count: int) -> Path:
    """A project with `count` copies of flight_delays under other names."""
    source = root / "include" / "pipelines" / "flight_delays"
    shutil.copytree(root / "include" / "environments", target / "include" / "environments")
    for path in (target / "include" / "environments").glob("*.yaml"):
        path.write_text("\n".join(f"version: 1\nname: {path.stem}".splitlines()) + "\n")
    shutil.copy(root / "include" / "project.yaml", target / "include")
    (target / "dags").mkdir()
    dag_file = (root / "dags" / "flight_delays.py").read_text()
    for number in range(count):
        name = f"pipeline_{number:04d}"
        copy = target / "include" / "pipelines" / name
        shutil.copytree(source, copy)
        spec = (copy / "pipeline.yaml").read_text().replace("name: flight_delays", f"name: {name}", 1)
        (copy / "pipeline.yaml").write_text(spec)
        (target / "dags" / f"{name}.py").write_text(dag_file.replace("flight_delays", name))
    return target / "dags"


def _stock(target: Path, count: int) -> Path:
    target.mkdir()
    for number in range(count):
        (target / f"stock_{number:04d}.py").write_text(STOCK.format(name=f"stock_{number:04d}"))
    return target


def _process(dags: Path, home: Path) -> float:
    home.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "MILLRACE_"))} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(Path(__file__).parents[1] / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "millrace.core.settings.SQLITE_CONNECT_ARGS",
    }
    airflow = str(Path(sys.executable).parent / "airflow")
    subprocess.run([airflow, "db", "migrate"], env=env, check=True, capture_output=True)
    began = time.perf_counter()
    subprocess.run([airflow, "dag-processor", "--num-runs", "1"], env=env, check=True, capture_output=True)
    return time.perf_counter() - began
