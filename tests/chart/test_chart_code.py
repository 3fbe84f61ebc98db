"""Servers of pipelines with code of their own, as the chart makes them: one each, which share nothing with another."""

from __future__ import annotations

import re
from typing import Any

import pytest
from chart_cluster import ROOT
from chart_helm import SITE, matches, merged, of_kind, pods

SERVER = ROOT / "include" / "millrace" / "serving" / "__main__.py"
ORDERS = {"pipeline": "big_orders", "secret": "orders-serving", "tokens": "orders-callers"}
RISK = {"pipeline": "risk", "secret": "risk-serving", "oidc": "risk-issuer"}
NAME, OTHER = "m-serving-code-big-orders", "m-serving-code-risk"


def site(*pipelines: dict[str, Any], **serving: Any) -> dict[str, Any]:
    """The least site with such servers, beside the shared one."""
    return merged(
        SITE, {"serving": {"enabled": True, "tokens": "callers", "code": {"pipelines": list(pipelines)}, **serving}}
    )


def of(objects: list[Any], name: str) -> dict[str, Any]:
    """The pod of a server."""
    spec: dict[str, Any] = dict(pods(objects))[name]["spec"]
    return spec


def words(objects: list[Any], name: str) -> list[str]:
    """What a server is told."""
    told: list[str] = of(objects, name)["containers"][0]["args"]
    return told


def seen(spec: dict[str, Any]) -> set[str]:
    """Secrets and ConfigMaps that a pod sees."""
    found = set()
    for volume in spec["volumes"]:
        for source in volume.get("projected", {}).get("sources", [volume]):
            for kind, key in (("secret", "name"), ("configMap", "name"), ("secret", "secretName")):
                found |= {source[kind][key]} if key in source.get(kind, {}) else set()
    return found


def test_none_is_made_unless_one_is_named(helm):
    assert not [o for o in helm.render(site()) if "code" in o["metadata"]["name"]]
    assert "--code" not in words(helm.render(site()), "m-serving")


