"""Why a pod ended without an outcome, as exceptions that say whether Airflow tries again."""

from __future__ import annotations

import signal
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from millrace.airflow.runtime.retry import InfrastructureError

IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
STARTS_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
RETRY_EXIT = 4
"""What a job's command line says when another try may help."""


class Interrupted(InfrastructureError):
    """The pod was evicted, preempted or lost with its node; the next try resumes from the last checkpoint."""


class OutOfMemory(InfrastructureError):
    """The container needed more memory than its profile gives; the next try takes the larger profile."""


class NoGPU(InfrastructureError):
    """No node could give a GPU in time; the next try takes the fallback profile."""


class OutOfSight(InfrastructureError):
    """The cluster did not answer while the pod was at work; the next try takes the pod up again."""


class OutOfReach(InfrastructureError):
    """The job could not reach the object store to leave its result, and says that another try may."""


class PodFailed(AirflowFailException):
    """Another try would end the same: an error in code, a time limit, an image that is not there."""


class NoCapacity(PodFailed):
    """Quota or nodes could not take the pod within the profile's schedule timeout."""


def cause_of(pod: Any, base: str) -> Exception | None:
    """Read from a pod's status why it ended, or cannot start; None where it succeeded or is still at work.

    `base` is the container that runs the job.
    """
    name, status = pod.metadata.name, pod.status
    conditions = {c.type: c for c in status.conditions or [] if c.status == "True"}
    containers = {c.name: c.state for c in status.container_statuses or []}
    state = containers.get(base)
    ended = state.terminated if state else None
    if status.phase == "Succeeded":
        return None
    if status.reason == "DeadlineExceeded":
        return PodFailed(f"Pod {name} ran longer than its job's time limit ({status.message})")
    if ended is not None and ended.reason == "OOMKilled":
        return OutOfMemory(f"Pod {name} ran out of memory")
    if "DisruptionTarget" in conditions or status.reason in ("Evicted", "NodeLost", "Preempting", "Shutdown"):
        why = conditions.get("DisruptionTarget")
        return Interrupted(f"Pod {name} was disrupted: {(why.reason if why else status.reason) or 'evicted'}")
    if ended is not None and ended.exit_code:
        return _ended(name, ended)
    if state is not None and state.waiting is not None:
        reason, message = state.waiting.reason, state.waiting.message
        if reason in IMAGE_REASONS:
            return PodFailed(f"Pod {name}: the image cannot be had ({reason}: {message})")
        if reason in STARTS_REASONS:
            return PodFailed(f"Pod {name}: the container cannot start ({reason}: {message})")
    if status.phase == "Failed":
        return Interrupted(f"Pod {name} failed: {status.reason or 'the node gave no reason'}")
    scheduled = next((c for c in status.conditions or [] if c.type == "PodScheduled"), None)
    if status.phase == "Pending" and scheduled is not None and scheduled.status == "False":
        return NoCapacity(f"Pod {name} found no node in time: {scheduled.message}")
    return None


def _ended(name: str, ended: Any) -> Exception:
    if ended.exit_code in (137, 143):  # killed from outside: the kernel's and kubelet's own reasons were ruled out
        return Interrupted(f"Pod {name} was killed (exit {ended.exit_code})")
    lines = (ended.message or "").strip().splitlines()
    number = ended.exit_code - 128  # how a container tells of a signal
    crash = f", which is {signal.Signals(number).name}" if number in set(signal.Signals) else ""
    said = f"Pod {name} ended with exit {ended.exit_code}{crash}" + (f": {lines[-1]}" if lines else "")
    return OutOfReach(said) if ended.exit_code == RETRY_EXIT else PodFailed(said)
