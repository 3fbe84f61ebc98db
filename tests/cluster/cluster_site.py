"""PodSite: the reference project on this machine's Airflow, with its heavy jobs in pods of a real cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from chart_cluster import KUBERNETES, Cluster, until
from chart_services import S3_KEY, S3_SECRET, Services
from cluster_project import PARTS, PIPELINES, profiles, recovery, write_project
from cluster_watch import Watcher
from relay import Relay

from millrace.core.errors import MillraceError
from millrace.core.settings import Settings
from millrace.local.rest import AirflowApi
from millrace.local.stack import down, up
from millrace.spec import Placed, ProjectTree
from millrace.store import ObjectStore, open_store

RIGHTS = ("least", "admin")
"""rbac.yaml's, and all of them: a right that is missing can hide a fault."""
LIMIT_S = 400


class PodSite:
    """A running Airflow, and the namespace in which its pods are."""

    def __init__(
        self, cluster: Cluster, namespace: str, tree: ProjectTree, settings: Settings, gate: Relay, watcher: Watcher
    ) -> None:
        self.cluster, self.namespace, self.tree, self.settings = cluster, namespace, tree, settings
        self.gate, self.watcher = gate, watcher
        self.running = up(tree, settings)

    @property
    def api(self) -> AirflowApi:
        """Airflow's REST API."""
        return self.running.api

    @cached_property
    def objects(self) -> ObjectStore:
        """The store that tasks and pods share."""
        return open_store(self.settings.store)

    def heal(self) -> None:
        """Start again what was killed, as a restart policy does."""
        self.running = up(self.tree, self.settings)

    def kill(self, *names: str) -> None:
        """kill -9 of Airflow's processes, with the workers that a container would take along."""
        for process in self.running.processes:
            if not names or process.name in names:
                os.killpg(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)

    def pods(self) -> list[Any]:
        """Pods of the namespace, those on their way out too."""
        return list(self.cluster.core.list_namespaced_pod(self.namespace).items)

    def attempts(self, *, run: str | None = None) -> list[dict[str, Any]]:
        """What is on record of pods, of one `<dag>/<run>` or of all."""
        found: list[dict[str, Any]] = []
        for item in list(self.objects.list("requests/")):
            if item.key.endswith("attempts.json"):
                found += json.loads(self.objects.get(item.key))
        return [a for a in found if run in (None, a["run"])]

    def trigger(self, dag: str, **body: Any) -> str:
        """Start a DAG; returns the run's id."""
        return str(self.api.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, **body})["dag_run_id"])

    def state(self, dag: str, run: str) -> str:
        """State of a run, empty while nobody answers."""
        try:
            return str(self.api.call("GET", f"/dags/{dag}/dagRuns/{run}")["state"])
        except MillraceError:
            return ""

    def ended(self, dag: str, run: str, limit_s: float = LIMIT_S) -> str:
        """Wait for a run; returns its state."""
        return str(until(lambda: (s := self.state(dag, run)) in ("success", "failed") and s, f"{dag} {run}", limit_s))

    def log(self, dag: str, run: str, task: str) -> str:
        """The log of a task, of all its tries.

        From the files: of a try that Airflow's scheduler took by itself (see `went_well`) its API knows no log.
        """
        folder = self.settings.home / "airflow" / "logs" / f"dag_id={dag}" / f"run_id={run}" / f"task_id={task}"
        files = sorted(folder.glob("attempt=*.log"))
        return "\n".join(_said(line) for path in files for line in path.read_text().splitlines())


def _said(line: str) -> str:
    """A line of a log as people see it, exceptions included."""
    try:
        said = json.loads(line)
    except ValueError:
        return line
    if not isinstance(said, dict):
        return line
    errors = [f"{each['exc_type']}: {each['exc_value']}" for each in said.get("error_detail") or []]
    return " ".join([str(said.get("event", line)), *errors])


def give_rights(cluster: Cluster, airflow: str, jobs: str) -> None:
    """rbac.yaml, in namespaces of the test."""
    names = {"millrace": airflow, "millrace-jobs": jobs}
    objects = list(yaml.safe_load_all((KUBERNETES / "rbac.yaml").read_text()))
    for each in objects:
        each["metadata"]["namespace"] = names[each["metadata"]["namespace"]]
        for subject in each.get("subjects", ()):
            subject["namespace"] = names[subject["namespace"]]
    cluster.kubectl("apply", "-f", "-", given=objects)