def test_each_has_objects_of_its_own_and_finds_its_own_pods_alone(helm):
    objects = helm.render(site(ORDERS, RISK))
    kinds = {"StatefulSet", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"}
    for name in (NAME, OTHER):
        assert {o["kind"] for o in objects if o["metadata"]["name"] == name} == kinds
        assert of(objects, name)["serviceAccountName"] == name
    labels = {name: t["metadata"]["labels"] for name, t in pods(objects)}
    for kind, key in (("Service", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for each in of_kind(objects, kind):
            if (name := each["metadata"]["name"].removesuffix("-replicas")) in ("m-serving", NAME, OTHER):
                chosen = each["spec"][key]
                chosen = {"matchLabels": chosen} if kind == "Service" else chosen
                assert [n for n, given in labels.items() if matches(chosen, given)] == [name], (kind, name)


def test_it_opens_code_of_its_pipeline_and_the_shared_server_leaves_that_alone(helm):
    objects = helm.render(site(ORDERS, RISK))
    assert {"--code", "--only=big_orders"} <= set(words(objects, NAME))
    assert [w for w in words(objects, NAME) if w.startswith(("--only", "--except"))] == ["--only=big_orders"]
    shared = words(objects, "m-serving")
    assert {"--except=big_orders", "--except=risk"} <= set(shared) and "--code" not in shared
    told = {w.partition("=")[0] for name in (NAME, "m-serving") for w in words(objects, name)}
    assert told <= set(re.findall(r'"(--[a-z-]+)"', SERVER.read_text()))


def test_it_needs_no_shared_server(helm):
    objects = helm.render(site(ORDERS, enabled=False))
    assert [s["metadata"]["name"] for s in of_kind(objects, "StatefulSet")] == [NAME]


def test_it_sees_its_own_secrets_and_nobody_elses(helm):
    objects = helm.render(site({**ORDERS, "tls": "orders-tls"}, RISK))
    assert seen(of(objects, NAME)) == {"orders-serving", "orders-callers", "orders-tls"}
    assert seen(of(objects, OTHER)) == {"risk-serving", "risk-issuer"}
    assert seen(of(objects, "m-serving")) == {"millrace", "callers"}
    for name in (NAME, OTHER):
        (container,) = of(objects, name)["containers"]
        names = {v["name"] for v in container["env"]}
        assert not {n for n in names if n.startswith(("AIRFLOW", "MILLRACE_LEDGER", "MILLRACE_FEAST_REGISTRY"))}
        assert {i["key"] for v in of(objects, name)["volumes"] if v["name"] == "secrets"
                for s in v["projected"]["sources"] for i in s["secret"]["items"]} == {"redis-password",
                                                                                       "aws-credentials"}  # fmt: skip
        assert "envFrom" not in container and not [v for v in container["env"] if "valueFrom" in v]


def test_its_pods_are_closed_and_bounded(helm):
    for name in (NAME, OTHER):
        spec = of(helm.render(site(ORDERS, RISK)), name)
        assert spec["automountServiceAccountToken"] is False and spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}


def test_it_runs_in_the_image_of_its_jobs(helm):
    risk = {**RISK, "image": "registry.example/risk@sha256:" + "1" * 64}
    jobs = {"images": {"code": {"repository": "registry.example/jobs", "tag": "7"}}}
    objects = helm.render(merged(site(ORDERS, risk), jobs))
    assert of(objects, NAME)["containers"][0]["image"] == "registry.example/jobs:7"
    assert of(objects, OTHER)["containers"][0]["image"].startswith("registry.example/risk@sha256:")
    assert of(objects, "m-serving")["containers"][0]["image"].startswith("millrace-serving:")


def test_what_a_pipeline_says_goes_before_what_holds_for_all(helm):
    own = {"replicas": 1, "resources": {"requests": {"cpu": "3"}, "limits": {"memory": "9Gi"}}, "memoryMb": 64}
    objects = helm.render(site({**ORDERS, **own}, RISK, drainSeconds=44, log={"size": "7Gi"}))
    (made,) = [s for s in of_kind(objects, "StatefulSet") if s["metadata"]["name"] == NAME]
    assert made["spec"]["replicas"] == 1 and "--memory-mb=64" in words(objects, NAME)
    assert "--drain=44" in words(objects, NAME) and "--memory-mb=256" in words(objects, OTHER)
    assert made["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "7Gi"
    assert of(objects, NAME)["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "9Gi"}
    assert of(objects, OTHER)["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "2Gi"}
    assert NAME not in [b["metadata"]["name"] for b in of_kind(objects, "PodDisruptionBudget")]


def test_it_reaches_the_store_and_its_online_store_and_is_reached_by_its_callers(helm):
    callers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}]
    objects = helm.render(site({**ORDERS, "callers": callers, "online": "redis://orders@cache.example:6380/0"}, RISK))
    env = {v["name"]: v["value"] for v in of(objects, NAME)["containers"][0]["env"]}
    assert env["MILLRACE_FEAST_ONLINE"] == "redis://orders@cache.example:6380/0"
    labels = dict(pods(objects))[NAME]["metadata"]["labels"]
    reached, let_in = set(), []
    for policy in of_kind(objects, "NetworkPolicy"):
        spec = policy["spec"]
        if policy["metadata"]["namespace"] == "airflow" and matches(spec["podSelector"], labels):
            reached |= {p["port"] for rule in spec.get("egress", ()) for p in rule["ports"]}
            let_in += spec.get("ingress", ())
    # names, the online store, S3: no database, no MLflow, no API server, no other server
    assert reached == {53, 6380, 7070}
    assert let_in == [{"ports": [{"protocol": "TCP", "port": 8800}], "from": callers}]


def test_the_log_of_a_replica_that_is_gone_is_shipped_with_its_own_key(helm):
    objects = helm.render(site({**ORDERS, "ship": [3]}))
    job = of(objects, f"{NAME}-ship-3")
    assert seen(job) == {"orders-serving"} and job["serviceAccountName"] == NAME
    assert job["containers"][0]["args"][1] == f"--server={NAME}-3"
    assert [v["persistentVolumeClaim"]["claimName"] for v in job["volumes"] if "persistentVolumeClaim" in v] == [
        f"log-{NAME}-3"
    ]


@pytest.mark.parametrize(
    ("pipelines", "serving", "said"),
    [
        ([{**ORDERS, "tokens": ""}], {}, "big_orders"),  # it would answer everybody
        ([{**ORDERS, "secret": "millrace"}], {}, "secret"),  # the release's, with Airflow's passwords
        ([{**ORDERS, "secret": "shared"}], {"secret": "shared"}, "secret"),
        ([ORDERS, {**RISK, "secret": "orders-serving"}], {}, "pipeline risk: secret"),
        ([{**ORDERS, "tokens": "callers"}], {}, "another server's"),  # it would see tokens that count elsewhere
        ([{**RISK, "oidc": "issuer"}], {"oidc": "issuer"}, "another server's"),
        ([ORDERS, {**RISK, "tokens": "orders-callers"}], {}, "another server's"),
        ([ORDERS, {**ORDERS, "secret": "b", "tokens": "c"}], {}, "give it a name"),
        ([{**ORDERS, "pipeline": "a" * 60}], {}, "give it a name"),
        ([ORDERS], {"only": ["big_orders"]}, "serving.only"),
        ([{**ORDERS, "ship": [1]}], {}, "replica 1 is not gone"),
        ([{**ORDERS, "replica": 1}], {}, "replica"),
        ([{"pipeline": "risk", "tokens": "t"}], {}, "secret"),
        ([{**ORDERS, "variables": {"AWS_SECRET_ACCESS_KEY": "x"}}], {}, "AWS_SECRET_ACCESS_KEY"),
        ([{**ORDERS, "online": "redis://orders:geheim@cache.example"}], {}, "holds no password"),
    ],
)
def test_what_would_share_something_is_refused(helm, pipelines, serving, said):
    assert said in helm.refuses(site(*pipelines, **serving))
