"""The loop on the compose stack against the embedded one: run by `python -m bench compose`, not by the tests."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

from compose_stack import Stack, until
from docker_engine import ROOT

from millrace.core.errors import MillraceError
from millrace.core.settings import Settings
from millrace.local.rest import AirflowApi
from millrace.local.stack import down, up
from millrace.spec import ProjectTree

DAG = {part: f"flight_delays__{part}" for part in ("features", "training", "release", "monitoring")}
LIMIT_S = 900
ROWS = Path(os.environ["BENCH_ROWS"])


def test_the_loop_on_both(stack: Stack, tmp_path: Path) -> None:
    rows = {"compose": loop(stack.api)}
    stack.compose("stop")
    project = runpy.run_path(str(ROOT / "tests" / "loop" / "test_loop_reduced.py"))["reduced_flights"](tmp_path / "own")
    subprocess.run([sys.executable, "-m", "millrace.cli.app", "apply"], cwd=project, check=True)
    settings = Settings.load(project)
    try:
        rows["embedded"] = loop(up(ProjectTree(project), settings).api)
    finally:
        down(settings)
    ROWS.write_text(json.dumps(rows))


def loop(api: AirflowApi) -> float:
    """Seconds from the first trigger to a champion: four months of features, a training, a release."""
    until(lambda: all(_state(api, f"/dags/{dag}") for dag in DAG.values()), "the DAGs", 180)
    for dag in DAG.values():
        api.pause(dag, False)
    began = time.monotonic()
    for month in ("2013-01", "2013-02", "2013-03", "2013-04"):
        body = {"logical_date": None, "partition_key": month, "conf": {}}
        api.call("POST", f"/dags/{DAG['features']}/dagRuns", body)
    _done(api, "features", 2)
    api.trigger(DAG["training"], {"reason": "bench"})
    _done(api, "training", 1)
    _done(api, "release", 1)
    return time.monotonic() - began


def _done(api: AirflowApi, part: str, count: int) -> None:
    def done() -> bool:
        runs = api.call("GET", f"/dags/{DAG[part]}/dagRuns?limit=100")["dag_runs"]
        states = [r["state"] for r in runs]
        assert "failed" not in states, (part, states)
        return states.count("success") >= count

    until(done, part, LIMIT_S)


def _state(api: AirflowApi, path: str) -> bool:
    try:
        api.call("GET", path)
    except MillraceError:
        return False
    return True
