"""Jobs in pods of a real cluster, through a real Airflow: the same outcomes, one pod per request, nothing left."""

from __future__ import annotations

import importlib

import pytest
from cluster_site import JOBS, PIPELINES, PodSite, until

from millrace.contract import JobRequest, JobResult
from millrace.ledger import Ledger

pytestmark = pytest.mark.timeout(2400)


def test_two_loops_run_in_pods_at_once_and_leave_nothing(site: PodSite, trained: dict[str, str]) -> None:
    # Given two pipelines whose features are made and models trained in pods, at the same time
    runs = {f"{pipeline}__training/{run}" for pipeline, run in trained.items()}
    made = site.attempts()
    # Then each of these jobs ran in one pod that left an outcome, and none is left
    assert len(made) == 2 + 3 + 2 * 3 and {a["end"] for a in made} == {"outcome"}, made
    assert all(a["node"] and a["image"] for a in made)
    assert {a["run"] for a in made} > runs
    until(lambda: not site.pods(), "pods to be gone")
    # champions came of it
    for pipeline in PIPELINES:
        until(lambda pipeline=pipeline: Ledger.open(site.settings.ledger).champion(pipeline), f"{pipeline}'s champion")
    # the job's own words are in the task's log, and no secret or pod is
    log = site.log("flight_delays__training", trained["flight_delays"], "train")
    assert "outcome" in log, log
    for secret in ("test-secret-key", "secret_key_ref", "PGPASSWORD"):
        assert secret not in log


def test_pods_give_the_outcomes_of_processes(site: PodSite, trained: dict[str, str]) -> None:
    # Given the requests that pods answered, when each is run in this process, weights included
    runner = importlib.import_module("millrace.jobs.runner")
    seen = set()
    for item in list(site.objects.list("requests/")):
        if not item.key.endswith("request.json"):
            continue
        request = JobRequest.parse(site.objects.get(item.key))
        if not request.run.dag_id or not request.run.dag_id.startswith(PIPELINES):
            continue
        assert request.place.result is not None
        theirs = JobResult.parse(site.objects.get(request.place.result))
        place = request.place.model_copy(update={"result": None, "checkpoint": None})
        ours = runner.run(request.model_copy(update={"place": place}))
        assert ours.error is None, ours.error
        # Then it comes to the same
        assert ours.outcome_digest == theirs.outcome_digest, request.identity.job
        seen.add((request.run.pipeline, request.identity.job))
    assert seen == {(pipeline, job) for pipeline in PIPELINES for job in JOBS}