def write_kubeconfigs(cluster: Cluster, gate: Relay, airflow: str, folder: Path) -> dict[str, Path]:
    """One for each of RIGHTS, both by way of the gate."""
    admin = yaml.safe_load(cluster.path.read_text())
    for each in admin["clusters"]:
        each["cluster"]["server"] = f"https://127.0.0.1:{gate.port}"
    spec = {"spec": {"expirationSeconds": 7200}}
    token = cluster.core.create_namespaced_service_account_token("millrace-worker", airflow, spec).status.token
    least = {**admin, "users": [{"name": each["name"], "user": {"token": token}} for each in admin["users"]]}
    found = {}
    for name, content in (("least", least), ("admin", admin)):
        found[name] = folder / f"{name}.kubeconfig"
        found[name].write_text(yaml.safe_dump(content))
        found[name].chmod(0o600)
    return found


@contextmanager
def pod_site(cluster: Cluster, services: Services, airflow: str, namespace: str, folder: Path) -> Iterator[PodSite]:
    """Airflow with its state here, its jobs in `namespace`, and store, registry and MLflow where both reach them.

    What tasks know of the cluster goes through a gate, with the rights of rbac.yaml in the namespace `airflow`.
    """
    keys = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET,
            "PGPASSWORD": services.secret["postgres-password"]}  # fmt: skip
    cluster.core.create_namespaced_secret(namespace, {"metadata": {"name": "keys"}, "stringData": keys})
    give_rights(cluster, airflow, namespace)
    folder.mkdir()
    write_project(folder / "project", namespace, services)
    there = urlsplit(cluster.api.configuration.host)
    before = dict(os.environ)
    watcher = Watcher(cluster, namespace)
    with Relay(str(there.hostname), there.port or 443) as gate:
        files = write_kubeconfigs(cluster, gate, airflow, folder)
        variables = {
            **keys, **recovery(), "MILLRACE_WARM_MODULES": "+millrace.airflow.pods.manifest",
            "AWS_ENDPOINT_URL": services.addresses["s3"], "AWS_REGION": "us-east-1",
            "MILLRACE_STORE": f"{services.addresses['store']}-{namespace}",
            "MILLRACE_MLFLOW": services.addresses["mlflow"],
            "MILLRACE_FEAST_REGISTRY": services.addresses["registry"].replace("+psycopg2", "+psycopg"),
            **{f"AIRFLOW_CONN_KUBERNETES_{name}": json.dumps(
                {"conn_type": "kubernetes", "extra": {"kube_config_path": str(files[rights])}}
            ) for name, rights in (("DEFAULT", "least"), ("ADMIN", "admin"))},
        }  # fmt: skip
        for name in [n for n in before if n.startswith(("MILLRACE_", "AIRFLOW"))]:
            del os.environ[name]
        os.environ.update(variables)
        try:
            tree = ProjectTree(folder / "project")
            settings = Settings.load(folder / "project")
            for name in PIPELINES:
                Placed.of(tree, "dev", name)
            subprocess.run([sys.executable, "-m", "millrace.cli.app", "apply"], cwd=tree.root, check=True)
            watcher.start()
            try:
                site = PodSite(cluster, namespace, tree, settings, gate, watcher)
                dags = [f"{p}__{part}" for p in PIPELINES for part in PARTS if _has(tree, p, part)]
                dags += [f"probe__{name}__{rights}" for name in profiles() for rights in RIGHTS]
                for dag in dags:
                    until(lambda dag=dag: _known(site.api, dag), f"the DAG {dag}")
                    site.api.pause(dag, False)
                yield site
            finally:
                down(settings)
        finally:
            watcher.ended.set()
            os.environ.clear()
            os.environ.update(before)


def _has(tree: ProjectTree, pipeline: str, part: str) -> bool:
    return part != "monitoring" or tree.spec(pipeline).monitoring is not None


def _known(api: AirflowApi, dag: str) -> bool:
    try:
        api.call("GET", f"/dags/{dag}")
    except MillraceError:
        return False
    return True
