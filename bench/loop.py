"""The loop through Airflow against the same jobs called in one bare process, and Airflow's own chain of empty tasks."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.row import Row
from demo import data
from demo.baseline import Bare
from demo.loop import Loop
from millrace.contract import Artifact
from millrace.core.settings import Settings
from millrace.feast_stores.apply import apply
from millrace.local.stack import airflow_environment, down, up
from millrace.spec import ProjectTree

PIPELINE, MONTH = "flight_delays", "2013-01"
CHAIN = """
from airflow.sdk import DAG, task

with DAG("chain"):
    last = None
    for number in range(10):
        @task(task_id=f"t{number}")
        def run():
            return None
        this = run()
        if last is not None:
            last >> this
        last = this
"""


def measure(root: Path, folder: Path) -> list[Row]:
    """One features run of January, one training run on it with its release, and a ten-step chain, on a fresh copy of
    the project."""
    project = folder / "project"
    ignored = shutil.ignore_patterns(".millrace", ".venv", ".git", "__pycache__", "millrace", "tests")
    for name in ("dags", "plugins", "feature_repo", "include"):
        shutil.copytree(root / name, project / name, ignore=ignored)
    (project / "dags" / "chain.py").write_text(CHAIN)
    tree = ProjectTree(project)
    settings = Settings.load(project, {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")})
    incoming = project / data.INCOMING
    data.write_planes(incoming)
    data.write_flights(incoming, MONTH)
    data.write_weather(incoming, MONTH)
    apply(tree, settings)
    bare = _bare(tree, settings.model_copy(update={"store": str(folder / "bare-store")}))
    running = up(tree, settings)
    try:
        loop = Loop(tree, settings, running.api, {**os.environ, **airflow_environment(tree, settings)}, PIPELINE)
        loop.ready()
        run = running.api.trigger(loop.dag("features"), {"partition": MONTH})
        _wait(lambda: loop._state("features", run) == "success")
        features = _times(running.api, loop.dag("features"), run)
        run = running.api.trigger(loop.dag("training"), {"reason": "bench"})
        _wait(lambda: _ended(running.api, loop.dag("training"), run) and _ended(running.api, loop.dag("release")))
        training = _times(running.api, loop.dag("training"), run)
        release = _times(running.api, loop.dag("release"))
        running.api.pause("chain", False)
        chain_run = running.api.trigger("chain", {})
        _wait(lambda: running.api.call("GET", f"/dags/chain/dagRuns/{chain_run}")["state"] == "success")
        chain = _times(running.api, "chain", chain_run)
    finally:
        down(settings)
    retraining = Times(
        training.inside + release.inside, (release.ended - training.began).total_seconds(),
        training.tasks + release.tasks, training.began, release.ended,
    )  # fmt: skip
    return [
        *_against("features run", features, bare[0]),
        *_against("retraining with its release", retraining, bare[1]),
        Row("chain of ten empty tasks", chain.wall, 15.0, "s", "<= 1"),
    ]


def _against(name: str, seen: Times, bare: float) -> list[Row]:
    allowed, beyond = 1.3 * bare + 1.5 * seen.tasks, (seen.wall - bare) / seen.tasks
    return [
        Row(f"{name} through Airflow, against 1.3 times the bare jobs + 1.5 s a task", seen.wall, allowed, "s", "<= 1"),
        Row(f"{name}: seconds beyond the bare jobs per task ({seen.tasks} tasks)", beyond, 1.5, "s", "<= 1"),
        Row(f"{name}: seconds inside tasks against the bare jobs", seen.inside, bare, "s", "reported"),
    ]


def _bare(tree: ProjectTree, settings: Settings) -> tuple[float, float]:
    """Seconds of the jobs of one features run, and of one training, in this process, libraries imported by an earlier
    one. Registering and promoting, which MLflow's server does, are not in it."""
    bare = Bare(tree, settings, PIPELINE)
    for _ in range(2):  # the first pays the imports
        began = time.perf_counter()
        _features(tree, settings, bare)
        made = time.perf_counter()
        bare.train([MONTH])
        ended = time.perf_counter()
    return made - began, ended - made


def _features(tree: ProjectTree, settings: Settings, bare: Bare) -> None:
    from millrace.spec import Placed

    spec = bare.spec
    locations = Placed.of(tree, settings.environment, PIPELINE).locations()
    raw: list[tuple[str, Artifact, str | None]] = []
    for name, source in spec.sources.items():
        key = MONTH if source.partitioned else "static"
        landed = bare.run("land", (key,), [], {"source": name}, locations=locations).outputs["data"]
        params: dict[str, Any] = {"suite": source.gate, "event_time": source.event_time if source.partitioned else None}
        bare.run("validate", (key,), [("data", landed, key)], params)
        bare.tables.move(f"{PIPELINE}/raw.{name}", key, landed)
        raw.append((name, landed, key))
    made = bare.run("transform", (MONTH,), raw).outputs["data"]
    params = {"suite": spec.features.gate, "event_time": spec.features.event_time}
    bare.run("validate", (MONTH,), [("data", made, MONTH)], params)
    bare.tables.move(f"{PIPELINE}/features", MONTH, made)
    feast = {"registry": settings.feast_registry, "online": settings.feast_online}
    bare.run("materialize", (MONTH,), [("data", made, MONTH)], services=feast)


@dataclass(frozen=True)
class Times:
    """Seconds inside a run's tasks, seconds from first start to last end, number of tasks that ran."""

    inside: float
    wall: float
    tasks: int
    began: datetime
    ended: datetime


def _ended(api: Any, dag_id: str, run: str = "~") -> bool:
    """Whether a run, or any of the DAG's, has ended. Raises RuntimeError where one failed."""
    found = api.call("GET", f"/dags/{dag_id}/dagRuns?limit=10")["dag_runs"]
    states = [each["state"] for each in found if run in ("~", each["dag_run_id"])]
    if "failed" in states:
        raise RuntimeError(f"a run of {dag_id} failed")
    return "success" in states


def _times(api: Any, dag_id: str, run: str = "~") -> Times:
    found = api.call("GET", f"/dags/{dag_id}/dagRuns/{run}/taskInstances?limit=100")["task_instances"]
    found = [each for each in found if each["start_date"] and each["end_date"]]
    starts = [datetime.fromisoformat(t["start_date"]) for t in found]
    ends = [datetime.fromisoformat(t["end_date"]) for t in found]
    inside = sum((e - s).total_seconds() for s, e in zip(starts, ends, strict=True))
    return Times(inside, (max(ends) - min(starts)).total_seconds(), len(found), min(starts), max(ends))


def _wait(done: Any) -> None:
    limit = time.monotonic() + 300
    while not done():
        if time.monotonic() > limit:
            raise TimeoutError("the run did not end")
        time.sleep(0.3)
