"""Chart: helm on the project's own chart, with values that a site would give."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from chart_cluster import KUBERNETES

CHART = KUBERNETES / "chart"
LIMIT_S = 900
NO_SERVER = ("--kube-version", "1.34.0")
"""For what asks no API server: a helm that Go built by itself takes Kubernetes to be 1.20."""
SITE = {
    "services": {
        "airflow": "postgresql+psycopg2://airflow@db.example:5432/airflow",
        "ledger": "postgresql+psycopg://millrace@db.example/millrace?sslmode=require",
        "registry": "postgresql+psycopg://millrace@db.example:6432/feast",
        "online": "redis://cache.example:6379/0",
        "mlflow": "https://mlflow.example",
        "store": "s3://millrace/store",
        "logs": "s3://millrace/logs",
        "s3": "http://s3.example:7070",
    },
    "secret": "millrace",
}
"""The least that a site says."""


def helm() -> str | None:
    """The helm command: what MILLRACE_HELM names, else on PATH."""
    return os.environ.get("MILLRACE_HELM") or shutil.which("helm")


class Helm:
    """Runs helm; with the cluster's kubeconfig where one is given, else it can only render."""

    def __init__(self, binary: str, home: Path, kubeconfig: Path | None = None) -> None:
        self.binary = binary
        variables = {f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), **variables}
        self.env["KUBECONFIG"] = str(kubeconfig or home / "none")

    def __call__(self, *words: str, values: dict[str, Any] | None = None) -> str:
        """What helm says. Raises AssertionError with its message."""
        done = self.run(*words, values=values)
        assert done.returncode == 0, f"helm {' '.join(words)}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
        return done.stdout

    def run(self, *words: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Run helm; `values` are laid over the chart's own."""
        given = [] if values is None else ["--values", "-"]
        return subprocess.run(
            [self.binary, *words, *given],
            input=None if values is None else json.dumps(values),
            env=self.env, capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip

    def render(self, values: dict[str, Any] = SITE, release: str = "m", namespace: str = "airflow") -> list[Any]:
        """All objects of a release, hooks too."""
        text = self("template", release, str(CHART), "--namespace", namespace, *NO_SERVER, values=values)
        return [each for each in yaml.safe_load_all(text) if each]

    def refuses(self, values: dict[str, Any]) -> str:
        """What it says when the values are wrong. Raises AssertionError where it takes them."""
        done = self.run("template", "m", str(CHART), "--namespace", "airflow", *NO_SERVER, values=values)
        assert done.returncode != 0, "the values were taken"
        return done.stderr


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid over it, as helm does."""
    out = dict(base)
    for key, value in over.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def pods(objects: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod template of everything that makes pods."""
    for each in objects:
        if each["kind"] in ("Deployment", "Job", "StatefulSet", "DaemonSet"):
            yield each["metadata"]["name"], each["spec"]["template"]


def of_kind(objects: list[Any], kind: str) -> list[Any]:
    """The objects of a kind."""
    return [each for each in objects if each["kind"] == kind]


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector (matchLabels, matchExpressions with In and NotIn) selects labels."""
    plain = all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())
    return plain and all(
        (labels.get(e["key"]) in e["values"]) is {"In": True, "NotIn": False}[e["operator"]]
        for e in selector.get("matchExpressions", ())
    )
