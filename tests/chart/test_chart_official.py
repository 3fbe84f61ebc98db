"""The values for the official Airflow chart: what can be said of them without it, and all where it is at hand."""

from __future__ import annotations

import os

import pytest
import yaml
from chart_cluster import KUBERNETES
from chart_helm import NO_SERVER, SITE, pods

FILE = KUBERNETES / "official-values.yaml"
CHART = os.environ.get("MILLRACE_AIRFLOW_CHART")
OURS = {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "AIRFLOW__API__BASE_URL", "AIRFLOW__LOGGING__NAMESPACE_LEVELS"}
"""What the official chart sets by itself, or what is a matter of taste."""


def values() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_settings_are_those_of_our_own_chart(helm):
    there = {v["name"]: v["value"] for v in values()["env"]}
    for _, template in pods(helm.render(SITE)):
        here = {v["name"]: v["value"] for v in template["spec"]["containers"][0]["env"]}
        assert set(here) - {"SLOTS"} - set(there) == OURS
        assert set(there) <= set(here)
        fixed = [n for n in there if n.startswith("AIRFLOW__") and "BUNDLE" not in n and "example" not in there[n]]
        assert {n: there[n] for n in fixed} == {n: here[n] for n in fixed}


def test_every_file_that_a_setting_names_is_a_key_of_the_secret():
    named = {v["value"].rpartition("/")[2] for v in values()["env"] if "/run/secrets/" in v["value"]}
    assert named <= {
        "postgres-password",
        "redis-password",
        "aws-credentials",
        "fernet-key",
        "jwt-secret",
        "session-key",
    }


@pytest.mark.skipif(not CHART, reason="MILLRACE_AIRFLOW_CHART names no copy of the official Airflow chart")
def test_the_official_chart_takes_them(cluster, helm, namespace):
    airflow = namespace("official", enforce="restricted")
    rendered = helm("template", "a", str(CHART), "--namespace", airflow, *NO_SERVER, values=values())
    objects = [each for each in yaml.safe_load_all(rendered) if each]
    cluster.kubectl("apply", "--dry-run=server", "-n", airflow, "-f", "-", given=objects)
    for name, template in pods(objects):
        spec = {**template["spec"], "serviceAccountName": "default"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": airflow}, "spec": spec}
        cluster.kubectl("create", "--dry-run=server", "-f", "-", given=pod)
