"""The rights in rbac.yaml against a real API server, verb by verb: what is needed is allowed, all else refused."""

from __future__ import annotations

import json

import pytest
import yaml
from chart_cluster import KUBERNETES, Cluster, until
from kubernetes.client.rest import ApiException

from kubernetes import client

VERBS = ("create", "get", "list", "watch", "delete", "patch", "update", "deletecollection")
ALLOWED = {
    ("", "pods"): {"create", "get", "list", "watch", "delete", "patch"},
    ("", "pods/log"): {"get"},
    ("", "events"): {"get", "list", "watch"},
    ("", "resourcequotas"): {"get", "list"},
}
# Verbs that no list of resources names, and resources that change the rights of others.
SPECIAL = {
    ("rbac.authorization.k8s.io", "roles"): {"bind", "escalate"},
    ("rbac.authorization.k8s.io", "clusterroles"): {"bind", "escalate"},
    ("", "serviceaccounts"): {"impersonate"},
    ("", "users"): {"impersonate"},
    ("", "groups"): {"impersonate"},
}


class Place:
    """The manifest, applied in two namespaces of its own."""

    def __init__(self, cluster: Cluster, airflow: str, jobs: str) -> None:
        self.cluster, self.airflow, self.jobs = cluster, airflow, jobs
        names = {"millrace": airflow, "millrace-jobs": jobs}
        self.objects = list(yaml.safe_load_all((KUBERNETES / "rbac.yaml").read_text()))
        for each in self.objects:
            each["metadata"]["namespace"] = names[each["metadata"]["namespace"]]
            for subject in each.get("subjects", ()):
                subject["namespace"] = names[subject["namespace"]]
        cluster.kubectl("apply", "-f", "-", given=self.objects)
        self.worker = cluster.as_account(airflow, "millrace-worker")
        self.job = cluster.as_account(jobs, "millrace-job")
        # the server hears of a binding a moment after it is made
        until(lambda: allowed(self.worker, jobs, "", "pods", "create"), "the rights to be given")


@pytest.fixture
def place(cluster, namespace) -> Place:
    return Place(cluster, namespace("airflow"), namespace("jobs", enforce="restricted"))


def allowed(api: client.ApiClient, namespace: str, group: str, resource: str, verb: str) -> bool:
    """What the API server says of its caller (SelfSubjectAccessReview)."""
    kind, _, part = resource.partition("/")
    asked = {"group": group, "resource": kind, "subresource": part, "verb": verb, "namespace": namespace}
    review = {"spec": {"resourceAttributes": asked}}
    return client.AuthorizationV1Api(api).create_self_subject_access_review(review).status.allowed


def resources(cluster: Cluster) -> list[tuple[str, str, bool]]:
    """Group, name and whether it is namespaced, of everything that the API server has."""
    found = set()
    groups = client.ApisApi(cluster.api).get_api_versions().groups
    for each in ("v1", *(g.preferred_version.group_version for g in groups)):
        path = "/api/v1" if each == "v1" else f"/apis/{each}"
        listed = json.loads(cluster.kubectl("get", "--raw", path))
        group = "" if each == "v1" else each.partition("/")[0]
        found |= {(group, r["name"], r["namespaced"]) for r in listed["resources"]}
    return sorted(found)


def matrix(place: Place, api: client.ApiClient, namespace: str) -> dict[tuple[str, str], set[str]]:
    """Every verb on every resource that exists, as far as it is allowed in a namespace (or, without one, anywhere)."""
    granted: dict[tuple[str, str], set[str]] = {}
    for group, name, namespaced in resources(place.cluster):
        if group in ("authorization.k8s.io", "authentication.k8s.io"):
            continue  # everybody may ask what he himself may do
        for verb in (*VERBS, *SPECIAL.get((group, name), ())):
            if allowed(api, namespace if namespaced else "", group, name, verb):
                granted.setdefault((group, name), set()).add(verb)
    return granted


def test_rights_of_the_worker_are_these_and_no_others(place):
    # When every verb is asked for on every resource that this API server has
    # Then in the jobs' namespace these are allowed, and in Airflow's own none
    assert matrix(place, place.worker, place.jobs) == ALLOWED
    assert matrix(place, place.worker, place.airflow) == {}


def test_pods_of_jobs_have_no_rights(place):
    assert matrix(place, place.job, place.jobs) == {}


