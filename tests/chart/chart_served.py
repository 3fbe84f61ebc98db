"""Served: the chart's prediction server on a cluster whose node is this machine, with a store, an online store and
claims that the test can look into."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis
from chart_cluster import Cluster, until
from chart_helm import SITE, Helm, merged
from chart_services import BUCKET, S3_KEY, S3_SECRET, store_and_online
from chart_site import image
from support.served import Served

from millrace import __version__
from millrace.online.redis import value_of
from millrace.serving.log import read
from millrace.store.served import unpack

RELEASE = "m"
NAME = f"{RELEASE}-serving"
REPLICAS = 4
"""For so many there are volumes."""


class ServedRelease:
    """The server's objects of a release, and nothing of Airflow's."""

    def __init__(self, cluster: Cluster, helm: Helm, namespace: str, served: Served, folder: Path) -> None:
        self.cluster, self.helm, self.namespace, self.served, self.folder = cluster, helm, namespace, served, folder
        self.token = secrets.token_urlsafe(32)
        self.services: dict[str, str] = {}

    @contextmanager
    def running(self, host: str, s3_endpoint: str) -> Iterator[ServedRelease]:
        """Start what it finds by address, give it volumes, and install it with two replicas."""
        with ExitStack() as stack:
            found = stack.enter_context(store_and_online(host, s3_endpoint, self.folder))
            prefix = f"s3://{BUCKET}/{self.namespace}"
            self.services = {"store": prefix, "online": f"redis://{host}:{found.redis}/0",
                             "s3": f"http://{host}:{found.s3}"}  # fmt: skip
            self._fill_store()
            self._fill_online(found.secret["redis-password"])
            digest = hashlib.sha256(self.token.encode()).hexdigest()
            callers = json.dumps({"test": {"sha256": digest, "pipelines": ["*"], "tester": True}})
            for name, data in (("millrace", found.secret), ("callers", {"tokens": callers})):
                self.cluster.core.create_namespaced_secret(
                    self.namespace, {"metadata": {"name": name}, "stringData": data}
                )
            stack.callback(self._drop_volumes)
            self._make_volumes()
            self.install()
            yield self

    def values(self, **serving: Any) -> dict[str, Any]:
        """What this site says to the chart."""
        own = {
            "enabled": True, "tokens": "callers", "workers": 1, "memoryMb": 128, "leaveSeconds": 3, "drainSeconds": 10,
            "log": {"size": "1Gi", "storageClass": self.namespace},
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        }  # fmt: skip
        more = {
            "services": self.services, "secret": "millrace", "serving": merged(own, serving),
            "images": {"serving": {"repository": image("serving"), "tag": __version__, "pullPolicy": "Never"}},
            "pods": {"runAsUser": 54321}, "priorityClasses": {"create": False},
        }  # fmt: skip
        return merged(SITE, more)

    def objects(self, **serving: Any) -> list[Any]:
        """What the chart makes for the server."""
        made = self.helm.render(self.values(**serving), release=RELEASE, namespace=self.namespace)
        return [o for o in made if "serving" in o["metadata"]["name"]]

    def install(self, wait: int | None = 2, **serving: Any) -> None:
        """Apply its objects, and wait until so many replicas are ready."""
        self.cluster.kubectl("apply", "-f", "-", given=self.objects(**serving))
        if wait is not None:
            until(lambda: self.ready() == wait, f"{wait} replicas to be ready\n{self.explain()}", 240)

    def ready(self) -> int:
        """How many replicas are ready, where no other is there."""
        found = self.pods()
        good = [p for p in found if any(c.type == "Ready" and c.status == "True" for c in p.status.conditions or ())
                and p.metadata.deletion_timestamp is None]  # fmt: skip
        return len(good) if len(good) == len(found) else -1

    def pods(self) -> list[Any]:
        """The server's pods."""
        chosen = f"app.kubernetes.io/component=serving,app.kubernetes.io/instance={RELEASE}"
        found: list[Any] = self.cluster.core.list_namespaced_pod(self.namespace, label_selector=chosen).items
        return found

    @property
    def address(self) -> str:
        """The Service's, which this machine reaches as the cluster's node."""
        return f"http://{self.cluster.core.read_namespaced_service(NAME, self.namespace).spec.cluster_ip}:8800"

    def ask(self, vehicle: str = "v1", token: str | None = None, **options: Any) -> httpx.Response:
        """A prediction, over a connection of its own."""
        said = {"authorization": f"Bearer {token or self.token}"}
        body = {"entities": [{"vehicle": vehicle}], **options}
        return httpx.post(f"{self.address}/predict/trips", json=body, headers=said, timeout=10)

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Write objects into the store that the servers follow; see `support.recorded.Place`."""
        for key, data in objects.items():
            self._s3().put_object(Bucket=BUCKET, Key=f"{self.namespace}/{key}", Body=data)

    def get(self, prefix: str) -> dict[str, bytes]:
        """Objects of that store below a prefix."""
        s3, root = self._s3(), f"{self.namespace}/"
        listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=root + prefix).get("Contents", [])
        keys = [each["Key"] for each in listed]
        return {key.removeprefix(root): s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}

    def logged(self) -> list[dict[str, Any]]:
        """All records: those on the claims, and those that were shipped, each once."""
        found = {}
        for path in sorted(self.folder.glob("claims/*/**/*")):
            if path.suffix in (".open", ".segment"):
                try:
                    found.update({r["id"]: r for r in map(json.loads, read(path)) if r["role"] != "shadow"})
                except FileNotFoundError:
                    continue  # shipped meanwhile, and so found below
        for key in self.shipped():
            for line in unpack(self._s3().get_object(Bucket=BUCKET, Key=key)["Body"].read(), key):
                found.update({r["id"]: r for r in [json.loads(line)]})
        return list(found.values())

    def shipped(self) -> list[str]:
        """Keys of what has reached the store."""
        listed = self._s3().list_objects_v2(Bucket=BUCKET, Prefix=f"{self.namespace}/served/").get("Contents", [])
        return [each["Key"] for each in listed]

    def explain(self) -> str:
        """Pods, events and last lines, for the message of a failed test."""
        words = [("get", "pods,pvc,hpa"), ("get", "events", "--sort-by=.lastTimestamp"),
                 ("logs", "-l", "app.kubernetes.io/component=serving", "--tail=30"),
                 ("logs", "-l", "app.kubernetes.io/component=serving-ship", "--tail=30")]  # fmt: skip
        said = [self.cluster.kubectl("-n", self.namespace, *each, check=False)[-3000:] for each in words]
        return "\n".join(said)

    def _s3(self) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=self.services["s3"], aws_access_key_id=S3_KEY,
                            aws_secret_access_key=S3_SECRET, region_name="us-east-1")  # fmt: skip

    def _fill_store(self) -> None:
        s3, root = self._s3(), Path(self.served.store)
        if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(Bucket=BUCKET)
        for prefix in ("models", "deployments", "plans"):
            for path in sorted((root / prefix).rglob("*")):
                if path.is_file():
                    s3.upload_file(str(path), BUCKET, f"{self.namespace}/{path.relative_to(root)}")

    def _fill_online(self, password: str) -> None:
        client = redis.Redis.from_url(self.services["online"], password=password)
        with sqlite3.connect(self.served.online) as rows:
            for view in self.served.views:
                for key, event, features in rows.execute(f'SELECT entity_key, event_us, features FROM "{view.table}"'):
                    client.hset(view.table, key, value_of((event, 0, 0), features))
        client.close()

    def _make_volumes(self) -> None:
        """Folders of this machine as volumes of a storage class of its own: the cluster provisions none."""
        made = []
        for number in range(REPLICAS):
            place = self.folder / "claims" / str(number)
            place.mkdir(parents=True)
            place.chmod(0o777)
            claim = {"name": f"log-{NAME}-{number}", "namespace": self.namespace}
            made.append({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{self.namespace}-{number}"},
                "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": claim,
                         "storageClassName": self.namespace, "persistentVolumeReclaimPolicy": "Retain",
                         "hostPath": {"path": str(place)}},
            })  # fmt: skip
        self.cluster.kubectl("apply", "-f", "-", given=made)

    def _drop_volumes(self) -> None:
        names = [f"persistentvolume/{self.namespace}-{number}" for number in range(REPLICAS)]
        self.cluster.kubectl("delete", "--wait=false", *names, check=False)
