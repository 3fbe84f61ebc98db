"""Parsing a DAG file needs no Connection, Variable, network or ML library, and a mistake stays in its file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "boto3", "duckdb", "evidently", "feast", "great_expectations", "matplotlib", "mlflow", "onnx",
    "onnxruntime", "pandas", "pyarrow", "safetensors", "scipy", "sklearn", "torch", "xgboost",
}  # fmt: skip
PARSE = r"""
import json, sys
import airflow.sdk  # what the DAG processor has before it forks
import airflow.providers.standard.operators.trigger_dagrun, airflow.providers.standard.operators.hitl
before = set(sys.modules)
reached = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo") or (event == "sqlite3.connect"):
        reached.append(f"{event} {args}")
sys.addaudithook(watch)
asked = []
from airflow.sdk import Variable, Connection
Variable.get = classmethod(lambda cls, *a, **k: asked.append(a))
Connection.get = classmethod(lambda cls, *a, **k: asked.append(a))
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(json.dumps({
    "dags": sorted(bag.dags), "errors": bag.import_errors, "reached": reached, "asked": asked,
    "modules": sorted({m.split(".")[0] for m in set(sys.modules) - before}),
}))
"""


@pytest.fixture
def project(tmp_path):
    """A copy of the reference project that a test may break."""
    for name in ("dags", "feature_repo", "plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pipelines", "environments"):
        shutil.copytree(ROOT / "include" / name, tmp_path / "include" / name)
    shutil.copy(ROOT / "include" / "project.yaml", tmp_path / "include")
    return tmp_path


def parse(folder: Path, home: Path) -> dict:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MILLRACE_", "AIRFLOW"))}
    env |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(folder)], env=env, capture_output=True, text=True, timeout=120, cwd=home
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_all_dags_of_the_reference_project_are_there(project, tmp_path_factory):
    seen = parse(project / "dags", tmp_path_factory.mktemp("airflow"))
    assert seen["errors"] == {}
    parts = ("features", "monitoring", "release", "training")
    names = ("city_temperature", "digits", "flight_delays", "languages")
    served = ["flight_delays__retirement", "flight_delays__rollback"]
    assert seen["dags"] == sorted([f"{name}__{part}" for name in names for part in parts] + served)


def test_parsing_imports_no_ml_library_and_reaches_nothing(project, tmp_path_factory):
    seen = parse(project / "dags", tmp_path_factory.mktemp("airflow"))
    assert set(seen["modules"]) & HEAVY == set()
    assert seen["reached"] == []
    assert seen["asked"] == []
    assert not (project / ".millrace").exists(), "parsing wrote into the project"


def test_a_pipeline_that_serves_parses_as_lightly_and_has_a_rollback(project, tmp_path_factory):
    path = project / "include" / "pipelines" / "city_temperature" / "pipeline.yaml"
    path.write_text(path.read_text() + "\nserving: {}\n")

    seen = parse(project / "dags", tmp_path_factory.mktemp("airflow"))

    assert seen["errors"] == {} and "city_temperature__rollback" in seen["dags"]
    assert set(seen["modules"]) & HEAVY == set()
    assert seen["reached"] == [] and seen["asked"] == [] and not (project / ".millrace").exists()


def test_a_broken_pipeline_is_the_import_error_of_its_own_file_only(project, tmp_path_factory):
    # Given one pipeline with a misspelt key
    path = project / "include" / "pipelines" / "flight_delays" / "pipeline.yaml"
    text = path.read_text()
    path.write_text(text.replace("\npartition:", "\npartitoin:", 1))
    # When the folder is parsed
    seen = parse(project / "dags", tmp_path_factory.mktemp("airflow"))
    # Then that pipeline's file says where and what, and the other pipeline's DAGs are there
    assert [name for name in seen["dags"] if name.startswith("city_temperature")]
    assert [name for name in seen["dags"] if name.startswith("flight_delays")] == []
    ((file, message),) = seen["errors"].items()
    assert file.endswith("flight_delays.py")
    assert "pipeline.yaml:" in message and "partitoin" in message and "did you mean 'partition'" in message


def test_custom_code_is_an_import_error_where_the_environment_does_not_let_it(project, tmp_path_factory, monkeypatch):
    import yaml

    # Given a pipeline with a trainer that would be noticed if it ran, in production, whose code runs in pods only
    folder, ran = project / "include" / "pipelines" / "flight_delays", project / "ran"
    spec = yaml.safe_load((folder / "pipeline.yaml").read_text())
    spec["training"]["learner"] = {"kind": "custom"}
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(spec))
    (folder / "trainer.py").write_text(
        f"open({str(ran)!r}, 'w')\n"
        "def fit(train, params, settings): ...\ndef predict(weights, rows, params, settings): ...\n"
    )
    environments = project / "include" / "environments"
    dev = (environments / "dev.yaml").read_text()
    assert "custom_code: process" in dev
    seen = parse(project / "dags", tmp_path_factory.mktemp("airflow"))
    assert seen["errors"] == {} and not ran.exists()
    (environments / "dev.yaml").write_text(dev.replace("custom_code: process", "custom_code: pods"))
    seen = parse(project / "dags", tmp_path_factory.mktemp("airflow"))
    ((file, message),) = seen["errors"].items()
    assert file.endswith("flight_delays.py") and not ran.exists()
    assert "dev.yaml:" in message and "runs custom code in pods only" in message and "train, evaluate, score" in message
    assert len(seen["dags"]) == 12


def test_a_pipeline_without_training_is_valid_and_has_one_dag(project, tmp_path_factory):
    import yaml

    # Given a pipeline that only makes features
    path = project / "include" / "pipelines" / "flight_delays" / "pipeline.yaml"
    spec = yaml.safe_load(path.read_text())
    for key in ("training", "evaluation", "monitoring", "serving"):
        del spec[key]
    path.write_text(yaml.safe_dump(spec))
    # Then its features DAG is all there is
    seen = parse(project / "dags", tmp_path_factory.mktemp("airflow"))
    assert [name for name in seen["dags"] if name.startswith("flight_delays")] == ["flight_delays__features"]


def test_dag_files_are_three_lines():
    for path in (ROOT / "dags").glob("*.py"):
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "from airflow"))]
        assert len(lines) == 2, f"{path.name} does more than call build_dags"
