"""What the chart makes of the prediction server, and the examples beside it, before any cluster sees them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from chart_cluster import ROOT
from chart_helm import SITE, matches, merged, of_kind, pods
from test_chart_render import CHART

SERVER = ROOT / "include" / "millrace" / "serving" / "__main__.py"
MOUNT = "/var/lib/millrace/predictions"


def site(**serving: Any) -> dict[str, Any]:
    """The least site with a server."""
    return merged(SITE, {"serving": {"enabled": True, "tokens": "callers", **serving}})


def stateful(objects: list[Any]) -> dict[str, Any]:
    """The StatefulSet's spec."""
    (found,) = of_kind(objects, "StatefulSet")
    spec: dict[str, Any] = found["spec"]
    return spec


def arguments(spec: dict[str, Any]) -> dict[str, str]:
    """What the server is told."""
    words = spec["template"]["spec"]["containers"][0]["args"]
    return dict(word.partition("=")[::2] for word in words)


def test_lint_finds_nothing(helm):
    assert "[WARNING]" not in (said := helm("lint", "--strict", str(CHART), values=site(ship=[2]))), said


def test_nothing_serves_unless_it_is_asked_for(helm):
    assert not [o for o in helm.render() if "serving" in o["metadata"]["name"]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tokens": ""}, "(tokens)"),  # it would answer everybody
        ({"ship": [1]}, "replica 1 is not gone"),
        ({"autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 3}}, "maxReplicas"),
        ({"log": {"size": "much"}}, "size"),
        ({"replicas": 0}, "replicas"),
        ({"variables": {"REDISCLI_AUTH": "x"}}, "REDISCLI_AUTH"),
        ({"autoscaling": {"enabled": True, "metrics": [{"type": "Guess"}]}}, "type"),
        ({"drainSeconds": 1}, "drainSeconds"),  # less than what lingering takes
    ],
)
def test_wrong_values_are_refused_by_name(helm, wrong, said):
    assert said in helm.refuses(site(**wrong))


def test_its_pods_are_restricted_and_speak_to_no_api_server(helm):
    found = {name: t["spec"] for name, t in pods(helm.render(site(ship=[2]))) if "serving" in name}
    assert set(found) == {"m-serving", "m-serving-ship-2"}
    for spec in found.values():
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["fsGroup"] == 10001
        assert spec["automountServiceAccountToken"] is False and spec["serviceAccountName"] == "m-serving"
        (container,) = spec["containers"]
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False and security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]


