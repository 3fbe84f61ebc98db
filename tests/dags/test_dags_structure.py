"""The exact shape of the DAGs: a change here is a change of what operators see, so it is made on purpose."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dags():
    from millrace.airflow import build_dags

    return {dag.dag_id.split("__")[1]: dag for dag in build_dags("flight_delays", str(ROOT / "dags" / "x.py"))}


def edges(dag):
    return {(task.task_id, down) for task in dag.tasks for down in task.downstream_task_ids}


def test_features(dags):
    sources = ("flights", "planes", "weather")
    chain = ("gate_raw", "transform", "gate_features", "publish", "materialize", "score")
    assert edges(dags["features"]) >= {(f"land.{s}", "gate_raw") for s in sources} | set(pairwise(chain))
    assert len(dags["features"].tasks) == 9


def test_training(dags):
    assert [t.task_id for t in dags["training"].topological_sort()] == [
        "claim", "training_set", "train", "evaluate", "register", "release", "settle",
    ]  # fmt: skip
    assert dags["training"].max_active_runs == 1
    assert dags["training"].get_task("settle").trigger_rule == "all_done"


def test_release(dags):
    served = {("approve", "deploy"), ("deploy", "promote"), ("promote", "watch")}
    assert edges(dags["release"]) == {("open", "approve"), *served}
    # A waiting approval holds its run; a newer challenger must not queue behind it.
    assert dags["release"].max_active_runs > 1


def test_monitoring(dags):
    into = {(task, "decide") for task in ("drift", "performance", "probe")}
    assert edges(dags["monitoring"]) >= into | {("performance", "probe"), ("decide", "retrain")}
    assert dags["monitoring"].max_active_runs == 1


def test_what_starts_another_dag_fails_at_once_where_that_is_paused(dags):
    for part, task in (("monitoring", "retrain"), ("training", "release")):
        assert dags[part].get_task(task).fail_when_dag_is_paused


def test_publishing_emits_the_partitioned_asset_that_people_subscribe_to(dags):
    outlets = dags["features"].get_task("publish").outlets
    assert [asset.name for asset in outlets] == ["reference.flight_delays.features"]
    scored = dags["features"].get_task("score").outlets
    assert dags["monitoring"].schedule.asset_condition == scored[0]


def test_every_task_that_computes_takes_a_slot_of_the_pool(dags):
    heavy = {"transform", "training_set", "train", "evaluate", "drift", "performance", "probe"}
    for dag in dags.values():
        for task in dag.tasks:
            assert (task.pool == "millrace_compute") == (task.task_id in heavy), task.task_id


def test_every_dag_says_what_it_does(dags):
    for part, dag in dags.items():
        assert "include/pipelines/flight_delays" in dag.doc_md
        assert {part, "flight_delays"} <= set(dag.tags)
        assert all(task.retry_policy is not None for task in dag.tasks)


def test_the_training_form_is_typed(dags):
    params = dags["training"].params
    assert params.get_param("window").schema["pattern"]
    assert params.get_param("learner").schema["type"] == "object"
    assert params.get_param("reason").schema["minLength"] == 1
