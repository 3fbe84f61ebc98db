"""PodSite: the reference project on this machine's Airflow, with its heavy jobs in pods of a real cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from api_gate import ApiGate
from chart_cluster import KUBERNETES, Cluster
from chart_services import S3_KEY, S3_SECRET, Services

from millrace import __version__
from millrace.airflow.pods.labels import run_label
from millrace.cli.local import down, up
from millrace.cli.rest import AirflowApi
from millrace.contract import JobResult
from millrace.errors import MillraceError
from millrace.settings import Settings
from millrace.spec import Placed, ProjectTree
from millrace.store import ObjectStore, open_store

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ("flight_delays", "digits")
PARTS = ("features", "training", "release", "monitoring")
JOBS = ("transform", "build_training_set", "train", "evaluate")
RIGHTS = ("least", "admin")
"""rbac.yaml's, and all of them: a right that is missing can hide a fault."""
IMAGE = f"{os.environ.get('MILLRACE_JOBS_IMAGE', 'millrace-jobs')}:{__version__}"
"""The variable is that of docker-compose.yaml."""
LIMIT_S = 400


def profiles(image: str = IMAGE) -> dict[str, dict[str, Any]]:
    """The ComputeProfiles of the project under test: one that works, and one for each way not to."""
    small = {"cpu": "100m", "memory": "2Gi", "deadline": "PT20M", "schedule_timeout": "PT1M", "startup_timeout": "PT2M"}
    return {
        "small": small,
        "sync": {**small, "deferrable": False},
        "tight": {**small, "memory": "150Mi", "larger": "small"},
        "brief": {**small, "deadline": "PT4S"},
        "nowhere": {**small, "image": f"{image}-that-nobody-built"},
        "huge": {**small, "memory": "90Gi", "schedule_timeout": "PT6S"},
        "gpu": {**small, "gpu": 1, "schedule_timeout": "PT6S"},
        "gpu-or-not": {**small, "gpu": 1, "schedule_timeout": "PT6S", "fallback": "small"},
    }


def recovery() -> dict[str, str]:
    """The settings that docker-compose.yaml ships for what happens when a component dies."""
    common = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["x-environment"]
    return {n: v for n, v in common.items() if n.startswith("AIRFLOW__WORKERS__") or "HEARTBEAT" in n or "ORPHAN" in n}


