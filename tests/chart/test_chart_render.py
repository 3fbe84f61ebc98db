"""What the chart makes of a site's values, before any cluster sees it."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from chart_cluster import KUBERNETES, ROOT
from chart_helm import CHART, SITE, matches, merged, of_kind, pods

TOKENS = {"m-scheduler", "m-triggerer"}
"""Only these speak to the API server."""


def test_lint_finds_nothing(helm):
    assert "[WARNING]" not in (said := helm("lint", "--strict", str(CHART), values=SITE)), said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"services": {"ledger": "postgresql+psycopg://millrace:hunter2@db.example/millrace"}}, "ledger"),
        ({"services": {"ledger": "postgresql+psycopg://millrace@db.example/m?password=hunter2"}}, "ledger"),
        ({"services": {"store": "/var/lib/store"}}, "store"),
        ({"services": {"mlflow": ""}}, "mlflow"),
        ({"secret": ""}, "secret"),
        ({"replica": 2}, "replica"),
        ({"variables": {"AIRFLOW__CORE__FERNET_KEY": "x"}}, "FERNET_KEY"),
        ({"variables": {"AIRFLOW_CONN_DB": "postgresql://a:b@c/d"}}, "AIRFLOW_CONN_DB"),
        ({"scheduler": {"replicas": 0}}, "replicas"),
        ({"pods": {"runAsUser": 0}}, "runAsUser"),
        ({"project": {"volume": {"hostPath": {"path": "/srv"}}}}, "hostPath"),
        ({"jobs": {"quota": {"pods": "many"}}}, "pods"),
        ({"images": {"platform": {"digest": "latest"}}}, "digest"),
        ({"jobs": {"namespace": "airflow"}}, "namespace"),
        ({"services": {"airflow": "sqlite:////tmp/a.db"}}, "airflow"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_name(helm, wrong, said):
    message = helm.refuses(merged(SITE, wrong))
    assert said in message
    assert "hunter2" not in message


def test_values_that_look_like_secrets_but_name_files_are_taken(helm):
    taken = {
        "AIRFLOW__SMTP__SMTP_PASSWORD_CMD": "cat /run/secrets/millrace/smtp",
        "AIRFLOW__CORE__TOKENS_FILE": "x",
    }
    helm.render(merged(SITE, {"variables": taken}))


def test_every_pod_is_restricted_and_more(helm):
    found = dict(pods(helm.render()))
    assert set(found) == {"m-api-server", "m-scheduler", "m-dag-processor", "m-triggerer", "m-migrate"}
    for name, template in found.items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is (name in TOKENS)
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        assert all({"emptyDir", "projected"} & set(volume) for volume in spec["volumes"])
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False and security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]


def test_no_value_of_a_secret_is_rendered(helm):
    # Secrets are mounted, by the name of one that exists; no object holds one, no variable is one
    objects = helm.render()
    assert not of_kind(objects, "Secret")
    for _, template in pods(objects):
        for variable in template["spec"]["containers"][0]["env"]:
            if re.search("PASSWORD|SECRET|FERNET|_KEY|_AUTH|CREDENTIAL", variable["name"]):
                assert re.search("_(CMD|FILE|MANAGER)$", variable["name"]), variable["name"]
                assert re.match(r"(cat )?/run/secrets/millrace/[a-z-]+$|airflow\.", variable["value"])
            assert not re.search(r"://[^/@ ]*:[^/@ ]*@", variable["value"]), variable["name"]


def test_the_chart_gives_the_rights_of_the_plain_manifest(helm):
    plain = of_kind(list(yaml.safe_load_all((KUBERNETES / "rbac.yaml").read_text())), "Role")[0]
    role = of_kind(helm.render(), "Role")
    assert [r["rules"] for r in role] == [plain["rules"]]
    assert role[0]["metadata"]["namespace"] == "millrace-jobs"
    assert not of_kind(helm.render(), "ClusterRole")
    nodes = of_kind(helm.render(merged(SITE, {"jobs": {"nodesReadable": True}})), "ClusterRole")
    optional = list(yaml.safe_load_all((KUBERNETES / "rbac-nodes.yaml").read_text()))
    assert [r["rules"] for r in nodes] == [of_kind(optional, "ClusterRole")[0]["rules"]]


def test_every_pod_is_denied_what_no_policy_allows(helm):
    objects = helm.render()
    policies = of_kind(objects, "NetworkPolicy")
    deny = [p for p in policies if not p["spec"].get("ingress") and not p["spec"].get("egress")]
    # One for all of Airflow's pods, one for whatever runs in the jobs' namespace
    assert {p["metadata"]["namespace"] for p in deny} == {"airflow", "millrace-jobs"}
    (ours,) = [p for p in deny if p["metadata"]["namespace"] == "airflow"]
    (jobs,) = [p for p in deny if p["metadata"]["namespace"] == "millrace-jobs"]
    assert jobs["spec"]["podSelector"] == {}
    for _, template in pods(objects):
        assert matches(ours["spec"]["podSelector"], template["metadata"]["labels"])
    for each in deny:
        assert sorted(each["spec"]["policyTypes"]) == ["Egress", "Ingress"]


@pytest.mark.parametrize(
    ("namespace", "labels", "ports"),
    [
        ("airflow", {"app.kubernetes.io/component": "dag-processor"}, {53, 443, 5432, 6379, 6432, 7070, 8080}),
        ("airflow", {"app.kubernetes.io/component": "scheduler"}, {53, 443, 5432, 6379, 6432, 6443, 7070, 8080}),
        ("millrace-jobs", {}, {53, 443, 7070}),
        ("millrace-jobs", {"millrace.io/job": "train"}, {53, 443, 7070}),
        ("millrace-jobs", {"millrace.io/job": "build_training_set"}, {53, 443, 6379, 6432, 7070}),
    ],
)
def test_ports_that_a_pod_may_reach(helm, namespace, labels, ports):
    # 443 is MLflow's here, 6443 and 443 the API server's, 5432 the ledger's and Airflow's, 6432 Feast's registry's
    if namespace == "airflow":
        labels = {**labels, "app.kubernetes.io/name": "millrace", "app.kubernetes.io/instance": "m"}
    reached = set()
    for policy in of_kind(helm.render(), "NetworkPolicy"):
        spec = policy["spec"]
        if policy["metadata"]["namespace"] == namespace and matches(spec["podSelector"], labels):
            reached |= {port["port"] for rule in spec.get("egress", ()) for port in rule["ports"]}
    assert reached == ports


def test_the_jobs_that_a_policy_names_are_those_that_use_feast(helm):
    from millrace.spec.jobs import POD_JOBS, TABLE

    (policy,) = [p for p in of_kind(helm.render(), "NetworkPolicy") if p["metadata"]["name"] == "m-feast-jobs"]
    (named,) = policy["spec"]["podSelector"]["matchExpressions"]
    assert set(named["values"]) == {job for job in POD_JOBS if "registry" in TABLE[job].reaches}
    assert f'"{named["key"]}"' in (ROOT / "include" / "millrace" / "airflow" / "pods" / "manifest.py").read_text()


def test_nobody_reaches_the_pods_of_jobs(helm):
    jobs = [p for p in of_kind(helm.render(), "NetworkPolicy") if p["metadata"]["namespace"] == "millrace-jobs"]
    assert jobs and not any(p["spec"].get("ingress") for p in jobs)


def test_peers_narrow_every_rule_of_their_service(helm):
    block = [{"ipBlock": {"cidr": "10.9.8.7/32"}}]
    for service, port in (("database", 5432), ("online", 6379), ("mlflow", 443), ("s3", 7070)):
        objects = helm.render(merged(SITE, {"network": {"to": {service: block}, "kubernetes": {"ports": [6443]}}}))
        rules = [r for p in of_kind(objects, "NetworkPolicy") for r in p["spec"].get("egress", ())]
        narrowed = [rule for rule in rules if port in {p["port"] for p in rule["ports"]}]
        assert narrowed and all(rule["to"] == block for rule in narrowed)


def test_budgets_only_for_what_has_a_second_pod(helm):
    objects = helm.render()
    budgets = {b["metadata"]["name"]: b["spec"] for b in of_kind(objects, "PodDisruptionBudget")}
    assert set(budgets) == {"m-api-server", "m-triggerer"}
    templates = dict(pods(objects))
    for name, spec in budgets.items():
        selected = [n for n, t in templates.items() if matches(spec["selector"], t["metadata"]["labels"])]
        assert selected == [name]
    more = helm.render(merged(SITE, {"scheduler": {"replicas": 2}}))
    assert "m-scheduler" in {b["metadata"]["name"] for b in of_kind(more, "PodDisruptionBudget")}


def test_airflow_goes_before_jobs_and_jobs_before_spot(helm):
    classes = {c["metadata"]["name"]: c for c in of_kind(helm.render(), "PriorityClass")}
    values = [classes[f"millrace-{name}"]["value"] for name in ("platform", "jobs", "spot")]
    assert values == sorted(values, reverse=True) and len(set(values)) == 3
    assert not any(c.get("globalDefault") for c in classes.values())
    for name, template in pods(helm.render()):
        # The migration runs before the classes are there
        assert template["spec"].get("priorityClassName") == (None if name == "m-migrate" else "millrace-platform")


def test_the_jobs_namespace_enforces_restricted_and_is_bounded(helm):
    objects = helm.render()
    (space,) = of_kind(objects, "Namespace")
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    (quota,), (limits,) = of_kind(objects, "ResourceQuota"), of_kind(objects, "LimitRange")
    assert quota["metadata"]["namespace"] == limits["metadata"]["namespace"] == "millrace-jobs"
    assert {"pods", "requests.cpu", "limits.memory", "requests.nvidia.com/gpu"} <= set(quota["spec"]["hard"])
    (limit,) = limits["spec"]["limits"]
    assert limit["type"] == "Container" and {"default", "defaultRequest", "max"} <= set(limit)
    # A limit of CPU by default, or a most of it, would be the limit of every job that names none
    assert "cpu" not in {*limit["default"], *limit["max"]}


def test_migration_comes_before_the_rest_and_leaves_nothing(helm):
    (job,) = of_kind(helm.render(), "Job")
    notes = job["metadata"]["annotations"]
    assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert "hook-succeeded" in notes["helm.sh/hook-delete-policy"]


def test_only_the_migration_sees_the_first_users_password(helm):
    for name, template in pods(helm.render()):
        (files,) = [v["projected"]["sources"] for v in template["spec"]["volumes"] if v["name"] == "secrets"]
        keys = {item["key"] for source in files for item in source["secret"]["items"]}
        assert ("admin-password" in keys) is (name == "m-migrate")
        assert {"postgres-password", "fernet-key", "jwt-secret", "session-key", "redis-password"} <= keys


@pytest.mark.parametrize("signing", [True, False])
def test_only_who_runs_tasks_sees_the_signing_key_and_does_not_start_without_it(helm, signing):
    for name, template in pods(helm.render(merged(SITE, {"signing": signing}))):
        (files,) = [v["projected"]["sources"] for v in template["spec"]["volumes"] if v["name"] == "secrets"]
        needed = {item["key"] for source in files if not source["secret"].get("optional")
                  for item in source["secret"]["items"]}  # fmt: skip
        env = {v["name"]: v.get("value") for v in template["spec"]["containers"][0]["env"]}
        signs = signing and name == "m-scheduler"
        assert ({"signing-key", "signing-public-key"} <= needed) is signs
        assert (env.get("MILLRACE_SIGNING_KEY") == "/run/secrets/millrace/signing-key") is signs
        assert ("MILLRACE_SIGNING_PUBLIC_KEY" in env) is signs


def test_settings_have_the_names_that_compose_gives_them(helm):
    # Given the stack on one machine: moving from it to a cluster changes values, not names
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    there = set(compose["x-environment"]) - {
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK"
    }  # pods have a probe of their own
    for name, template in pods(helm.render()):
        here = {v["name"]: v.get("value") for v in template["spec"]["containers"][0]["env"]}
        assert there <= set(here), name
        for same in ("CORE__EXECUTOR", "CORE__AUTH_MANAGER", "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"):
            assert here[f"AIRFLOW__{same}"] == compose["x-environment"][f"AIRFLOW__{same}"]


def test_a_project_in_a_volume_is_mounted_read_only(helm):
    volume = {"persistentVolumeClaim": {"claimName": "tree"}}
    for _, template in pods(helm.render(merged(SITE, {"project": {"path": "/tree", "volume": volume}}))):
        assert {"name": "project", **volume} in template["spec"]["volumes"]
        container = template["spec"]["containers"][0]
        assert {"name": "project", "mountPath": "/tree", "readOnly": True} in container["volumeMounts"]
        env = {v["name"]: v["value"] for v in container["env"]}
        assert env["MILLRACE_PROJECT"] == "/tree"
        (bundle,) = json.loads(env["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
        assert bundle["kwargs"]["path"] == "/tree/dags"


def test_an_image_by_digest(helm):
    digest = "sha256:" + "ab" * 32
    for _, template in pods(helm.render(merged(SITE, {"images": {"platform": {"digest": digest}}}))):
        assert template["spec"]["containers"][0]["image"] == f"millrace-platform@{digest}"


def test_each_value_is_used_and_named_in_the_schema():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    templates = "".join(p.read_text() for p in (CHART / "templates").iterdir())
    for top, inner in values.items():
        assert top in schema["properties"]
        for name in inner if isinstance(inner, dict) else ():
            assert name in schema["properties"][top].get("properties", {}), f"{top}.{name}"
            assert re.search(rf"\.{name}\b", templates), f"{top}.{name} is used nowhere"
