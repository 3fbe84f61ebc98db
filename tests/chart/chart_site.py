"""Site: one release of the chart with its project, services and Secret, and the way to its Airflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from chart_cluster import ROOT, Cluster, until
from chart_helm import CHART, Helm, merged
from chart_services import BUCKET, S3_KEY, S3_SECRET, Services

from millrace import __version__
from millrace.core.errors import MillraceError
from millrace.local.rest import AirflowApi

PIPELINE = "flight_delays"
MONTHS = ("2013-01", "2013-02", "2013-03", "2013-04", "2013-05")
PARTS = ("features", "training", "release", "monitoring")
DAG = {part: f"{PIPELINE}__{part}" for part in PARTS}
RELEASE = "m"
USER_ID = 54321
"""An arbitrary one: no image knows it."""
SMALL = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}}


def image(name: str) -> str:
    """An image's name without its tag; the variables are those of docker-compose."""
    return os.environ.get(f"MILLRACE_{name.upper()}_IMAGE", f"millrace-{name}")


def images_missing(cluster: Cluster, namespace: str, names: tuple[str, ...] = ("platform", "jobs")) -> list[str]:
    """The images that the cluster does not have, found by starting them: a node tells only of some, and late.

    A registry is not asked: tests pull nothing.
    """
    return [wanted for name in names if not _starts(cluster, namespace, wanted := f"{image(name)}:{__version__}")]


def restricted_pod(name: str, of: str, command: list[str], **labels: str) -> dict[str, Any]:
    """A pod of one command that `restricted` admits, from an image that the node has."""
    container = {
        "name": "run", "image": of, "imagePullPolicy": "Never", "command": command,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    security = {"runAsNonRoot": True, "runAsUser": 4711, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "securityContext": security,
            "containers": [container]}  # fmt: skip
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def _starts(cluster: Cluster, namespace: str, of: str) -> bool:
    name = f"has-{of.partition(':')[0].replace('/', '-')}"
    cluster.core.create_namespaced_pod(namespace, restricted_pod(name, of, ["true"]))

    def end() -> str | None:
        status = cluster.core.read_namespaced_pod(name, namespace).status
        waiting = [c.state.waiting.reason for c in status.container_statuses or () if c.state.waiting]
        return (
            status.phase if status.phase in ("Succeeded", "Failed") else next((w for w in waiting if "Err" in w), None)
        )

    try:
        return bool(until(end, f"a container of {of}", 180) == "Succeeded")
    except AssertionError as err:
        events = cluster.kubectl("-n", namespace, "get", "events", "-o", "custom-columns=:.message", check=False)
        raise AssertionError(f"{err}: {events.strip()[-500:]}") from None
    finally:
        cluster.core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)


