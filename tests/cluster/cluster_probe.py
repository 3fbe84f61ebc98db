"""Probe: one training in a pod, to be disturbed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cluster_site import PodSite
from cluster_watch import Seen

from millrace.airflow.pods.labels import run_label
from millrace.contract import JobResult


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
        return self.site.log(self.dag, self.run, "train")

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
