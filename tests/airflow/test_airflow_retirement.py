"""The retirement DAG: what it retires, what it asks MLflow's job, and what becomes of what strayed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from support.project import PIPELINE
from support.releases import House
from support.task import running

from millrace.airflow import build_dags
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import retirement as tasks
from millrace.contract import JobRequest, Outcome
from millrace.ledger import Moved
from millrace.rules import retention as rules

LATER = timedelta(days=100)


def keeping(house: House, monkeypatch: pytest.MonkeyPatch, text: str = "") -> House:
    """The same project in an environment that retires versions."""
    path = Path(house.site.tree.root) / "include" / "environments" / "dev.yaml"
    retention = 'retention: {schedule: "0 4 * * *", candidates: P30D, champions: P60D, runs: P7D}\n'
    path.write_text(path.read_text() + retention + text)
    Site.at.cache_clear()
    return House(house.site.tree.root, monkeypatch)


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred days on, as the tasks see it."""

    class Clock(tasks.datetime):  # type: ignore[misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) + LATER

    monkeypatch.setattr(tasks, "datetime", Clock)


def run(house: House, function: Any) -> Any:
    with running(f"{PIPELINE}__retirement", "retire", run_id="scheduled__1", run_type="scheduled"):
        return function(**house.here)


def states(house: House) -> dict[int, str]:
    return {life.version: life.state for life in house.ledger.lives(PIPELINE)}


def test_there_is_a_dag_only_where_the_environment_keeps_versions_for_a_time(house, monkeypatch):
    file = str(house.site.tree.root / "dags" / f"{PIPELINE}.py")
    assert f"{PIPELINE}__retirement" not in {dag.dag_id for dag in build_dags(PIPELINE, file)}
    keeping(house, monkeypatch)
    (dag,) = [dag for dag in build_dags(PIPELINE, file) if dag.dag_id == f"{PIPELINE}__retirement"]
    assert dag.task_ids == ["retire", "reconcile"] and dag.schedule is not None


def test_old_candidates_go_and_champions_and_what_waits_stay(house, monkeypatch):
    house = keeping(house, monkeypatch)
    for version in (1, 2, 3):
        house.register(version), house.release(version)
    house.register(4)
    house.ledger.move(Moved(pipeline=PIPELINE, version=4, to="quarantined", reason="it leaks", by="ann"))
    house.register(5), house.open(5)

    assert run(house, tasks.retire) == []  # nothing is old yet
    later(monkeypatch)
    assert run(house, tasks.retire) == [1]
    assert run(house, tasks.retire) == []
    assert states(house) == {1: "retired", 2: "candidate", 3: "champion", 4: "quarantined", 5: "challenger"}
    moved = house.ledger.lives(PIPELINE)[0].moved
    assert moved.by == "the retirement DAG" and "is champion no more and was kept P60D" in moved.reason


class MLflow:
    """What the job was asked, and what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *strayed: list[str]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.strayed = list(strayed)
        monkeypatch.setattr(tasks, "outcome_of", self)

    def __call__(self, request: JobRequest) -> Any:
        params = request.identity.params
        self.asked.append(params)
        strayed = self.strayed.pop(0) if self.strayed else []
        return Outcome(facts={"strayed": strayed, "forgotten": sorted(map(int, params["forget"]))}), None


def test_runs_of_kept_versions_are_guarded_and_of_long_retired_ones_forgotten(house, monkeypatch):
    house = keeping(house, monkeypatch)
    for version in (1, 2, 3):
        house.register(version, mlflow_run=f"r{version}"), house.release(version)
    later(monkeypatch)
    run(house, tasks.retire)
    mlflow = MLflow(monkeypatch)
    run(house, tasks.reconcile)  # it retired by the real clock, so its run may go a hundred days later
    assert mlflow.asked[-1]["forget"] == {"1": "r1"} and mlflow.asked[-1]["runs"] == {"2": "r2", "3": "r3"}
    assert (mlflow.asked[-1]["champion"], mlflow.asked[-1]["challengers"]) == (3, [])
    assert all(not asked["forget"] for asked in mlflow.asked[:-1])


STRAY = "alias 'champion' names version 1, and should name version 2"


def test_what_strayed_twice_fails_the_run_and_is_left_where_the_environment_reports(house, monkeypatch):
    house = keeping(house, monkeypatch)
    mlflow = MLflow(monkeypatch, [STRAY, "a release's own"], [STRAY])
    with pytest.raises(AirflowFailException, match="changed in MLflow past the ledger: alias 'champion'"):
        run(house, tasks.reconcile)
    assert mlflow.asked[-1]["revert"] == []


def test_it_is_set_right_where_the_environment_says_so_and_a_release_on_its_way_is_not(house, monkeypatch):
    house = keeping(house, monkeypatch, "aliases: revert\n")
    mlflow = MLflow(monkeypatch, [STRAY, "a release's own"], [STRAY])
    assert run(house, tasks.reconcile)["strayed"] == [STRAY]
    assert mlflow.asked[-1]["revert"] == [STRAY]


def test_a_version_that_was_asked_for_meanwhile_stays(house, monkeypatch):
    house = keeping(house, monkeypatch)
    house.register(1), house.release(1), house.register(2), house.open(2)
    monkeypatch.setattr(tasks, "due", lambda *_: {2: "too late"})
    assert run(house, tasks.retire) == [] and states(house)[2] == "challenger"
    assert rules.FORMER == 2
