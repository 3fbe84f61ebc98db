"""The chart on a real cluster: every object admitted; installed, run, upgraded, and gone without a rest."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from chart_cluster import ROOT, Cluster, until
from chart_helm import CHART, SITE, Helm, merged, pods
from chart_services import address_here, services
from chart_site import DAG, MONTHS, RELEASE, Site, ended, image, images_missing, known, restricted_pod, runs, states
from kubernetes.client.rest import ApiException

from millrace import __version__
from millrace.contract import Identity, JobRequest, Means, Place, Run
from millrace.ledger import Ledger
from millrace.spec import ProjectTree
from millrace.spec.compute import Compute, ComputeProfile

pytestmark = pytest.mark.timeout(2400)
LONG_S = 900
KINDS = "deployments,replicasets,pods,jobs,services,configmaps,serviceaccounts,roles,rolebindings,networkpolicies," \
        "poddisruptionbudgets,resourcequotas,limitranges"  # fmt: skip
CLUSTER_KINDS = "priorityclasses,clusterroles,clusterrolebindings,namespaces"
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()
    print('reached')
except OSError as err:
    print('refused', type(err).__name__)
"""


@pytest.fixture(scope="session")
def deployer(cluster: Cluster, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """helm with the cluster's kubeconfig."""
    return Helm(helm.binary, tmp_path_factory.mktemp("helm-cluster"), cluster.path)


def test_every_object_is_admitted_by_the_api_server(cluster, helm, namespace):
    # Given namespaces that enforce `restricted`, and all that the chart can make
    airflow, jobs = namespace("airflow", enforce="restricted"), namespace("jobs", enforce="restricted")
    everything = {"jobs": {"namespace": jobs, "nodesReadable": True}, "scheduler": {"replicas": 2}}
    classes = {name: {"name": f"{airflow}-{name}"} for name in ("platform", "jobs", "spot")}
    objects = helm.render(merged(SITE, {**everything, "priorityClasses": classes}), namespace=airflow)
    # Then the API server, asked without being changed, takes every one of them
    said = cluster.kubectl("apply", "--dry-run=server", "-f", "-", given=objects)
    assert len(said.splitlines()) == len(objects)
    # and every pod itself, which a Deployment would only be told about later
    for name, template in pods(objects):
        spec = {k: v for k, v in template["spec"].items() if k != "priorityClassName"}  # dry: the class is not there
        accounts = {"serviceAccountName": "default"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": airflow, "labels": {}}}
        cluster.kubectl("create", "--dry-run=server", "-f", "-", given={**pod, "spec": {**spec, **accounts}})
    # while one that loosens anything is refused
    spec["containers"][0]["securityContext"]["capabilities"] = {"drop": []}
    answer = cluster.kubectl("create", "--dry-run=server", "-f", "-", given={**pod, "spec": {**spec, **accounts}},
                             check=False)  # fmt: skip
    assert "violates PodSecurity" in answer


def test_the_jobs_namespace_takes_a_pod_of_every_compute_profile(cluster, helm, namespace):
    # Given the rules of the jobs' namespace, with room for a GPU
    airflow, jobs = namespace("airflow"), namespace("jobs", enforce="restricted")
    room = {"namespace": jobs, "quota": {"requests.nvidia.com/gpu": "1"}}
    objects = helm.render(merged(SITE, {"jobs": room}), namespace=airflow)
    rules = [o for o in objects if o["kind"] in ("ResourceQuota", "LimitRange")]
    rules += [o for o in objects if o["kind"] == "ServiceAccount" and o["metadata"]["namespace"] == jobs]
    assert len(rules) == 3
    cluster.kubectl("apply", "-f", "-", given=rules)
    # Then a pod of each of the reference project's profiles is admitted, and may use what its node has left
    compute = ProjectTree(ROOT).compute
    assert len(compute.profiles) >= 4
    for name, profile in compute.profiles.items():
        pod = job_pod(name, profile, compute)
        pod.metadata.namespace, pod.spec.priority_class_name = jobs, None
        taken = cluster.core.create_namespaced_pod(jobs, pod, dry_run="All")
        assert "cpu" not in taken.spec.containers[0].resources.limits
        assert taken.spec.service_account_name == "millrace-job"
    # and one that asks for more than the quota has is refused with the quota's name
    with pytest.raises(ApiException) as caught:
        pod.spec.containers[0].resources.limits["nvidia.com/gpu"] = "2"
        cluster.core.create_namespaced_pod(jobs, pod, dry_run="All")
    assert "exceeded quota: m-jobs" in caught.value.body


def job_pod(name: str, profile: ComputeProfile, compute: Compute) -> Any:
    """The pod of a job of a profile, as Millrace asks for it."""
    from millrace.airflow.pods.manifest import pod_operator

    digest = "sha256:" + "0" * 64
    request = JobRequest(
        identity=Identity(job="train", spec_digest=digest, code_digest=digest),
        place=Place(store="s3://bucket/store"),
        run=Run(project="p", environment="prod", pipeline="flights", dag_id="d", run_id="r", task_id="train"),
        means=Means(profile=name),
    )
    return pod_operator(request, name, profile, compute, ROOT).build_pod_request_obj()


@pytest.fixture(scope="module")
def site(
    cluster: Cluster, deployer: Helm, s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A release of the chart, installed once for the tests below, in this order."""
    address = address_here(cluster)
    folder = tmp_path_factory.mktemp("site")
    namespace = cluster.make_namespace("release", {"enforce": "restricted"})
    try:
        if lacking := images_missing(cluster, namespace):
            pytest.skip(f"the cluster lacks {', '.join(lacking)}: make images, then load them there")
        with services(address, s3_endpoint, folder) as found:
            made = Site(cluster, deployer, found, folder, namespace)
            made.prepare()
            print(f"\nhelm install: {made.install():.0f} s until everything was ready")
            try:
                made.give_jobs_their_keys()
                yield made
            finally:
                if deployer.run("status", RELEASE, "--namespace", namespace).returncode == 0:
                    made.uninstall()
    finally:
        cluster.drop_namespace(namespace)


@pytest.mark.loop
def test_pods_run_as_anybody_and_without_needless_tokens(cluster, site):
    found = cluster.core.list_namespaced_pod(site.namespace).items
    parts = {p.metadata.labels["app.kubernetes.io/component"]: p for p in found}
    assert set(parts) == {"api-server", "scheduler", "dag-processor", "triggerer"}  # the migration has gone
    for part, pod in parts.items():
        name = pod.metadata.name
        inside = ["-n", site.namespace, "exec", name, "--", "python", "-I", "-c"]
        asked = "import os, pathlib; print(os.getuid(), pathlib.Path('/var/run/secrets/kubernetes.io').exists())"
        user, token = cluster.kubectl(*inside, asked).split()
        assert int(user) == 54321
        assert (token == "True") is (part in ("scheduler", "triggerer"))
        refused = cluster.kubectl(*inside, "open('/opt/millrace/x', 'w')", check=False)
        assert "Read-only file system" in refused
        assert not [s for s in pod.status.container_statuses if s.restart_count]


@pytest.mark.loop
def test_the_loop_with_trainings_in_pods(cluster, site):
    began = time.monotonic()
    with site.airflow() as api:
        until(lambda: all(known(api, dag) for dag in DAG.values()), "the DAGs to be parsed", 180)
        for dag in DAG.values():
            api.pause(dag, False)
        # Given four months by REST, as a first model needs to beat a constant, and it trained in a pod
        for month in MONTHS[:4]:
            api.call("POST", f"/dags/{DAG['features']}/dagRuns", by_key(month))
        until(lambda: ended(api, "features", 4), "four months", LONG_S)
        assert succeeded(api, "features"), states(api)
        api.trigger(DAG["training"], {"reason": "first model"})
        trained = watch_jobs(cluster, site, lambda: ended(api, "training", 1))
        assert succeeded(api, "training"), states(api)
        assert trained == {"train", "evaluate"}
        until(lambda: ended(api, "release", 1), "the release", LONG_S)
        champion = ledger(site).champion("flight_delays")
        assert champion is not None and champion.version == 1, states(api)
        # When another month arrives
        api.call("POST", f"/dags/{DAG['features']}/dagRuns", by_key(MONTHS[4]))
        until(lambda: ended(api, "features", 5), "the fifth month", LONG_S)
        assert succeeded(api, "features"), states(api)
        until(lambda: ended(api, "monitoring", 5), "its monitoring", LONG_S)
        # Then it was scored by that model and judged, and nothing is left of the pods
        assert all(succeeded(api, part) for part in DAG), states(api)
    assert [r.partition for r in ledger(site).monitoring("flight_delays")][-1:] == [MONTHS[4]]
    assert not cluster.core.list_namespaced_pod(site.jobs).items
    print(f"\nthe loop over five months on the cluster: {time.monotonic() - began:.0f} s")
    for line in usage(cluster, site):
        print(line)


@pytest.mark.loop
def test_a_forbidden_connection_is_tried(cluster, site):
    # Given a pod in the jobs' namespace that says it trains: it may reach S3 and MLflow, never a database
    s3, database = site.services.s3, site.services.postgres
    assert connects(cluster, site, "train", s3) == "reached"
    reached = connects(cluster, site, "train", database)
    if reached == "reached" and not enforces(cluster, site):
        pytest.skip("this cluster does not enforce NetworkPolicies: a forbidden connection went through, as any does")
    assert reached.startswith("refused")


@pytest.mark.loop
def test_an_upgrade_keeps_everything(cluster, site):
    before = {p.metadata.name for p in cluster.core.list_namespaced_pod(site.namespace).items}
    entries = ledger(site).verify()
    seconds = site.upgrade(variables={"AIRFLOW__API__INSTANCE_NAME": "upgraded"}, scheduler={"slots": 2})
    print(f"\nhelm upgrade: {seconds:.0f} s")
    # Then other pods run, with what was there
    until(lambda: not before & alive(cluster, site), "the earlier pods to end", 120)
    with site.airflow() as api:
        until(api.healthy, "Airflow to be healthy", 120)
        assert len(runs(api, "features")) == 5
        assert api.call("GET", "/pools/millrace_compute")["slots"] == 2
    assert ledger(site).verify() == entries
    # and a version whose migration fails leaves what runs as it is
    now = alive(cluster, site)
    wrong = site.values(services={"ledger": site.services.database("ledger").replace("millrace@", "nobody@")},
                        migrate={"deadlineSeconds": 60})  # fmt: skip
    done = site.helm.run("upgrade", RELEASE, str(CHART), "--namespace", site.namespace, "--timeout", "3m", values=wrong)
    assert done.returncode != 0
    assert alive(cluster, site) == now
    # until one comes that can
    site.upgrade()


@pytest.mark.loop
def test_uninstalling_leaves_nothing(cluster, site):
    site.uninstall()
    chosen = f"app.kubernetes.io/instance={RELEASE}"
    # The pods' own grace goes on after helm has seen their Deployments gone
    look = ("-n", site.namespace, "get", KINDS, "-l", chosen, "-o", "name")
    until(lambda: not cluster.kubectl(*look).strip(), "the last pods to end", 120)
    for kind, name in (("namespace", site.jobs), *(("priorityclass", name) for name in site.classes.values())):
        until(
            lambda kind=kind, name=name: "NotFound" in cluster.kubectl("get", kind, name, check=False),
            f"no {name}",
            120,
        )
    everywhere = cluster.kubectl("get", CLUSTER_KINDS, "-o", "name")
    assert site.namespace not in everywhere.replace(f"namespace/{site.namespace}\n", "")
    # Only what the site itself had brought is there
    own = cluster.kubectl("-n", site.namespace, "get", "secrets,configmaps", "-o", "name").split()
    assert set(own) == {"secret/millrace", "configmap/project", "configmap/kube-root-ca.crt"}


def by_key(month: str) -> dict:
    """A run of one partition, as a scheduler elsewhere would ask for it."""
    return {"logical_date": None, "partition_key": month, "conf": {}}


def succeeded(api, part: str) -> bool:
    return {r["state"] for r in runs(api, part)} == {"success"}


def ledger(site: Site) -> Ledger:
    return Ledger.open(site.services.database("ledger", password=True))


def alive(cluster: Cluster, site: Site) -> set[str]:
    """Names of the components' pods."""
    chosen = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component!=migrate"
    return {p.metadata.name for p in cluster.core.list_namespaced_pod(site.namespace, label_selector=chosen).items}


def watch_jobs(cluster: Cluster, site: Site, done) -> set[str]:
    """The jobs that were seen running in pods until `done`; every pod stands under the namespace's rules."""
    seen = set()

    def look() -> bool:
        for pod in cluster.core.list_namespaced_pod(site.jobs).items:
            seen.add((pod.metadata.labels or {}).get("millrace.io/job", pod.metadata.name))
            assert pod.spec.service_account_name == "millrace-job"
            assert not pod.spec.automount_service_account_token
        return bool(done())

    until(look, "the training", LONG_S)
    return seen


def connects(cluster: Cluster, site: Site, job: str, port: int, namespace: str | None = None) -> str:
    """What a restricted pod in the jobs' namespace hears when it opens a connection to the services."""
    name = f"try-{job}-{port}".replace("_", "-")
    namespace = namespace or site.jobs
    command = ["python", "-I", "-c", CONNECT, site.services.host, str(port)]
    labels = {"millrace.io/job": job}
    cluster.core.create_namespaced_pod(
        namespace, restricted_pod(name, f"{image('platform')}:{__version__}", command, **labels)
    )
    try:
        ends = ("Succeeded", "Failed")
        until(lambda: cluster.core.read_namespaced_pod(name, namespace).status.phase in ends, "the connection", 120)
        return cluster.kubectl("-n", namespace, "logs", name).strip()
    finally:
        cluster.core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)


def enforces(cluster: Cluster, site: Site) -> bool:
    """Whether the cluster stops what a policy forbids: all connections of a namespace are denied, and one is tried."""
    closed = cluster.make_namespace("closed")
    try:
        deny = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"},
                "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}  # fmt: skip
        cluster.kubectl("-n", closed, "apply", "-f", "-", given=yaml.safe_load(json.dumps(deny)))
        return connects(cluster, site, "any", site.services.s3, closed).startswith("refused")
    finally:
        cluster.drop_namespace(closed)


def usage(cluster: Cluster, site: Site) -> list[str]:
    """Memory and CPU seconds of the release's pods so far, as the kubelet counts them."""
    lines = []
    for node in cluster.core.list_node().items:
        try:
            text = cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node.metadata.name}/proxy/stats/summary")
        except (AssertionError, subprocess.TimeoutExpired):
            continue
        for pod in json.loads(text)["pods"]:
            if pod["podRef"]["namespace"] == site.namespace:
                memory, cpu = pod.get("memory", {}), pod.get("cpu", {})
                lines.append(
                    f"{pod['podRef']['name']}: {memory.get('workingSetBytes', 0) / 2**20:.0f} MiB, "
                    f"{cpu.get('usageCoreNanoSeconds', 0) / 1e9:.0f} CPU-s"
                )
    return lines
