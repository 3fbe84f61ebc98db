"""What a pod was and cost, written into the MLflow run of the job that it ran."""

from __future__ import annotations

import logging
from typing import Any

from millrace.contract import JobRequest, JobResult
from millrace.core.errors import MillraceError
from millrace.spec.compute import ComputeProfile

log = logging.getLogger(__name__)


def note(request: JobRequest, result: JobResult, pod: Any, name: str, profile: ComputeProfile) -> None:
    """Tag the run with profile, pod, node and image, and note seconds and cost of this pod; `pod` as last seen.

    The cost is `cost_per_hour` times the time from the pod's start to the end of its container. A run that cannot be
    reached costs the note, never the task.
    """
    run, service = result.observed.mlflow_run, request.means.services.get("mlflow")
    if run is None or service is None or pod is None:
        return
    statuses = pod.status.container_statuses or []
    ended = statuses[0].state.terminated if statuses else None
    metrics: dict[str, float] = {}
    if ended is not None and ended.finished_at and pod.status.start_time:
        metrics["pod/seconds"] = (ended.finished_at - pod.status.start_time).total_seconds()
        metrics["pod/cost"] = profile.cost_per_hour * metrics["pod/seconds"] / 3600
    tags = {
        "millrace.profile": name,
        "millrace.pod": f"{pod.metadata.namespace}/{pod.metadata.name}",
        "millrace.node": pod.spec.node_name,
        "millrace.image": statuses[0].image_id if statuses else None,
        "millrace.requested": f"cpu {profile.cpu}, memory {profile.memory}, GPUs {profile.gpu}",
    }
    try:
        from millrace.mlflow.runs import run_of_id  # the ML libraries stay out of DAG parsing

        found = run_of_id(service.uri, run)
        found.tags({key: value for key, value in tags.items() if value})
        found.metrics(metrics)
    except MillraceError as err:
        log.warning("The pod could not be noted in the MLflow run: %s", err)
