"""Jobs in pods of a real cluster, through a real Airflow: the same outcomes, one pod per request, nothing left."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import boto3
import psycopg
import pytest
from chart_cluster import Cluster
from chart_services import BUCKET, S3_KEY, S3_SECRET, is_here, missing, services
from cluster_site import JOBS, PIPELINE, SMALL, PodSite, pod_site, until

from millrace.contract import JobRequest, JobResult
from millrace.ledger import Ledger

pytestmark = pytest.mark.timeout(2400)
PROFILES = {
    "small": SMALL,
    "tight": {**SMALL, "memory": "150Mi", "larger": "small"},
    "gpu": {**SMALL, "gpu": 1, "schedule_timeout": "PT15S"},
}


@pytest.fixture(scope="module")
def site(cluster: Cluster, s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodSite]:
    """Airflow with two months of flights published, its jobs in a namespace that enforces `restricted`."""
    address = next(a.address for a in cluster.core.list_node().items[0].status.addresses if a.type == "InternalIP")
    if not is_here(address):
        pytest.skip("pods reach servers of this machine only where it is the cluster's node")
    if lacking := missing():
        pytest.skip(f"not installed here: {', '.join(lacking)}")
    folder = tmp_path_factory.mktemp("pods")
    namespace = cluster.make_namespace("pods", {"enforce": "restricted"})
    try:
        with services(address, s3_endpoint, folder) as found:
            keys = {"aws_access_key_id": S3_KEY, "aws_secret_access_key": S3_SECRET, "region_name": "us-east-1"}
            client = boto3.client("s3", endpoint_url=s3_endpoint, **keys)
            if BUCKET not in {b["Name"] for b in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=BUCKET)
            with psycopg.connect(
                host=address, port=found.postgres, user="millrace", dbname="postgres", autocommit=True,
                password=found.secret["postgres-password"],
            ) as database:  # fmt: skip
                database.execute("CREATE DATABASE feast")
            with pod_site(cluster, found, namespace, folder / "project", PROFILES) as made:
                yield made
    finally:
        cluster.drop_namespace(namespace)


def test_the_loop_runs_in_pods_and_gives_the_outcomes_of_processes(site: PodSite, tmp_path: Path) -> None:
    # Given two months that are landed here and transformed in pods, when a model is trained in pods
    for month in ("2013-01", "2013-02"):
        assert site.ended("features", site.trigger("features", partition_key=month)) == "success"
    run = site.trigger("training", conf={"reason": "cluster test", "learner": {"rounds": 20}})
    assert site.ended("training", run) == "success"
    # Then each of these jobs ran in a pod that left an outcome, and none is left
    made = site.attempts()
    assert len(made) == 2 + 3 and {a["end"] for a in made} == {"outcome"}, made
    assert all(a["node"] and a["image"] for a in made)
    until(lambda: not site.pods(), "pods to be gone")
    # a champion came of it
    until(lambda: Ledger.open(site.settings.ledger).champion(PIPELINE), "a champion")
    # the job's own words are in the task's log, and no secret or pod is
    log = site.log("training", run, "train")
    assert "outcome" in log, log
    for secret in ("test-secret-key", "secret_key_ref", "PGPASSWORD"):
        assert secret not in log
    # and the same requests in this process have the same outcomes, weights included
    runner = importlib.import_module("millrace.jobs.runner")
    seen = set()
    for item in list(site.objects.list("requests/")):
        if not item.key.endswith("request.json"):
            continue
        request = JobRequest.parse(site.objects.get(item.key))
        assert request.place.result is not None
        theirs = JobResult.parse(site.objects.get(request.place.result))
        place = request.place.model_copy(update={"result": None, "checkpoint": None})
        ours = runner.run(request.model_copy(update={"place": place}))
        assert ours.error is None, ours.error
        assert ours.outcome_digest == theirs.outcome_digest, request.identity.job
        seen.add(request.identity.job)
    assert seen == set(JOBS)
