"""Watcher: sees every pod of a namespace, and what became of it."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field

from chart_cluster import Cluster


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
