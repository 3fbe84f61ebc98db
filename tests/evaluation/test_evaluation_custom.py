"""custom: a check of another package is found by its entry point, and runs only where custom code may run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import pytest
from support.judged import Judging, blocked, passing

from millrace.evaluation.checks.subject import Figure
from millrace.spec.base import Model

PROCESS = {"limits": {"custom_code": "process"}}


class LateShare(Model):
    """As another package would have it: how many rows are predicted late."""

    kind: Literal["late_share"] = "late_share"
    max: float
    answer: str = "figures"
    engine: ClassVar[str] = "another_package:measure"


class Entry:
    name, value = "late_share", "another_package:LateShare"

    def load(self) -> Any:
        return LateShare


@pytest.fixture(autouse=True)
def another_package(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A package that is installed beside Millrace; the list says when its code ran."""
    ran: list[str] = []
    module = ModuleType("another_package")

    def measure(asked: LateShare, subject: Any) -> Any:
        import numpy as np

        ran.append(subject.model.digest)
        if asked.answer == "raises":
            raise ZeroDivisionError("of a value 4711")
        if asked.answer == "nothing":
            return []
        if asked.answer == "unbounded":
            return [Figure("share", 0.1)]
        share = float((subject.measured.prediction > 0.5).mean()) + 0 * np.random.random()
        return [Figure("share of late rows", share, max=asked.max, rows=len(subject.measured.label))]

    module.measure = measure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "another_package", module)

    def entry_points(*, group: str, name: str | None = None) -> list[Entry]:
        return [Entry()] if group == "millrace.model_checks" and name in (None, "late_share") else []

    monkeypatch.setattr("millrace.spec.extension.entry_points", entry_points)
    return ran


def asked(**keys: Any) -> dict[str, Any]:
    return {"type": "custom", "check": {"kind": "late_share", "max": 1, **keys}}


def test_a_check_of_another_package_blocks_the_model(tmp_path: Path) -> None:
    outcome = blocked(
        Judging(tmp_path, asked(max=0), means=PROCESS), "late_share", "share of late rows is", "at most 0"
    )
    (fact,) = outcome.facts["custom"]
    assert fact["name"] == "late_share" and fact["figures"][0]["passed"] is False


def test_a_check_of_another_package_passes(tmp_path: Path, another_package: list[str]) -> None:
    judging = Judging(tmp_path, asked(), means=PROCESS)
    passing(judging, "late_share")
    assert another_package == [judging.model.digest]


def test_a_pod_may_run_it(tmp_path: Path) -> None:
    passing(Judging(tmp_path, asked(), means={"profile": "cpu-small"}), "late_share")


@pytest.mark.parametrize("means", [{}, {"limits": {"custom_code": "pods"}}])
def test_a_process_without_leave_runs_nothing_and_is_no_verdict(
    tmp_path: Path, another_package: list[str], means: dict[str, Any]
) -> None:
    result = Judging(tmp_path, asked(), means=means).result()
    assert result.outcome is None and result.error is not None
    assert (result.error.type, result.error.retry) == ("ContractError", "never")
    assert (
        "model check 'late_share' of another package may not be executed in the task's process" in result.error.message
    )
    assert another_package == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [("raises", "ZeroDivisionError"), ("nothing", "it says nothing"), ("unbounded", "something else than figures")],
)
def test_what_gives_no_figures_with_bounds_fails(tmp_path: Path, answer: str, words: str) -> None:
    outcome = blocked(
        Judging(tmp_path, asked(answer=answer), means=PROCESS), "late_share", "could not be computed", words
    )
    assert "4711" not in outcome.model_dump_json()


def test_an_engine_that_is_not_installed_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LateShare, "engine", "nowhere_at_all:measure")
    result = Judging(tmp_path, asked(), means=PROCESS).result()
    assert result.error is not None and "cannot be imported" in result.error.message


def test_an_unknown_kind_is_refused_with_what_there_is(tmp_path: Path) -> None:
    from pydantic import ValidationError

    with pytest.raises(
        ValidationError, match=r"unknown kind 'late_sare'; allowed: late_share; did you mean 'late_share'"
    ):
        Judging(tmp_path, {"type": "custom", "check": {"kind": "late_sare"}})


def test_an_environment_that_keeps_code_in_pods_refuses_the_pipeline(tmp_path: Path) -> None:
    """`millrace check` and the DAG file say so, before anything runs."""
    import yaml

    from millrace.cli.scaffold import init, new
    from millrace.core.errors import SpecError
    from millrace.spec import Placed, ProjectTree

    init(tmp_path)
    tree = ProjectTree(tmp_path)
    new(tree, "orders")
    path = tree.folder("orders") / "pipeline.yaml"
    described = yaml.safe_load(path.read_text())
    described["evaluation"]["checks"] = [asked()]
    path.write_text(yaml.safe_dump(described))
    Placed.of(tree, "dev", "orders")
    environment = tmp_path / "include" / "environments" / "dev.yaml"
    environment.write_text(environment.read_text().replace("custom_code: process", "custom_code: pods"))
    with pytest.raises(
        SpecError, match="the model check 'late_share' of another package with evaluate in the task's process"
    ):
        Placed.of(ProjectTree(tmp_path), "dev", "orders")
