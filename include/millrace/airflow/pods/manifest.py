"""From a JobRequest and a ComputeProfile to a configured KubernetesPodOperator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kubernetes.client import models as k8s  # type: ignore[import-untyped]

from millrace.airflow.pods.labels import RUN_LABEL, label, run_label
from millrace.airflow.pods.operator import JobPod
from millrace.contract import JobRequest
from millrace.spec.compute import Compute, ComputeProfile, Toleration
from millrace.store import layout

LOGGING_INTERVAL = 15
"""Seconds between two looks at a running pod's log."""
POLL_INTERVAL = 2
GRACE = 90
"""Seconds that a pod gets to keep a checkpoint when it is asked to leave."""
BASE = "job"


def pod_name(request: JobRequest) -> str:
    """The same for the same request: a second pod for it cannot be made, whoever tries."""
    stem = re.sub(r"[^a-z0-9]+", "-", f"{request.run.pipeline}-{request.identity.job}")[:45].strip("-")
    return f"{stem}-{request.request_digest.removeprefix('sha256:')[:16]}"


def pod_operator(
    request: JobRequest, profile_name: str, profile: ComputeProfile, compute: Compute, root: Path
) -> JobPod:
    """The operator that runs a request, which lies in the store, in a pod of a profile."""
    run, image = request.run, profile.image or compute.image
    key = layout.request(run.pipeline, request.request_digest)
    return JobPod(
        task_id=run.task_id.rpartition(".")[2] or request.identity.job,
        request=request,
        allow_privileged=compute.allow_privileged,
        quota_wait=profile.schedule_timeout.seconds,
        kubernetes_conn_id=compute.connection,
        name=pod_name(request),
        random_name_suffix=False,
        namespace=profile.namespace or compute.namespace,
        image=image,
        image_pull_policy=compute.image_pull_policy,
        image_pull_secrets=[k8s.V1LocalObjectReference(name=name) for name in compute.image_pull_secrets],
        base_container_name=BASE,
        arguments=[request.identity.job, "--store", request.place.store, "--request", key],
        env_vars=_environment(compute, profile, image),
        labels={
            "app.kubernetes.io/managed-by": "millrace",
            "millrace.io/pipeline": label(run.pipeline),
            "millrace.io/job": label(request.identity.job),
            "millrace.io/profile": label(profile_name),
            RUN_LABEL: run_label(run.dag_id, run.run_id),
        },
        container_resources=_resources(profile),
        volumes=_volumes(profile),
        volume_mounts=_mounts(profile),
        node_selector=dict(profile.node_selector),
        tolerations=[_toleration(t) for t in profile.tolerations],
        runtime_class_name=profile.runtime_class,
        priority_class_name=profile.priority_class,
        service_account_name=profile.service_account or compute.service_account,
        automount_service_account_token=False,
        security_context=k8s.V1PodSecurityContext(
            run_as_non_root=True, seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault")
        ),
        container_security_context=k8s.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            run_as_non_root=True,
            capabilities=k8s.V1Capabilities(drop=["ALL"]),
            seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
        ),
        pod_template_file=str(root / compute.pod_template) if compute.pod_template else None,
        active_deadline_seconds=request.means.time_limit,
        schedule_timeout_seconds=profile.schedule_timeout.seconds,
        startup_timeout_seconds=profile.startup_timeout.seconds,
        startup_check_interval_seconds=1,
        termination_grace_period=GRACE,
        termination_message_policy="FallbackToLogsOnError",
        deferrable=profile.deferrable,
        poll_interval=POLL_INTERVAL,
        trigger_kwargs={"request": request.request_digest},  # comes back with what the triggerer saw
        logging_interval=LOGGING_INTERVAL,
        get_logs=True,
        container_name_log_prefix_enabled=False,
        log_events_on_startup=False,
        log_pod_spec_on_failure=False,
        do_xcom_push=False,
    )


def _environment(compute: Compute, profile: ComputeProfile, image: str) -> list[k8s.V1EnvVar]:
    found = [k8s.V1EnvVar(name=name, value=value) for name, value in sorted(compute.env.items())]
    secrets = compute.secrets if profile.secrets is None else profile.secrets
    for name, place in sorted(secrets.items()):
        reference = k8s.V1SecretKeySelector(name=place.secret, key=place.key)
        found.append(k8s.V1EnvVar(name=name, value_from=k8s.V1EnvVarSource(secret_key_ref=reference)))
    node = k8s.V1ObjectFieldSelector(field_path="spec.nodeName")
    found.append(k8s.V1EnvVar(name="MILLRACE_IMAGE", value=image))
    return [*found, k8s.V1EnvVar(name="MILLRACE_NODE", value_from=k8s.V1EnvVarSource(field_ref=node))]


def _resources(profile: ComputeProfile) -> k8s.V1ResourceRequirements:
    limits: dict[str, Any] = {"memory": profile.memory}
    if profile.cpu_limit:
        limits["cpu"] = profile.cpu_limit
    if profile.gpu:
        limits["nvidia.com/gpu"] = str(profile.gpu)
    return k8s.V1ResourceRequirements(requests={"cpu": profile.cpu, "memory": profile.memory}, limits=limits)


def _volumes(profile: ComputeProfile) -> list[k8s.V1Volume]:
    tmp = k8s.V1EmptyDirVolumeSource(size_limit=profile.scratch)
    volumes = [k8s.V1Volume(name="tmp", empty_dir=tmp)]
    if profile.shm:
        memory = k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=profile.shm)
        volumes.append(k8s.V1Volume(name="shm", empty_dir=memory))
    return volumes


def _mounts(profile: ComputeProfile) -> list[k8s.V1VolumeMount]:
    mounts = [k8s.V1VolumeMount(name="tmp", mount_path="/tmp")]
    return [*mounts, k8s.V1VolumeMount(name="shm", mount_path="/dev/shm")] if profile.shm else mounts


def _toleration(given: Toleration) -> k8s.V1Toleration:
    return k8s.V1Toleration(key=given.key, operator=given.operator, value=given.value, effect=given.effect)
