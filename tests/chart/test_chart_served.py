"""The prediction server on a real cluster: who is answered, and that no acknowledged answer is ever lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from chart_cluster import Cluster, until
from chart_helm import Helm
from chart_metrics import Metrics, there
from chart_served import NAME, ServedRelease
from chart_services import address_here
from chart_site import images_missing
from support.recorded import differences, replay, replayed_here, write
from support.served import Served

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def release(
    cluster: Cluster, helm: Helm, s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedRelease]:
    """The server with two replicas, for the tests below, in this order."""
    address = address_here(cluster)
    namespace = cluster.make_namespace("serving", {"enforce": "restricted"})
    try:
        if lacking := images_missing(cluster, namespace, ("serving",)):
            pytest.skip(f"the cluster lacks {', '.join(lacking)}: make images, then load them there")
        folder = tmp_path_factory.mktemp("served")
        served = Served.make(folder / "p")
        served.plan()
        made = ServedRelease(cluster, helm, namespace, served, folder)
        with made.running(address, s3_endpoint):
            yield made
    finally:
        cluster.drop_namespace(namespace)


class Asking:
    """Asks through the Service, over and over, from a thread; keeps the ids of what was answered."""

    def __init__(self, release: ServedRelease) -> None:
        self.release, self.answered, self.failed = release, [], []  # type: ServedRelease, list[str], list[str]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Asking:
        self._thread.start()
        until(lambda: self.answered, "a first answer", 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._end.is_set():
            try:
                answer = self.release.ask()
            except httpx.TransportError as err:
                self.failed.append(type(err).__name__)
                continue
            if answer.status_code == 200:
                self.answered.append(answer.json()["id"])
            else:
                self.failed.append(answer.text[:200])
            time.sleep(0.02)


def kept(release: ServedRelease, ids: list[str]) -> bool:
    """Whether all of them are in the log."""
    return set(ids) <= {record["id"] for record in release.logged()}


@pytest.mark.loop
def test_it_answers_who_has_a_token(release: ServedRelease):
    answer = release.ask()
    assert answer.status_code == 200 and answer.json()["predictions"], answer.text
    assert release.ask(token="another").status_code == 401
    assert httpx.post(f"{release.address}/predict/trips", json={}, timeout=10).status_code == 401
    # of features that were read online
    (record,) = [r for r in release.logged() if r["id"] == answer.json()["id"]]
    assert record["found"] == ["found"] and record["caller"] == "test" and record["server"].startswith(f"{NAME}-")


@pytest.mark.loop
def test_its_pods_have_no_rights_and_a_read_only_root(release: ServedRelease):
    for pod in release.pods():
        inside = ["-n", release.namespace, "exec", pod.metadata.name, "--", "python", "-I", "-c"]
        said = release.cluster.kubectl(
            *inside, "import os, pathlib; print(os.getuid(), pathlib.Path('/var/run/secrets/kubernetes.io').exists())"
        )
        assert said.split() == ["54321", "False"]
        assert "Read-only file system" in release.cluster.kubectl(*inside, "open('/opt/millrace/x', 'w')", check=False)


@pytest.mark.loop
def test_a_recorded_rollout_is_decided_as_on_one_machine(release: ServedRelease, tmp_path: Path):
    recording = write(tmp_path / "traffic.jsonl")
    there = replay(recording, release, release.served)
    assert differences(there, replayed_here(recording, release.served, tmp_path / "here")) == []


@pytest.mark.loop
def test_a_pod_that_is_asked_to_leave_fails_no_request_and_loses_no_record(release: ServedRelease):
    with Asking(release) as asking:
        before = {p.metadata.uid for p in release.pods()}
        release.cluster.core.delete_namespaced_pod(f"{NAME}-0", release.namespace)
        until(lambda: len(before - {p.metadata.uid for p in release.pods()}) == 1 and release.ready() == 2,
              f"the pod to come back\n{release.explain()}", 180)  # fmt: skip
    print(f"\n{len(asking.answered)} answers while a replica was exchanged, {len(asking.failed)} failed")
    assert asking.failed == [] and len(asking.answered) > 20
    assert kept(release, asking.answered)


@pytest.mark.loop
def test_a_pod_that_is_killed_loses_no_acknowledged_record(release: ServedRelease):
    with Asking(release) as asking:
        before = {p.metadata.uid for p in release.pods()}
        release.cluster.core.delete_namespaced_pod(f"{NAME}-1", release.namespace, grace_period_seconds=0)
        until(lambda: len(before - {p.metadata.uid for p in release.pods()}) == 1 and release.ready() == 2,
              f"the pod to come back\n{release.explain()}", 180)  # fmt: skip
    assert len(asking.answered) > 20
    assert kept(release, asking.answered)
    # Its claim came back to the pod, which ships what lay there
    until(lambda: any(f"/{NAME}-1/" in key for key in release.shipped()), f"the log of {NAME}-1 in the store", 120)


@pytest.mark.loop
def test_a_claim_whose_replica_is_gone_is_kept_and_shipped(release: ServedRelease):
    release.install(wait=3, replicas=3)
    with Asking(release) as asking:
        until(lambda: any(r["server"].startswith(f"{NAME}-2") for r in release.logged()), "the third to answer", 60)
        # When its node takes it away without a word, and there is room for two only
        release.cluster.core.delete_namespaced_pod(f"{NAME}-2", release.namespace, grace_period_seconds=0)
        release.install(wait=2, replicas=2)
    claims = release.cluster.core.list_namespaced_persistent_volume_claim(release.namespace).items
    assert {c.metadata.name for c in claims} == {f"log-{NAME}-{n}" for n in range(3)}
    assert kept(release, asking.answered)
    # Then the job that is asked for ships what it left
    release.install(wait=2, replicas=2, ship=[2])
    job = f"{NAME}-ship-2"
    batch = ("-n", release.namespace, "wait", "--for=condition=complete", f"job/{job}", "--timeout=110s")
    assert "condition met" in release.cluster.kubectl(*batch, check=False), release.explain()
    left = [p for p in (release.folder / "claims" / "2").rglob("*") if p.suffix in (".open", ".segment")]
    assert left == [] and any(f"/{NAME}-2/" in key for key in release.shipped())
    assert kept(release, asking.answered)


@pytest.mark.loop
def test_the_autoscaler_adds_replicas_and_takes_them_back(release: ServedRelease):
    cluster = release.cluster
    if there(cluster):
        pytest.skip("the cluster has metrics of its own, which a test cannot change")
    metrics = Metrics(cluster, "serving")
    with metrics.served(address_here(cluster), release.namespace, release.folder):
        metrics.cpu = "100m"  # of 50 that each asks for
        release.install(wait=None, autoscaling={"enabled": True, "minReplicas": 2, "maxReplicas": 3, "cpu": 70})
        until(lambda: release.ready() == 3, f"a third replica\n{release.explain()}", 180)
        assert release.ask().status_code == 200
        scaler = cluster.kubectl("-n", release.namespace, "get", f"hpa/{NAME}", "-o=jsonpath={.status.currentMetrics}")
        assert '"averageUtilization":200' in scaler and metrics.asked
    # Applied again without it: as many as the values say
    cluster.kubectl("-n", release.namespace, "delete", f"hpa/{NAME}")
    release.install(wait=2, replicas=2)