def test_rules_name_nothing_by_a_star(place):
    for each in place.objects:
        for rule in each.get("rules", ()):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_one_verb_more_or_less_is_seen(place):
    # Given rights that were changed by hand
    role = next(o for o in place.objects if o["kind"] == "Role")
    role["rules"][0]["verbs"].remove("patch")
    role["rules"].append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})
    place.cluster.kubectl("apply", "-f", "-", given=role)
    # Then the same questions tell, once the server has heard of it
    until(lambda: not allowed(place.worker, place.jobs, "", "pods", "patch"), "the right to patch pods to go")
    until(lambda: allowed(place.worker, place.jobs, "", "secrets", "get"), "the right to get secrets")


def test_nodes_only_where_the_optional_manifest_is_applied(place):
    assert not allowed(place.worker, "", "", "nodes", "list")
    objects = list(yaml.safe_load_all((KUBERNETES / "rbac-nodes.yaml").read_text()))
    for each in objects:
        each["metadata"]["name"] = f"{each['metadata']['name']}-{place.airflow}"
        if each["kind"] == "ClusterRoleBinding":
            each["roleRef"]["name"] += f"-{place.airflow}"
            each["subjects"][0]["namespace"] = place.airflow
    place.cluster.kubectl("apply", "-f", "-", given=objects)
    try:
        until(lambda: allowed(place.worker, "", "", "nodes", "list"), "the right to list nodes")
        assert client.CoreV1Api(place.worker).list_node().items
        assert [v for v in VERBS if allowed(place.worker, "", "", "nodes", v)] == ["list"]
        assert not allowed(place.worker, "", "", "nodes/proxy", "get")
    finally:
        place.cluster.kubectl("delete", "-f", "-", given=objects)


def test_real_calls_through_a_pods_life(place):
    # Given the worker's token and nothing else
    core = client.CoreV1Api(place.worker)
    name = "rights"
    # When a pod goes through all that an operator does with one
    core.create_namespaced_pod(place.jobs, pod(name))
    assert core.read_namespaced_pod(name, place.jobs).metadata.name == name
    core.patch_namespaced_pod(name, place.jobs, {"metadata": {"labels": {"taken": "yes"}}})
    assert [p.metadata.name for p in core.list_namespaced_pod(place.jobs, label_selector="taken=yes").items] == [name]
    assert core.list_namespaced_pod(place.jobs, watch=False).items
    assert not core.read_namespaced_pod_log(name, place.jobs)  # none yet: no node takes it
    core.list_namespaced_event(place.jobs)
    core.list_namespaced_resource_quota(place.jobs)
    # Then what it must not do is refused with 403
    refused(403, core.list_namespaced_secret, place.jobs)
    refused(403, core.list_namespaced_config_map, place.jobs)
    refused(403, core.connect_get_namespaced_pod_exec, name, place.jobs, command="true")
    refused(403, core.connect_get_namespaced_pod_portforward, name, place.jobs)
    refused(403, core.delete_collection_namespaced_pod, place.jobs)
    refused(403, core.create_namespaced_service_account_token, "millrace-job", place.jobs, {"spec": {}})
    refused(403, core.create_namespaced_pod, place.airflow, pod(name))
    refused(403, core.list_namespaced_pod, "kube-system")
    refused(403, core.list_pod_for_all_namespaces)
    core.delete_namespaced_pod(name, place.jobs, grace_period_seconds=0)


def test_a_pod_that_is_not_restricted_is_not_admitted(place):
    # Given the right to create pods, in a namespace that enforces `restricted`
    loose = pod("loose")
    loose["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    # Then the right does not reach beyond it
    refused(403, client.CoreV1Api(place.worker).create_namespaced_pod, place.jobs, loose)


def pod(name: str) -> dict:
    """A pod that `restricted` admits and no node takes."""
    return {
        "metadata": {"name": name},
        "spec": {
            "serviceAccountName": "millrace-job",
            "nodeSelector": {"millrace.test/none": "none"},
            "securityContext": {"runAsNonRoot": True, "runAsUser": 4711, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "job",
                    "image": "none",
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }


def _account(place: Place) -> bool:
    return any(
        a.metadata.name == "default" for a in place.cluster.core.list_namespaced_service_account(place.jobs).items
    )


def refused(status: int, call, *arguments, **named) -> None:
    """Assert that a call ends with an HTTP status."""
    try:
        call(*arguments, **named)
    except ApiException as err:
        # The client's exec and port-forward go through a websocket, whose error carries the status in its reason.
        assert err.status == status or f"{status}" in str(err.reason), (call.__name__, err.status, err.reason)
    else:
        pytest.fail(f"{call.__name__} was allowed")