def write_project(folder: Path, namespace: str, services: Services) -> None:
    """The reference project with two pipelines, one of them with a trainer of its own, and their jobs in pods."""
    from demo import data, media

    for name in ("dags", "plugins", "feature_repo"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder / "dags").glob("*.py"):
        if path.stem not in PIPELINES:
            path.unlink()
    for name in PIPELINES:
        shutil.copytree(ROOT / "include" / "pipelines" / name, folder / "include" / "pipelines" / name)
    shutil.copy(ROOT / "include" / "project.yaml", folder / "include")
    own = folder / "include" / "pipelines" / "digits"
    spec = yaml.safe_load((own / "pipeline.yaml").read_text())
    spec["training"]["learner"] = {"kind": "custom"}
    (own / "pipeline.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    shutil.copy(Path(__file__).with_name("trainer.py"), own)
    write_compute(folder, namespace, services, "kubernetes_default")
    environments = folder / "include" / "environments"
    environments.mkdir()
    placed = {"compute": dict.fromkeys((*JOBS, "score"), "small")}
    environment = {
        "version": 1, "name": "dev", "approval": {"by": "auto"}, "pipelines": dict.fromkeys(PIPELINES, placed),
    }  # fmt: skip
    (environments / "dev.yaml").write_text(yaml.safe_dump(environment))
    admin = folder.with_name("admin")
    shutil.copytree(folder, admin)
    write_compute(admin, namespace, services, "kubernetes_admin")
    shutil.copy(Path(__file__).with_name("probe_dag.py"), folder / "dags" / "probe.py")
    incoming = folder / data.INCOMING
    data.write_planes(incoming)
    for month in ("2013-01", "2013-02"):
        data.write_flights(incoming, month)
        data.write_weather(incoming, month)
    for month in ("2024-01", "2024-02", "2024-03"):
        media.write_digits(incoming, month)


def write_compute(folder: Path, namespace: str, services: Services, connection: str) -> None:
    """The project's compute.yaml."""
    compute = {
        "version": 1, "image": IMAGE, "image_pull_policy": "Never", "namespace": namespace, "connection": connection,
        "service_account": "millrace-job",
        "env": {"AWS_ENDPOINT_URL": services.addresses["s3"], "AWS_REGION": "us-east-1", "TZ": "Pacific/Auckland",
                "LANG": "de_DE.UTF-8"},
        "secrets": {name: {"secret": "keys", "key": name}
                    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD")},
        "profiles": profiles(),
    }  # fmt: skip
    (folder / "include" / "compute.yaml").write_text(yaml.safe_dump(compute))


@dataclass
class Seen:
    """What a watcher saw of one pod."""

    uid: str
    name: str
    run: str
    job: str
    first: float
    phases: list[str] = field(default_factory=list)
    node: str | None = None
    last: float = 0.0


class Watcher(threading.Thread):
    """Looks at the pods of a namespace twice a second, as its administrator and past the gate."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        super().__init__(daemon=True)
        self.cluster, self.namespace = cluster, namespace
        self.seen: dict[str, Seen] = {}
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            try:
                self.look()
            except Exception as err:  # the API server is busy: another look follows
                print(f"watcher: {type(err).__name__}", file=sys.stderr)

    def look(self) -> None:
        """One look."""
        for pod in self.cluster.core.list_namespaced_pod(self.namespace).items:
            meta, labels = pod.metadata, pod.metadata.labels or {}
            seen = self.seen.setdefault(
                meta.uid,
                Seen(meta.uid, meta.name, labels.get("millrace.io/run", ""), labels.get("millrace.io/job", ""),
                     time.monotonic()),
            )  # fmt: skip
            seen.last, seen.node = time.monotonic(), pod.spec.node_name
            if not seen.phases or seen.phases[-1] != pod.status.phase:
                seen.phases.append(pod.status.phase)


class PodSite:
    """A running Airflow, and the namespace in which its pods are."""

    def __init__(
        self, cluster: Cluster, namespace: str, tree: ProjectTree, settings: Settings, gate: ApiGate, watcher: Watcher
    ) -> None:
        self.cluster, self.namespace, self.tree, self.settings = cluster, namespace, tree, settings
        self.gate, self.watcher = gate, watcher
        self.running = up(tree, settings)

    @property
    def api(self) -> AirflowApi:
        """Airflow's REST API."""
        return self.running.api

    @property
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

    def log(self, dag: str, run: str, task: str, number: int = 1) -> str:
        """The log of a task's try."""
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{number}?full_content=true"
        content = self.api.call("GET", path)["content"]
        return "\n".join(_said(line) for line in content)


@dataclass
class Probe:
    """One training in a pod, through a DAG of that one task."""

    site: PodSite
    profile: str
    rights: str
    run: str

    @property
    def dag(self) -> str:
        return f"probe__{self.profile}__{self.rights}"

    def pods(self) -> list[Seen]:
        """All pods that were ever seen of this run."""
        label = run_label(self.dag, self.run)
        return sorted((s for s in self.site.watcher.seen.values() if s.run == label), key=lambda s: s.first)

    def at_work(self) -> bool:
        """Whether its pod runs."""
        return any(s.phases[-1] == "Running" for s in self.pods())

    def task(self) -> dict[str, Any]:
        """Its task instance."""
        found: dict[str, Any] = self.site.api.call("GET", f"/dags/{self.dag}/dagRuns/{self.run}/taskInstances/train")
        return found

    def tries(self) -> int:
        return int(self.task()["try_number"])

    def ended(self) -> str:
        return self.site.ended(self.dag, self.run)

    def log(self) -> str:
        """Of all tries."""
        return "\n".join(self.site.log(self.dag, self.run, "train", n + 1) for n in range(self.tries()))

    def attempts(self) -> list[dict[str, Any]]:
        return self.site.attempts(run=f"{self.dag}/{self.run}")

    def request(self) -> dict[str, Any]:
        """The request that its pods were given."""
        for item in list(self.site.objects.list("requests/")):
            if item.key.endswith("request.json"):
                found: dict[str, Any] = json.loads(self.site.objects.get(item.key))
                if (found["run"]["dag_id"], found["run"]["run_id"]) == (self.dag, self.run):
                    return found
        raise AssertionError(f"no request of {self.dag} {self.run}")

    def result(self) -> JobResult:
        """The stored result of its request."""
        return JobResult.parse(self.site.objects.get(self.request()["place"]["result"]))


def _said(line: Any) -> str:
    """A line of a log as people see it, exceptions included."""
    if not isinstance(line, dict):
        return str(line)
    errors = [f"{each['exc_type']}: {each['exc_value']}" for each in line.get("error_detail") or []]
    return " ".join([str(line.get("event", line)), *errors])


def until(answer: Callable[[], Any], what: str, limit_s: float = 120) -> Any:
    """The first true answer. Fails naming what was waited for."""
    end = time.monotonic() + limit_s
    while not (found := answer()):
        assert time.monotonic() < end, f"waited {limit_s:.0f} s for {what}"
        time.sleep(0.5)
    return found


def give_rights(cluster: Cluster, airflow: str, jobs: str) -> None:
    """rbac.yaml, in namespaces of the test."""
    names = {"millrace": airflow, "millrace-jobs": jobs}
    objects = list(yaml.safe_load_all((KUBERNETES / "rbac.yaml").read_text()))
    for each in objects:
        each["metadata"]["namespace"] = names[each["metadata"]["namespace"]]
        for subject in each.get("subjects", ()):
            subject["namespace"] = names[subject["namespace"]]
    cluster.kubectl("apply", "-f", "-", given=objects)


def write_kubeconfigs(cluster: Cluster, gate: ApiGate, airflow: str, folder: Path) -> dict[str, Path]:
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
    with ApiGate(str(there.hostname), there.port or 443) as gate:
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
