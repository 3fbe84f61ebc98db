"""What was asked of the cluster for a request, and how each pod ended: kept in the store, so that any try can go on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from millrace.airflow.pods.causes import NoGPU, OutOfMemory, PodFailed
from millrace.contract import JobRequest, JobResult
from millrace.core.errors import NotFound
from millrace.spec.compute import Compute
from millrace.store import ObjectStore, layout

MEMORY, CAPACITY = "memory", "capacity"


def gpu_limits(asked: str, used: str, compute: Compute) -> dict[str, str]:
    """The GPUs of the profile that was asked for, and whether the job runs in a fallback without them."""
    wanted, given = compute.profiles[asked].gpu, compute.profiles[used].gpu
    if not wanted and not given:
        return {}
    return {"gpus": str(max(wanted, given)), **({"gpu_fallback": "cpu"} if given < wanted else {})}


@dataclass
class Attempts:
    """Attempts at one request, oldest first: {run, profile, end, given_up}."""

    objects: ObjectStore
    request: JobRequest
    made: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, objects: ObjectStore, request: JobRequest) -> Attempts:
        """What is on record."""
        found = cls(objects, request)
        try:
            found.made = json.loads(objects.get(found._key))
        except (NotFound, ValueError):
            pass
        return found

    @property
    def _key(self) -> str:
        return layout.attempts(self.request.run.pipeline, self.request.request_digest)

    def _ends(self) -> list[tuple[str, str]]:
        """(profile, how it ended) of this run's attempts: another run may find more memory or a GPU."""
        run = self.request.run
        return [(a["profile"], a.get("end", "")) for a in self.made if a["run"] == f"{run.dag_id}/{run.run_id}"]

    def profile(self, asked: str, compute: Compute) -> str:
        """The profile for the next pod: a larger one after a lack of memory, the fallback after one of GPUs."""
        name = asked
        for profile, end in self._ends():
            if profile == name and end == MEMORY:
                name = compute.profiles[name].larger or name
            elif profile == name and end == CAPACITY:
                name = compute.profiles[name].fallback or name
        return name

    def ask(self, request: JobRequest, profile: str, limits: dict[str, str]) -> None:
        """Put the request where the pod finds it, and forget an earlier error, which the pod's own result replaces."""
        means = request.means.model_copy(update={"profile": profile, "limits": {**request.means.limits, **limits}})
        asked = request.model_copy(update={"means": means})
        self.objects.put(layout.request(request.run.pipeline, request.request_digest), asked.model_dump_json().encode())
        key = request.place.result
        if key is not None:
            try:
                stale = JobResult.parse(self.objects.get(key)).outcome is None
            except NotFound:
                stale = False
            if stale and not self.open:
                self.objects.delete(key)
        if not self.open:
            run = request.run
            self.made.append({"run": f"{run.dag_id}/{run.run_id}", "try": run.try_number, "profile": profile})
            self._write()

    @property
    def open(self) -> bool:
        """Whether the last attempt was not seen to end: its pod may be at work, and is taken up."""
        return bool(self.made) and "end" not in self.made[-1]

    def end(self, pod: Any, cause: Exception | None, result: JobResult | None) -> None:
        """Note how the last pod ended, and what it took."""
        if not self.made:
            return
        last = self.made[-1]
        if result is not None and result.outcome is not None:
            last["end"] = "outcome"
        elif isinstance(cause, OutOfMemory) or (result and result.error and result.error.retry == "larger"):
            last["end"] = MEMORY
        elif type(cause).__name__ == "NoCapacity":
            last["end"] = CAPACITY
        else:
            left = result is not None and result.error is not None and result.error.retry == "resume"
            if left and not isinstance(cause, PodFailed):
                last["end"] = "Interrupted"
            else:
                last["end"] = type(cause).__name__ if cause else "gone"
        if pod is not None:
            statuses = pod.status.container_statuses or []
            last |= {"pod": pod.metadata.name, "node": pod.spec.node_name,
                     "image": statuses[0].image_id if statuses else None}  # fmt: skip
        self._write()

    def give_up(self, why: str, max_tries: int) -> None:
        """Note that no other try would help; `max_tries` is the task's, which a person's clear raises."""
        if self.made:
            self.made[-1]["given_up"] = {"why": why, "max_tries": max_tries}
            self._write()

    def given_up(self, max_tries: int) -> str | None:
        """Why this run's task ended for good, None where it did not or was cleared since.

        Airflow's scheduler may try such a task again by itself: where it reads the executor's word of a deferral only
        after the trigger has fired.
        """
        run = self.request.run
        if not self.made or self.made[-1]["run"] != f"{run.dag_id}/{run.run_id}":
            return None
        ended = self.made[-1].get("given_up")
        return ended["why"] if ended and ended["max_tries"] == max_tries else None

    def _write(self) -> None:
        self.objects.put(self._key, json.dumps(self.made, indent=1).encode())

    def after_memory(self, asked: str, compute: Compute, why: str) -> Exception:
        """What to raise: once the larger profile is tried, then it ends."""
        used = self.made[-1]["profile"] if self.made else asked
        following = compute.profiles[used].larger
        tried = sum(end == MEMORY for _, end in self._ends())
        if following is None or tried > 1:
            return PodFailed(f"{why}, with profile '{used}' (memory {compute.profiles[used].memory})"
                             + ("" if following else "; it names no larger one"))  # fmt: skip
        return OutOfMemory(f"{why} with profile '{used}'; the next try takes '{following}'")

    def after_capacity(self, asked: str, compute: Compute, why: Exception) -> Exception:
        """What to raise: a GPU profile with a fallback tries that, others end."""
        used = self.made[-1]["profile"] if self.made else asked
        fallback = compute.profiles[used].fallback
        return NoGPU(f"{why}; the next try takes '{fallback}'") if fallback else why
