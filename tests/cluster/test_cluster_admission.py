"""Pods of the reference profiles before a real API server: admitted as restricted, and put where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chart_cluster import Cluster, until

from millrace.airflow.pods.manifest import pod_operator
from millrace.contract import Identity, JobRequest, Place, Run
from millrace.spec import ProjectTree
from millrace.spec.jobs import POD_JOBS

pytestmark = pytest.mark.loop
ROOT = Path(__file__).resolve().parents[2]
COMPUTE = ProjectTree(ROOT).compute


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that enforces `restricted` and has the pods' account."""
    name = cluster.make_namespace("admission", {"enforce": "restricted"})
    account = {"metadata": {"name": COMPUTE.service_account}, "automountServiceAccountToken": False}
    cluster.core.create_namespaced_service_account(name, account)
    yield name
    cluster.drop_namespace(name)


def made(profile: str, job: str, namespace: str, digest: str = "1") -> Any:
    """The pod of a profile for a job, as it is sent to the API server."""
    request = JobRequest(
        identity=Identity(job=job, spec_digest="sha256:" + digest * 64, code_digest="sha256:" + "1" * 64),
        place=Place(store="s3://b/p"),
        run=Run(pipeline="flight_delays", dag_id="d", run_id="r", task_id=job),
    )
    operator = pod_operator(request, profile, COMPUTE.profiles[profile], COMPUTE, ROOT)
    pod = super(type(operator), operator).build_pod_request_obj(dry_run=True)
    pod.metadata.namespace = namespace
    return pod


@pytest.mark.parametrize("profile", sorted(COMPUTE.profiles))
def test_every_generated_pod_is_admitted_as_restricted(cluster: Cluster, namespace: str, profile: str) -> None:
    for job in POD_JOBS:
        cluster.core.create_namespaced_pod(namespace, made(profile, job, namespace), dry_run="All")


def test_what_is_looser_is_refused(cluster: Cluster, namespace: str) -> None:
    pod = made("cpu-small", "train", namespace)
    pod.spec.containers[0].security_context.allow_privilege_escalation = True
    with pytest.raises(Exception, match="violates PodSecurity"):
        cluster.core.create_namespaced_pod(namespace, pod, dry_run="All")


def test_a_gpu_pod_waits_for_a_node_with_gpus_and_goes_to_no_other(cluster: Cluster, namespace: str) -> None:
    core = cluster.core

    def read(name: str) -> Any:
        return core.read_namespaced_pod(name, namespace)

    # Given a pod of the profile gpu, and no node that has one
    pod = core.create_namespaced_pod(namespace, made("gpu", "train", namespace))
    name = pod.metadata.name
    try:

        def waiting() -> str:
            conditions = {c.type: c for c in read(name).status.conditions or []}
            return conditions["PodScheduled"].message if "PodScheduled" in conditions else ""

        assert "Insufficient nvidia.com/gpu" in until(waiting, "the scheduler to look")
        # when a node comes that advertises GPUs
        core.create_node({"metadata": {"name": "millrace-gpu-test"}, "spec": {
            "taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]}})  # fmt: skip
        amounts = {"nvidia.com/gpu": "1", "cpu": "8", "memory": "64Gi", "pods": "10", "ephemeral-storage": "100Gi"}
        ready = [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}]
        core.patch_node_status("millrace-gpu-test", {"status": {
            "capacity": amounts, "allocatable": amounts, "conditions": ready}})  # fmt: skip
        # then it is put there, and another beside it is not
        assert until(lambda: read(name).spec.node_name, "a node") == "millrace-gpu-test"
        second = core.create_namespaced_pod(namespace, made("gpu", "train", namespace, "2")).metadata.name
        until(lambda: read(second).status.conditions, "the scheduler to look")
        assert read(second).spec.node_name is None
    finally:
        core.delete_collection_namespaced_pod(namespace, grace_period_seconds=0)
        try:
            core.delete_node("millrace-gpu-test")
        except Exception as err:
            assert getattr(err, "status", None) == 404
