"""Cluster: what the tests of this folder ask of a Kubernetes API server."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client.rest import ApiException

from kubernetes import client, config

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "include" / "kubernetes"
CONFIRM = "MILLRACE_TEST_CLUSTER"
"""Must be 1: a kubeconfig alone may be that of a cluster which people work on."""
NO_CLUSTER = f"no cluster: set KUBECONFIG to that of an administrator, and {CONFIRM}=1 if tests may use his cluster"


def kubeconfig() -> Path | None:
    """The kubeconfig that tests may use, None where there is none."""
    path = os.environ.get("KUBECONFIG")
    return Path(path) if path and os.environ.get(CONFIRM) == "1" and Path(path).is_file() else None


class Cluster:
    """One cluster, reached through its kubeconfig."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def api(self) -> client.ApiClient:
        """A client with the rights of the kubeconfig."""
        return config.new_client_from_config(str(self.path))

    @property
    def core(self) -> client.CoreV1Api:
        """Its core API."""
        return client.CoreV1Api(self.api)

    def kubectl(self, *words: str, given: object = None, check: bool = True) -> str:
        """Run kubectl and return what it says; `given` goes to its standard input, as YAML where it is no text."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(self.path), *words],
            input=given if isinstance(given, str) or given is None else documents(given),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0 or not check, f"kubectl {' '.join(words)}: {done.stderr[-2000:]}"
        return done.stdout if check else done.stdout + done.stderr

    def make_namespace(self, kind: str, labels: Mapping[str, str] | None = None) -> str:
        """Make a namespace; labels' names are written with _ for - and given the Pod Security prefix."""
        name = f"t-{kind}-{uuid.uuid4().hex[:8]}"
        marks = {f"pod-security.kubernetes.io/{k.replace('_', '-')}": v for k, v in (labels or {}).items()}
        self.core.create_namespace({"metadata": {"name": name, "labels": marks}})
        return name

    def drop_namespace(self, name: str) -> None:
        """Remove a namespace; does not wait for it to be gone."""
        try:
            self.core.delete_namespace(name, grace_period_seconds=0)
        except ApiException as err:
            if err.status != 404:
                raise

    def as_account(self, namespace: str, account: str) -> client.ApiClient:
        """A client that has the token of a service account and nothing else."""
        token = self.core.create_namespaced_service_account_token(account, namespace, {"spec": {}}).status.token
        admin = self.api.configuration
        mine = client.Configuration()
        mine.host, mine.ssl_ca_cert, mine.verify_ssl = admin.host, admin.ssl_ca_cert, admin.verify_ssl
        mine.api_key = {"authorization": f"Bearer {token}"}
        return client.ApiClient(mine)


def documents(given: Any) -> str:
    """YAML of one object or of several."""
    return yaml.safe_dump_all(given if isinstance(given, list) else [given])


def until(answer: Callable[[], Any], what: str, limit_s: float = 120) -> Any:
    """The first true answer. Fails naming what was waited for."""
    end = time.monotonic() + limit_s
    while not (found := answer()):
        assert time.monotonic() < end, f"waited {limit_s:.0f} s for {what}"
        time.sleep(0.3)
    return found