class Site:
    """A release in a namespace that admits restricted pods only."""

    def __init__(self, cluster: Cluster, helm: Helm, services: Services, folder: Path, namespace: str) -> None:
        self.cluster, self.helm, self.services, self.folder, self.namespace = cluster, helm, services, folder, namespace
        self.jobs = f"{namespace}-jobs"
        self.classes = {name: f"{namespace}-{name}" for name in ("platform", "jobs", "spot")}

    def values(self, **more: Any) -> dict[str, Any]:
        """What this site says to the chart."""
        block = [{"ipBlock": {"cidr": f"{self.services.host}/32"}}]
        values = {
            "services": self.services.addresses,
            "secret": "millrace",
            "images": {"platform": {"repository": image("platform"), "tag": __version__, "pullPolicy": "Never"}},
            "project": {"environment": "cluster", "volume": {"configMap": {"name": "project", "items": self._items()}}},
            "apiServer": {"replicas": 1, "resources": SMALL},
            "scheduler": {"parallelism": 2, "slots": 1, "gracePeriodSeconds": 20, "resources": SMALL},
            "dagProcessor": {"resources": SMALL},
            "triggerer": {"replicas": 1, "resources": SMALL},
            "migrate": {"resources": SMALL},
            "pods": {"runAsUser": USER_ID},
            "jobs": {"namespace": self.jobs, "nodesReadable": True},
            "priorityClasses": {
                name: {"name": full, "value": 1000 * (3 - n)} for n, (name, full) in enumerate(self.classes.items())
            },
            "network": {"to": {name: block for name in ("database", "online", "mlflow", "s3")}},
        }
        return merged(values, more)

    def prepare(self) -> None:
        """Deliver the data, and make what the chart expects to find: the Secret and the project's tree."""
        self._deliver()
        core = self.cluster.core
        core.create_namespaced_secret(self.namespace, secret("millrace", self.services.secret))
        tree = self._tree()
        files = {key(path.relative_to(tree)): path.read_text() for path in sorted(tree.rglob("*")) if path.is_file()}
        core.create_namespaced_config_map(self.namespace, {"metadata": {"name": "project"}, "data": files})

    def install(self, **more: Any) -> float:
        """`helm install`, which waits until all is ready; gives the seconds."""
        return self._helm("install", more)

    def upgrade(self, **more: Any) -> float:
        """`helm upgrade` with other values; gives the seconds."""
        return self._helm("upgrade", more)

    def give_jobs_their_keys(self) -> None:
        """The Secret of the pods of jobs, in the namespace that the chart made."""
        keys = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET}
        self.cluster.core.create_namespaced_secret(self.jobs, secret("millrace-store", keys))

    def uninstall(self) -> None:
        """`helm uninstall`, which waits until all is gone."""
        self.helm("uninstall", RELEASE, "--namespace", self.namespace, "--wait", "--timeout", "5m")

    @contextmanager
    def airflow(self) -> Iterator[AirflowApi]:
        """Airflow's REST API, through a port of this machine."""
        forward = subprocess.Popen(
            ["kubectl", "--kubeconfig", str(self.cluster.path), "--namespace", self.namespace, "port-forward",
             f"service/{RELEASE}-api-server", ":8080"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert forward.stdout is not None
            found = re.search(r":(\d+) ->", forward.stdout.readline())
            assert found, "kubectl port-forward said no port"
            password = self.services.secret["admin-password"]
            yield AirflowApi(f"http://127.0.0.1:{found[1]}", "admin", password)
        finally:
            forward.terminate()
            forward.wait(10)

    def explain(self) -> str:
        """Pods, their last lines and the namespaces' events, for the message of a failed test."""
        said = []
        for namespace in (self.namespace, self.jobs):
            said.append(self.cluster.kubectl("-n", namespace, "get", "pods", "-o", "wide", check=False))
            said.append(
                self.cluster.kubectl("-n", namespace, "get", "events", "--sort-by=.lastTimestamp", check=False)[-3000:]
            )
        for component in ("migrate", "scheduler", "api-server", "dag-processor", "triggerer"):
            chosen = f"app.kubernetes.io/component={component}"
            logs = self.cluster.kubectl("-n", self.namespace, "logs", "-l", chosen, "--tail=30", check=False)
            said.append(f"--- {component}\n{logs[-3000:]}")
        return "\n".join(said)

    def _helm(self, action: str, more: dict[str, Any]) -> float:
        began = time.monotonic()
        done = self.helm.run(action, RELEASE, str(CHART), "--namespace", self.namespace, "--wait", "--timeout", "10m",
                             values=self.values(**more))  # fmt: skip
        assert done.returncode == 0, f"helm {action}: {done.stderr[-1500:]}\n{self.explain()}"
        return time.monotonic() - began

    def _items(self) -> list[dict[str, str]]:
        tree = self._tree()
        paths = sorted(path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
        return [{"key": key(path), "path": str(path)} for path in paths]

    def _tree(self) -> Path:
        """The reference project with its flights alone, delivered to S3, and trainings in pods."""
        tree = self.folder / "project"
        if tree.exists():
            return tree
        for name in ("dags", "plugins", "feature_repo"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "include" / "pipelines" / PIPELINE, tree / "include" / "pipelines" / PIPELINE)
        shutil.copy(ROOT / "include" / "project.yaml", tree / "include")
        for folder in ("dags", "feature_repo"):
            for file in (tree / folder).glob("*.py"):
                if file.stem != PIPELINE:
                    file.unlink()
        spec = tree / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
        text = spec.read_text().replace("kind: files", "kind: s3")
        spec.write_text(text.replace(".millrace/incoming/", f"s3://{BUCKET}/incoming/"))
        (tree / "include" / "environments").mkdir()
        (tree / "include" / "environments" / "cluster.yaml").write_text(yaml.safe_dump(self._environment()))
        (tree / "include" / "compute.yaml").write_text(yaml.safe_dump(self._compute()))
        return tree

    def _environment(self) -> dict[str, Any]:
        return {
            "version": 1,
            "name": "cluster",
            "approval": {"by": "auto"},
            "pipelines": {PIPELINE: {"compute": {"train": "small", "evaluate": "small"}}},
        }

    def _compute(self) -> dict[str, Any]:
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        return {
            "version": 1,
            "image": f"{image('jobs')}:{__version__}",
            "image_pull_policy": "Never",
            "namespace": self.jobs,
            "env": {"AWS_ENDPOINT_URL": self.services.addresses["s3"], "AWS_DEFAULT_REGION": "us-east-1"},
            "secrets": {name: {"secret": "millrace-store", "key": name} for name in keys},
            "profiles": {
                "small": {"cpu": "250m", "memory": "2Gi", "scratch": "2Gi", "priority_class": self.classes["jobs"]}
            },
        }

    def _deliver(self) -> None:
        import boto3

        sys.path.insert(0, str(ROOT))
        from demo import data

        incoming = self.folder / "incoming"
        data.write_planes(incoming)
        for month in MONTHS:
            data.write_flights(incoming, month)
            data.write_weather(incoming, month)
        s3 = boto3.client(
            "s3", endpoint_url=self.services.addresses["s3"], aws_access_key_id=S3_KEY,
            aws_secret_access_key=S3_SECRET, region_name="us-east-1",
        )  # fmt: skip
        if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:  # other tests share the server
            s3.create_bucket(Bucket=BUCKET)
        for path in sorted(incoming.rglob("*.csv")):
            s3.upload_file(str(path), BUCKET, f"incoming/{path.relative_to(incoming)}")


def key(path: Path) -> str:
    """A path as a key of a ConfigMap."""
    return str(path).replace("/", "__")


def secret(name: str, values: dict[str, str]) -> dict[str, Any]:
    """A Secret."""
    return {"metadata": {"name": name}, "stringData": values}


def known(api: AirflowApi, dag_id: str) -> bool:
    """Whether a DAG was parsed. Fails on an import error."""
    try:
        problems = api.call("GET", "/importErrors")["import_errors"]
        assert not problems, json.dumps(problems)[:2000]
        api.call("GET", f"/dags/{dag_id}")
    except MillraceError:
        return False
    return True


def runs(api: AirflowApi, part: str) -> list[dict[str, Any]]:
    """All runs of a part's DAG."""
    found: list[dict[str, Any]] = api.call("GET", f"/dags/{DAG[part]}/dagRuns?limit=100")["dag_runs"]
    return found


def ended(api: AirflowApi, part: str, count: int) -> bool:
    """Whether at least so many runs are there and none is at work."""
    found = runs(api, part)
    return len(found) >= count and all(r["state"] in ("success", "failed") for r in found)


def states(api: AirflowApi) -> str:
    """State of every task of the last runs."""
    lines = []
    for dag in DAG.values():
        for run in api.call("GET", f"/dags/{dag}/dagRuns?limit=4&order_by=-id")["dag_runs"]:
            tasks = api.call("GET", f"/dags/{dag}/dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"]
            lines.append(f"{run['dag_run_id']}: " + ", ".join(f"{t['task_id']}={t['state']}" for t in tasks))
    return "\n".join(lines)
