"""PodSite: the reference project on this machine's Airflow, with its heavy jobs in pods of a real cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from chart_cluster import Cluster
from chart_services import S3_KEY, S3_SECRET, Services

from millrace import __version__
from millrace.cli.local import down, up
from millrace.cli.rest import AirflowApi
from millrace.settings import Settings
from millrace.spec import Placed, ProjectTree
from millrace.store import ObjectStore, open_store

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = "flight_delays"
JOBS = ("transform", "build_training_set", "train", "evaluate")
IMAGE = f"{os.environ.get('MILLRACE_JOBS_IMAGE', 'millrace-jobs')}:{__version__}"
"""The variable is that of docker-compose.yaml."""
SMALL = {"cpu": "100m", "memory": "2Gi", "deadline": "PT20M", "schedule_timeout": "PT1M", "startup_timeout": "PT2M"}
LIMIT_S = 400


def write_project(folder: Path, namespace: str, services: Services, profiles: dict[str, Any]) -> None:
    """The reference project with the flights alone, two months of them, few rounds, and its jobs in pods."""
    from demo import data

    for name in ("dags", "plugins", "feature_repo"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder / "dags").glob("*.py"):
        if path.stem != PIPELINE:
            path.unlink()
    shutil.copytree(ROOT / "include" / "pipelines" / PIPELINE, folder / "include" / "pipelines" / PIPELINE)
    shutil.copy(ROOT / "include" / "project.yaml", folder / "include")
    compute = {
        "version": 1, "image": IMAGE, "image_pull_policy": "Never", "namespace": namespace,
        "service_account": "default", "env": {"AWS_ENDPOINT_URL": services.addresses["s3"], "AWS_REGION": "us-east-1"},
        "secrets": {name: {"secret": "keys", "key": name}
                    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD")},
        "profiles": profiles,
    }  # fmt: skip
    (folder / "include" / "compute.yaml").write_text(yaml.safe_dump(compute))
    environments = folder / "include" / "environments"
    environments.mkdir()
    placed = {"compute": dict.fromkeys(JOBS, "small")}
    environment = {"version": 1, "name": "dev", "approval": {"by": "auto"}, "pipelines": {PIPELINE: placed}}
    (environments / "dev.yaml").write_text(yaml.safe_dump(environment))
    incoming = folder / data.INCOMING
    data.write_planes(incoming)
    for month in ("2013-01", "2013-02"):
        data.write_flights(incoming, month)
        data.write_weather(incoming, month)


class PodSite:
    """A running Airflow, and the namespace in which its pods are."""

    def __init__(self, cluster: Cluster, namespace: str, tree: ProjectTree, settings: Settings, running: Any) -> None:
        self.cluster, self.namespace, self.tree, self.settings = cluster, namespace, tree, settings
        self.running = running
        self.api: AirflowApi = running.api

    @property
    def objects(self) -> ObjectStore:
        """The store that tasks and pods share."""
        return open_store(self.settings.store)

    def pods(self) -> list[Any]:
        """Pods of the namespace, those on their way out too."""
        return list(self.cluster.core.list_namespaced_pod(self.namespace).items)

    def attempts(self, job: str | None = None) -> list[dict[str, Any]]:
        """What is on record of pods, of one job or of all."""
        found = []
        for item in self.objects.list("requests/"):
            if item.key.endswith("attempts.json"):
                request = json.loads(self.objects.get(item.key.replace("attempts", "request")))
                if job in (None, request["identity"]["job"]):
                    found += json.loads(self.objects.get(item.key))
        return found

    def trigger(self, part: str, **body: Any) -> str:
        """Start a DAG of the pipeline; returns the run's id."""
        dag = f"{PIPELINE}__{part}"
        return str(self.api.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, **body})["dag_run_id"])

    def ended(self, part: str, run: str, limit_s: float = LIMIT_S) -> str:
        """Wait for a run; returns its state."""
        path = f"/dags/{PIPELINE}__{part}/dagRuns/{run}"
        return str(until(lambda: (s := self.api.call("GET", path)["state"]) in ("success", "failed") and s, run,
                         limit_s))  # fmt: skip

    def log(self, part: str, run: str, task: str, number: int = 1) -> str:
        """The log of a task's try."""
        path = f"/dags/{PIPELINE}__{part}/dagRuns/{run}/taskInstances/{task}/logs/{number}?full_content=true"
        content = self.api.call("GET", path)["content"]
        return "\n".join(str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in content)

    def process(self, name: str) -> int:
        """Id of one of Airflow's processes."""
        return next(p.pid for p in self.running.processes if p.name == name)


def until(answer: Callable[[], Any], what: str, limit_s: float = 120) -> Any:
    """The first true answer. Fails naming what was waited for."""
    end = time.monotonic() + limit_s
    while not (found := answer()):
        assert time.monotonic() < end, f"waited {limit_s:.0f} s for {what}"
        time.sleep(0.5)
    return found


@contextmanager
def pod_site(
    cluster: Cluster, services: Services, namespace: str, folder: Path, profiles: dict[str, Any]
) -> Iterator[PodSite]:
    """Airflow with its state here, its jobs in `namespace`, and store, registry and MLflow where both reach them."""
    keys = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET,
            "PGPASSWORD": services.secret["postgres-password"]}  # fmt: skip
    cluster.core.create_namespaced_secret(namespace, {"metadata": {"name": "keys"}, "stringData": keys})
    write_project(folder, namespace, services, profiles)
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(cluster.path)}}
    variables = {
        **keys, "AWS_ENDPOINT_URL": services.addresses["s3"], "AWS_REGION": "us-east-1",
        "MILLRACE_STORE": f"{services.addresses['store']}-{namespace}", "MILLRACE_MLFLOW": services.addresses["mlflow"],
        "MILLRACE_FEAST_REGISTRY": services.addresses["registry"].replace("+psycopg2", "+psycopg"),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        # What makes a lost worker known in seconds and not in minutes; the grown stack sets the same names.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "3",
        "AIRFLOW__WORKERS__API_RETRIES": "10",
    }  # fmt: skip
    before = dict(os.environ)
    for name in [n for n in before if n.startswith(("MILLRACE_", "AIRFLOW"))]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        tree = ProjectTree(folder)
        settings = Settings.load(folder)
        Placed.of(tree, "dev", PIPELINE)
        subprocess.run([sys.executable, "-m", "millrace.cli.app", "apply"], cwd=folder, check=True)
        running = up(tree, settings)
        try:
            site = PodSite(cluster, namespace, tree, settings, running)
            for part in ("features", "training", "release", "monitoring"):
                until(lambda part=part: _known(site.api, f"{PIPELINE}__{part}"), "the DAGs")
                site.api.pause(f"{PIPELINE}__{part}", False)
            yield site
        finally:
            down(settings)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _known(api: AirflowApi, dag: str) -> bool:
    from millrace.errors import MillraceError

    try:
        api.call("GET", f"/dags/{dag}")
    except MillraceError:
        return False
    return True
