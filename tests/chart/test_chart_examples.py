"""The examples for other projects' controllers, against those projects' own schemas."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_cluster import KUBERNETES, ROOT

jsonschema = pytest.importorskip("jsonschema")
EXAMPLES = KUBERNETES / "examples"
SCHEMAS = {
    "httproute.yaml": ("sigs.k8s.io/gateway-api@v1.4.0",
                       "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
    "inferenceservice.yaml": ("github.com/kserve/kserve@v0.15.2",
                              "config/crd/full/serving.kserve.io_inferenceservices.yaml"),
}  # fmt: skip
"""Example -> the Go module that holds its resource's definition, and the file."""


@cache
def definition(name: str) -> dict[str, Any]:
    """The CustomResourceDefinition of an example. Skips the test where it cannot be had."""
    module, path = SCHEMAS[name]
    if shutil.which("go") is None:
        pytest.skip(f"no Go, which would fetch {module} with the schema of {name}")
    done = subprocess.run(
        ["go", "mod", "download", "-json", module], capture_output=True, text=True, timeout=300, cwd="/"
    )
    found = json.loads(done.stdout or "{}")
    if "Dir" not in found:
        pytest.skip(f"{module} cannot be had here: {found.get('Error', done.stderr)[:200]}")
    made: dict[str, Any] = yaml.safe_load((Path(found["Dir"]) / path).read_text())
    return made


def closed(schema: Any) -> Any:
    """A structural schema that refuses what an API server would silently drop: words that it does not know."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    open_ = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_:
        made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


def mistakes(name: str, example: dict[str, Any]) -> list[str]:
    """Where an example is not what its schema says."""
    (version,) = [v for v in definition(name)["spec"]["versions"] if example["apiVersion"].endswith(f"/{v['name']}")]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return [f"{e.json_path}: {e.message[:200]}" for e in jsonschema.Draft7Validator(schema).iter_errors(example)]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_an_example_is_what_its_project_understands(name):
    example = yaml.safe_load((EXAMPLES / name).read_text())
    assert mistakes(name, example) == []
    # and a word that is not known would have been found
    example["spec"]["hostname"] = "x"
    assert len(mistakes(name, example)) == 1


def test_the_predictor_is_told_what_the_server_understands():
    (container,) = yaml.safe_load((EXAMPLES / "inferenceservice.yaml").read_text())["spec"]["predictor"]["containers"]
    known = re.findall(r'"(--[a-z-]+)"', (ROOT / "include" / "millrace" / "serving" / "__main__.py").read_text())
    assert {word.partition("=")[0] for word in container["args"]} <= set(known)
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"


def test_the_route_leads_to_the_charts_service(helm):
    from test_chart_serving import site

    (backend,) = yaml.safe_load((EXAMPLES / "httproute.yaml").read_text())["spec"]["rules"][0]["backendRefs"]
    services = [o for o in helm.render(site(), release="millrace", namespace="millrace") if o["kind"] == "Service"]
    (there,) = [s for s in services if s["metadata"]["name"] == backend["name"]]
    assert backend["port"] in [p["port"] for p in there["spec"]["ports"]]
