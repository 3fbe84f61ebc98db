"""A cluster to run pods on: the one KUBECONFIG names, reached as tests/chart reaches it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import psycopg
import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "chart"), str(HERE.parent / "compose")]
from chart_cluster import NO_CLUSTER, Cluster, kubeconfig  # noqa: E402
from chart_services import BUCKET, S3_KEY, S3_SECRET, address_here, services  # noqa: E402
from cluster_site import PodSite, pod_site  # noqa: E402
from support.left_out import leave_out  # noqa: E402

BUSY_S = 900
"""Seven runs at once, each of whose pods is the first of its kind, on a machine that does other things too."""


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a cluster where there is none."""
    leave_out(config, items, HERE, None if kubeconfig() else NO_CLUSTER)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster, reached as its administrator."""
    path = kubeconfig()
    assert path is not None
    yield Cluster(path)


@pytest.fixture(scope="session")
def site(cluster: Cluster, s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodSite]:
    """Airflow with two pipelines, its jobs in a namespace that enforces `restricted`."""
    address = address_here(cluster)
    folder = tmp_path_factory.mktemp("pods")
    airflow = cluster.make_namespace("airflow")
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
            with pod_site(cluster, found, airflow, namespace, folder / "site") as made:
                yield made
    finally:
        cluster.drop_namespace(namespace)
        cluster.drop_namespace(airflow)


@pytest.fixture(scope="session")
def trained(site: PodSite) -> dict[str, str]:
    """Both pipelines' features and trainings, run at once; the id of each training run."""
    months = {
        "flight_delays": ("2013-01", "2013-02", "2013-03", "2013-04"),
        "digits": ("2024-01", "2024-02", "2024-03"),
    }
    runs = [
        (f"{pipeline}__features", site.trigger(f"{pipeline}__features", partition_key=month))
        for pipeline, keys in months.items()
        for month in keys
    ]
    assert {(dag, run): site.ended(dag, run, BUSY_S) for dag, run in runs} == dict.fromkeys(runs, "success")
    learners = {"flight_delays": {}, "digits": {}}
    trainings = {
        pipeline: site.trigger(f"{pipeline}__training", conf={"reason": "cluster test", "learner": learner})
        for pipeline, learner in learners.items()
    }
    ended = {p: site.ended(f"{p}__training", run, BUSY_S) for p, run in trainings.items()}
    assert ended == dict.fromkeys(months, "success")
    return trainings
