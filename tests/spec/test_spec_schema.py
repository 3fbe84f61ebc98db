"""The JSON Schemas: committed as generated, and an editor's answer is the loader's."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from millrace.cli import schemas
from millrace.spec import PipelineSpec, ProjectTree, schema
from millrace.spec.extension import Extensible
from millrace.spec.learner import LEARNERS
from millrace.spec.source import SOURCES
from millrace.spec.training import METRICS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "include" / "pipelines" / "flight_delays" / "pipeline.yaml"


@pytest.fixture
def check():
    """A function that gives an editor's complaints about a pipeline."""
    validator = jsonschema.Draft202012Validator(json.loads(schema.path("pipeline").read_text()))
    return lambda value: [error.message for error in validator.iter_errors(value)]


def as_editors_read(path: Path) -> dict:
    """YAML 1.2, where a date is text."""
    loader = type("Core", (yaml.SafeLoader,), {})
    loader.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if not pair[0].endswith("timestamp")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return yaml.load(path.read_text(), loader)


@pytest.fixture
def spec() -> dict:
    return as_editors_read(REFERENCE)


def test_committed_schemas_are_the_generated_ones():
    targets = schemas.targets(ProjectTree(ROOT))
    assert sorted(path.name for path in targets) == [
        "compute.schema.json", "environment.schema.json", "job_request.schema.json", "job_result.schema.json",
        "pipeline.schema.json", "project.schema.json",
    ]  # fmt: skip
    assert schemas.differing(ProjectTree(ROOT)) == [], "run 'millrace schema' and commit"


@pytest.mark.parametrize("kind", ["pipeline", "environment", "project"])
def test_the_reference_project_is_valid_for_an_editor(kind):
    validator = jsonschema.Draft202012Validator(json.loads(schema.path(kind).read_text()))
    files = {"pipeline": "pipelines/*/pipeline.yaml", "environment": "environments/*.yaml", "project": "project.yaml"}
    paths = list((ROOT / "include").glob(files[kind]))
    assert paths
    for path in paths:
        assert [e.message for e in validator.iter_errors(as_editors_read(path))] == []


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ([], "onwer", "x"),
        (["sources", "flights"], "lokback", "P1D"),
        (["sources"], "Flights", {"kind": "files", "location": "{year}{month}", "gate": "g", "columns": ["c"]}),
        (["training", "learner"], "round", 3),
        (["training", "learner"], "rounds", 0),
        (["partition"], "grain", "moth"),
        (["monitoring"], "cooldown", "one month"),
        (["columns"], "carrier", "pubic"),
    ],
)
def test_an_editor_refuses_what_the_loader_refuses(check, spec, place, key, value):
    assert check(spec) == [] and PipelineSpec.model_validate(spec)
    section = spec
    for part in place:
        section = section[part]
    section[key] = value
    assert check(spec)
    with pytest.raises(ValueError):
        PipelineSpec.model_validate(spec)


def test_a_kind_is_needed_and_completed(check, spec):
    found = json.loads(schema.path("pipeline").read_text())
    for extensible, place in (
        (SOURCES, next(iter(found["properties"]["sources"]["patternProperties"].values()))),
        (LEARNERS, found["$defs"]["TrainingSpec"]["properties"]["learner"]),
    ):
        variants = [found["$defs"][v["$ref"].rpartition("/")[2]] for v in place["oneOf"] if "$ref" in v]
        assert {v["properties"]["kind"]["const"] for v in variants} == set(extensible.builtin)
        assert all("kind" in v["required"] and v["additionalProperties"] is False for v in variants)
    del spec["training"]["learner"]["kind"]
    assert check(spec)


def test_a_kind_from_another_package_is_left_to_it(check, spec):
    spec["training"]["learner"] = {"kind": "ridge", "penalty": 2}
    assert check(spec) == []
    # but nothing here trains a graph, whoever brings a package of that name
    spec["training"]["learner"] = {"kind": "onnx"}
    assert check(spec)
    with pytest.raises(ValueError, match="only predicts, and comes by `millrace import`; allowed: custom, torch_mlp"):
        PipelineSpec.model_validate(spec)
    # and none of ours under its own name with other keys
    spec["training"]["learner"] = {"kind": "xgboost", "penalty": 2}
    assert check(spec)


class Entry:
    """An installed package's entry point."""

    name, value = "ridge", "package.learners:Ridge"

    def __init__(self, found: object) -> None:
        self.found = found

    def load(self) -> object:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (ImportError("No module named 'numpyy'"), "cannot be imported: ImportError: No module named 'numpyy'"),
        (RuntimeError("no licence"), "cannot be imported: RuntimeError: no licence"),
        (dict, "is no pydantic model with a 'kind'"),
    ],
)
def test_a_package_that_cannot_be_used_is_a_mistake_of_the_spec(monkeypatch, tmp_path, found, words):
    from millrace.core.errors import SpecError
    from millrace.spec.yaml_file import load

    monkeypatch.setattr("millrace.spec.extension.entry_points", lambda **asked: [Entry(found)])
    path = tmp_path / "pipeline.yaml"
    path.write_text(REFERENCE.read_text().replace("kind: xgboost", "kind: ridge"))
    with pytest.raises(SpecError) as said:
        load(PipelineSpec, path)
    line = path.read_text().splitlines().index("    kind: ridge") + 1
    assert f"pipeline.yaml:{line}: training.learner.kind: kind 'ridge' comes from 'package.learners:Ridge'" in str(
        said.value
    )
    assert words in str(said.value)


def test_a_schema_is_the_same_whatever_is_installed(monkeypatch):
    before = schema.render(PipelineSpec)
    monkeypatch.setattr(Extensible, "kinds", lambda self: ["ridge"])
    assert schema.render(PipelineSpec) == before


def test_metrics_that_thresholds_may_name_are_those_that_are_measured():
    import numpy as np

    from millrace.models.metrics import metrics

    label = np.array([0.0, 1.0, 1.0, 0.0])
    for task, names in METRICS.items():
        prediction = np.array([0.2, 0.7, 0.6, 0.4])
        if task == "multiclass":
            prediction = np.stack([1 - prediction, prediction], axis=1)
        assert set(metrics(task, label, prediction)) == set(names)
