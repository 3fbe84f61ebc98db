"""Metrics: an API of resource metrics, served by this process to a cluster that has none, with what a test says."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from chart_cluster import Cluster, until

GROUP = "metrics.k8s.io/v1beta1"
API = "v1beta1.metrics.k8s.io"


class Metrics:
    """What every pod with a label uses: `cpu` of each of its containers, a Kubernetes quantity."""

    def __init__(self, cluster: Cluster, component: str) -> None:
        self.cluster, self.component, self.cpu = cluster, component, "10m"
        self.asked = 0

    def answer(self, path: str) -> dict[str, Any] | None:
        """What the API says to a path; None where there is nothing."""
        path = path.partition("?")[0].rstrip("/")
        if path == f"/apis/{GROUP}":
            kind = {
                "name": "pods",
                "singularName": "",
                "namespaced": True,
                "kind": "PodMetrics",
                "verbs": ["get", "list"],
            }
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP, "resources": [kind]}
        if not (path.startswith(f"/apis/{GROUP}/namespaces/") and path.endswith("/pods")):
            return None
        self.asked += 1
        namespace = path.split("/")[5]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        chosen, used = f"app.kubernetes.io/component={self.component}", {"cpu": self.cpu, "memory": "100Mi"}
        items = [
            {
                "metadata": {"name": pod.metadata.name, "namespace": namespace, "labels": pod.metadata.labels},
                "timestamp": now, "window": "1s",
                "containers": [{"name": c.name, "usage": used} for c in pod.spec.containers],
            }
            for pod in self.cluster.core.list_namespaced_pod(namespace, label_selector=chosen).items
        ]  # fmt: skip
        return {"kind": "PodMetricsList", "apiVersion": GROUP, "metadata": {}, "items": items}

    @contextmanager
    def served(self, host: str, namespace: str, folder: Path) -> Iterator[Metrics]:
        """Let the cluster's API server ask this process, at an address of this machine."""
        server = ThreadingHTTPServer((host, 0), self._handler())
        server.socket = _tls(folder).wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        name = "metrics"
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
                   "spec": {"ports": [{"port": 443, "targetPort": port}]}}  # fmt: skip
        ends = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "namespace": namespace},
                "subsets": [{"addresses": [{"ip": host}], "ports": [{"port": port}]}]}  # fmt: skip
        api = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API},
               "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "insecureSkipTLSVerify": True,
                        "groupPriorityMinimum": 100, "versionPriority": 100,
                        "service": {"name": name, "namespace": namespace, "port": 443}}}  # fmt: skip
        self.cluster.kubectl("apply", "-f", "-", given=[service, ends, api])
        try:
            until(lambda: "True" in self.available(), "the API of metrics to be available", 240)
            yield self
        finally:
            self.cluster.kubectl("delete", f"apiservice/{API}", check=False)
            server.shutdown()
            server.server_close()

    def available(self) -> str:
        """What the cluster says of the API."""
        words = "-o=jsonpath={.status.conditions[*].status} {.status.conditions[*].message}"
        return self.cluster.kubectl("get", f"apiservice/{API}", words, check=False)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        metrics = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = metrics.answer(self.path)
                body = json.dumps(found or {}).encode()
                self.send_response(200 if found else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        return Handler


def there(cluster: Cluster) -> bool:
    """Whether the cluster has resource metrics of its own."""
    return "NotFound" not in cluster.kubectl("get", f"apiservice/{API}", check=False)


def _tls(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "metrics.key", folder / "metrics.crt"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=metrics",
             "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