def test_every_claim_outlives_its_replica_and_the_release(helm):
    spec = stateful(helm.render(site(log={"size": "3Gi", "storageClass": "fast"})))
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi" and claim["spec"]["storageClassName"] == "fast"
    mounts = {m["name"]: m["mountPath"] for m in spec["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == arguments(spec)["--log"] == MOUNT
    assert "storageClassName" not in stateful(helm.render(site()))["volumeClaimTemplates"][0]["spec"]


def test_a_job_ships_exactly_the_claims_that_are_named(helm):
    objects = helm.render(site(replicas=2, ship=[2, 4]))
    spec = stateful(objects)
    template = f"{spec['volumeClaimTemplates'][0]['metadata']['name']}-m-serving"
    jobs = [j for j in of_kind(objects, "Job") if "ship" in j["metadata"]["name"]]
    for job, ordinal in zip(jobs, (2, 4), strict=True):
        pod = job["spec"]["template"]["spec"]
        (claim,) = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
        assert claim == f"{template}-{ordinal}"
        # under the name that the replica had, so that what it shipped itself is the same object
        assert pod["containers"][0]["args"] == [MOUNT, f"--server=m-serving-{ordinal}"]
        keys = {i["key"] for v in pod["volumes"] for s in v.get("projected", {}).get("sources", ())
                for i in s["secret"]["items"]}  # fmt: skip
        assert keys == {"aws-credentials"}


def test_no_request_is_lost_when_a_pod_leaves(helm):
    spec = stateful(helm.render(site(leaveSeconds=7, drainSeconds=20)))
    pod = spec["template"]["spec"]
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "7"]
    assert arguments(spec)["--drain"] == "20"
    assert pod["terminationGracePeriodSeconds"] > 7 + 20


def test_the_server_knows_every_argument_that_it_is_given(helm):
    everything = site(tls="cert", only=["a", "b"], log={"durable": False}, oidc="issuer")
    spec = stateful(helm.render(everything))
    assert set(arguments(spec)) <= set(re.findall(r'"(--[a-z-]+)"', SERVER.read_text()))
    words = spec["template"]["spec"]["containers"][0]["args"]
    assert {"--only=a", "--only=b", "--buffered"} <= set(words)
    assert not {"--code", "--buffered"} & set(
        stateful(helm.render(site()))["template"]["spec"]["containers"][0]["args"]
    )


def test_models_of_all_its_processes_fit_the_limit(helm):
    spec = stateful(helm.render(site()))
    memory = spec["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    words = arguments(spec)
    # the workers, and one that holds shadows; 150 MB is what a server takes at most with one model (tests/images)
    assert memory == "1Gi" and 150 + (int(words["--workers"]) + 1) * int(words["--memory-mb"]) < 1024


@pytest.mark.parametrize("tls", ["", "cert"])
def test_probes_ask_as_callers_do(helm, tls):
    objects = helm.render(site(tls=tls))
    container = stateful(objects)["template"]["spec"]["containers"][0]
    for kind, path in (("startup", "ready"), ("readiness", "ready"), ("liveness", "live")):
        asked = container[f"{kind}Probe"]["httpGet"]
        assert asked["path"] == f"/v2/health/{path}" and asked["scheme"] == ("HTTPS" if tls else "HTTP")
    assert ("--tls-key=/run/secrets/tls/tls.key" in container["args"]) is bool(tls)
    services = [s["spec"] for s in of_kind(objects, "Service") if "serving" in s["metadata"]["name"]]
    assert [s["ports"][0]["appProtocol"] for s in services] == ["https" if tls else "http"] * 2


def test_services_find_its_pods_and_no_other(helm):
    objects = helm.render(site())
    found = {
        s["metadata"]["name"]: s["spec"] for s in of_kind(objects, "Service") if "serving" in s["metadata"]["name"]
    }
    assert set(found) == {"m-serving", stateful(objects)["serviceName"]}
    assert found["m-serving-replicas"]["clusterIP"] == "None"
    for spec in found.values():
        selected = [n for n, t in pods(objects) if matches({"matchLabels": spec["selector"]}, t["metadata"]["labels"])]
        assert selected == ["m-serving"]


@pytest.mark.parametrize(
    ("given", "budget"),
    [({"replicas": 2}, True), ({"replicas": 1}, False), ({"autoscaling": {"enabled": True, "minReplicas": 1}}, False),
     ({"replicas": 1, "autoscaling": {"enabled": True, "minReplicas": 3}}, True)],
)  # fmt: skip
def test_a_budget_where_a_second_replica_always_is(helm, given, budget):
    names = [b["metadata"]["name"] for b in of_kind(helm.render(site(**given)), "PodDisruptionBudget")]
    assert ("m-serving" in names) is budget


def test_the_autoscaler_alone_says_how_many(helm):
    custom = {"type": "Pods", "pods": {"metric": {"name": "millrace_waiting"},
                                       "target": {"type": "AverageValue", "averageValue": "5"}}}  # fmt: skip
    objects = helm.render(site(autoscaling={"enabled": True, "maxReplicas": 7, "cpu": 60, "metrics": [custom]}))
    assert "replicas" not in stateful(objects) and stateful(helm.render(site()))["replicas"] == 2
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler")
    spec = scaler["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "m-serving"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 7)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 60 and spec["metrics"][1:] == [custom]
    # per cent of a request, which must be there
    assert stateful(objects)["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]


def test_the_server_sees_what_its_services_ask_for_and_nothing_of_airflows(helm):
    volumes = stateful(helm.render(site(secret="own")))["template"]["spec"]["volumes"]
    (files,) = [v["projected"]["sources"] for v in volumes if v["name"] == "secrets"]
    assert {s["secret"]["name"] for s in files} == {"own"}
    assert {i["key"] for s in files for i in s["secret"]["items"]} == {"redis-password", "aws-credentials"}
    postgres = merged(site(), {"services": {"online": "postgresql://millrace@db.example/online"}})
    container = stateful(helm.render(postgres))["template"]["spec"]["containers"][0]
    env = {v["name"]: v["value"] for v in container["env"]}
    assert env["PGPASSWORD_FILE"].endswith("/postgres-password") and "REDISCLI_AUTH_FILE" not in env


def test_settings_have_the_names_that_compose_gives_them(helm):
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["serving"]
    container = stateful(helm.render(site()))["template"]["spec"]["containers"][0]
    assert {v["name"] for v in container["env"]} == set(compose["environment"])


def test_ports_that_it_may_reach_and_who_reaches_it(helm):
    callers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}]
    values = merged(site(ship=[2], oidc="issuer"), {"network": {"callers": callers}})
    objects = helm.render(values)
    templates = dict(pods(objects))
    reached: dict[str, set[int]] = {}
    let_in: dict[str, list[Any]] = {}
    for name in ("m-serving", "m-serving-ship-2"):
        for policy in of_kind(objects, "NetworkPolicy"):
            spec = policy["spec"]
            here = policy["metadata"]["namespace"] == "airflow"
            if here and matches(spec["podSelector"], templates[name]["metadata"]["labels"]):
                reached.setdefault(name, set()).update(p["port"] for r in spec.get("egress", ()) for p in r["ports"])
                let_in.setdefault(name, []).extend(spec.get("ingress", ()))
    assert reached == {"m-serving": {53, 443, 6379, 7070}, "m-serving-ship-2": {53, 7070}}
    assert let_in["m-serving-ship-2"] == []
    assert let_in["m-serving"] == [{"ports": [{"protocol": "TCP", "port": 8800}], "from": callers}]


def test_a_secret_that_changes_is_seen_by_a_server_that_runs(helm):
    # A file mounted by subPath would stay as it was
    container = stateful(helm.render(site(oidc="issuer")))["template"]["spec"]["containers"][0]
    env = {v["name"]: v["value"] for v in container["env"]}
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "callers"]
    assert "subPath" not in mount
    for name in ("TOKENS", "OIDC"):
        assert env[f"MILLRACE_SERVING_{name}"].startswith(f"{mount['mountPath']}/")
