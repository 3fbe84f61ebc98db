"""Runners: one for each kind of profile, and tasks that look the same whichever runs their job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from airflow.sdk import DAG

from millrace.airflow.pods.task import PodTask
from millrace.airflow.runners import RUNNERS, Planned, runner_of
from millrace.airflow.runtime.run import JobTask
from millrace.spec.compute import ComputeProfile, ProcessProfile, Profile


def test_every_kind_of_profile_has_a_runner() -> None:
    assert set(RUNNERS) == set(get_args(Profile))


@pytest.mark.parametrize(
    ("profile", "pool", "slots"),
    [
        (ProcessProfile(), "cores", 1),
        (ComputeProfile(), "default_pool", 1),
        (ComputeProfile(pool="cluster", slots=3), "cluster", 3),
    ],
    ids=["process", "pod", "pod-with-a-pool"],
)
def test_the_profile_decides_where_a_job_runs_and_which_slots_it_takes(profile: Profile, pool: str, slots: int) -> None:
    def train(**_: Any) -> None:
        """Nothing is asked."""

    with DAG("d", start_date=datetime(2024, 1, 1, tzinfo=UTC)) as dag:
        made = runner_of(profile).task(Planned(JobTask(train), "small", profile, "cores", {"retries": 5}))
        made(root="/p", pipeline="p")

    task: Any = dag.get_task("train")
    assert (task.pool, task.pool_slots, task.retries) == (pool, slots, 5)
    assert isinstance(task, PodTask) == isinstance(profile, ComputeProfile)
