"""The servers of one machine: a shared one, one for each pipeline with a trainer.py, and what each sees."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.coded import SLOPE, coded
from support.served import Served

from millrace.cli.scaffold import init, new
from millrace.core.settings import Settings
from millrace.local.processes import free_ports
from millrace.local.serving import apart, servers, serving_command, serving_environment
from millrace.local.stack import airflow_environment
from millrace.spec import ProjectTree

OWN = ("process", "pods")


@pytest.fixture
def tree(tmp_path: Path) -> ProjectTree:
    """Pipelines `trips`, with a trainer.py, and `orders`; both serve."""
    root = tmp_path / "project"
    init(root)
    found = ProjectTree(root)
    for name in ("trips", "orders"):
        new(found, name)
        path = found.folder(name) / "pipeline.yaml"
        path.write_text(path.read_text() + "\nserving: {}\n")
    _custom(found, "trips")
    return ProjectTree(root)


def _custom(tree: ProjectTree, name: str) -> None:
    import re

    path = tree.folder(name) / "pipeline.yaml"
    text = path.read_text().replace("kind: xgboost", "kind: custom")
    path.write_text(re.sub(r"(    kind: custom\n)(?:    .*\n)*", r"\1", text))
    (path.parent / "trainer.py").write_text(SLOPE)


def _says(tree: ProjectTree, custom_code: str) -> None:
    (tree.root / "include" / "environments" / "dev.yaml").write_text(
        f"version: 1\nname: dev\napproval: {{by: auto}}\ncustom_code: {custom_code}\n"
    )


def words(command: list[str]) -> set[str]:
    return {f"{a} {b}" for a, b in zip(command, command[1:], strict=False) if a in ("--only", "--except")} | (
        {"--code"} & set(command)
    )


def test_each_pipeline_with_code_has_a_server_of_its_own(tree: ProjectTree):
    _says(tree, "process")
    settings = Settings.load(tree.root, {})
    found = servers([tree], settings)
    assert found == {"serving": (), "serving-trips": ("trips",)}
    commands = {name: serving_command([tree], settings, port=1, only=only) for name, only in found.items()}
    assert words(commands["serving"]) == {"--except trips"}
    assert words(commands["serving-trips"]) == {"--code", "--only trips"}
    # and a log of its own, which nobody else may write to
    logs = {command[command.index("--log") + 1] for command in commands.values()}
    assert len(logs) == 2


def test_no_code_is_served_where_the_environment_lets_none_run(tree: ProjectTree):
    _says(tree, "pods")
    settings = Settings.load(tree.root, {})
    assert servers([tree], settings) == {"serving": ()}
    for only in ([], ["trips"], ["orders"]):
        assert "--code" not in serving_command([tree], settings, port=1, only=only)


def test_several_by_name_are_served_without_those_with_code(tree: ProjectTree):
    _says(tree, "process")
    command = serving_command([tree], Settings.load(tree.root, {}), port=1, only=["trips", "orders"])
    assert words(command) == {"--except trips", "--only trips", "--only orders"}


def test_a_champion_with_code_counts_though_its_spec_has_none_any_more(tree: ProjectTree, served: Served):
    _says(tree, "process")
    served.plan(arms=(coded(served, 1, pipeline="orders"),), pipeline="orders")
    settings = Settings.load(tree.root, {"MILLRACE_STORE": served.store})
    assert apart([tree], settings) == ["orders", "trips"]


def test_a_project_in_which_nothing_serves_has_no_server(tmp_path: Path):
    init(tmp_path / "p")
    assert servers([ProjectTree(tmp_path / "p")], Settings.load(tmp_path / "p", {})) == {}


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served.make(tmp_path / "served")


@contextmanager
def running(command: list[str], env: dict[str, str]) -> Iterator[str]:
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            said = process.stdout.readline()
            assert said.startswith("Serving on "), process.stderr.read()[-2000:]
            yield said.removeprefix("Serving on ").strip()
        finally:
            process.terminate()
            process.wait(30)


def test_a_pipeline_with_a_trainer_answers_on_one_machine(tree: ProjectTree, served: Served):
    _says(tree, "process")
    served.plan(arms=(coded(served, 3),))
    served.deploy(1, served.train(1, pipeline="orders"), "orders")
    served.plan(pipeline="orders")
    settings = Settings.load(tree.root, {"MILLRACE_STORE": served.store, "MILLRACE_FEAST_ONLINE": served.online})
    starter = {**os.environ, **airflow_environment(tree, settings)}
    env = serving_environment(settings, starter)
    assert not {name for name in env if name.startswith("AIRFLOW")}
    names = servers([tree], settings)
    body: dict[str, Any] = {"entities": [{"vehicle": "v1"}]}
    with ExitStack() as stack, httpx.Client(timeout=30) as client:
        ports = free_ports(len(names))
        at = {
            name: stack.enter_context(running(serving_command([tree], settings, port=port, only=only), env))
            for (name, only), port in zip(names.items(), ports, strict=True)
        }
        said = client.post(f"{at['serving-trips']}/predict/trips", json=body)
        assert said.status_code == 200 and said.json()["predictions"][0]["version"] == 3, said.text
        assert client.post(f"{at['serving-trips']}/predict/orders", json=body).status_code == 404
        assert client.post(f"{at['serving']}/predict/orders", json=body).status_code == 200
        refused = client.post(f"{at['serving']}/predict/trips", json=body)
        assert refused.status_code == 404 and "a server of its own" in refused.json()["error"]


def test_the_policy_of_its_key_is_printed(millrace: Any, tree: ProjectTree, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tree.root)
    said = millrace("serving-policy", "trips", "--store", "s3://b/some/store")
    assert said.code == 0, said.err
    by_name = {each["Sid"]: each for each in json.loads(said.out)["Statement"]}
    assert by_name["Write"]["Resource"] == [
        f"arn:aws:s3:::b/some/store/{name}/trips/*" for name in ("vetoes", "tallies", "served")
    ]
    assert "Principal" not in by_name["Read"]
    bucket = millrace("serving-policy", "trips", "--store", "s3://b", "--principal", "me").out
    assert {each["Principal"]["AWS"] for each in json.loads(bucket)["Statement"]} == {"me"}
    assert "arn:aws:s3:::b/plans/trips.json" in bucket
    # a folder has no policies, and a pipeline that is not there no key
    assert "only a bucket has policies" in millrace("serving-policy", "trips").err
    assert millrace("serving-policy", "tripz", "--store", "s3://b").code == 1
