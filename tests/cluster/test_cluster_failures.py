"""What dies, hangs, is full or is not there while pods are at work: never two pods, never a lost one, and it is said.

Each test runs with the rights of rbac.yaml and, beside it, with those of an administrator.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chart_cluster import until
from cluster_probe import Probe
from cluster_project import IMAGE
from cluster_site import RIGHTS, PodSite

from millrace.contract import JobRequest
from millrace.core.errors import NotFound

pytestmark = [pytest.mark.timeout(2400), pytest.mark.loop]
SECONDS = 20
"""How long a training lasts, unless a test says otherwise."""
ROUNDS = 500
BOOSTED = {"kind": "xgboost", "max_depth": 8, "segments": 20, "subsample": 0.9, "rounds": ROUNDS}


@pytest.fixture(scope="session")
def start(site: PodSite, trained: dict[str, str]) -> Callable[..., list[Probe]]:
    """Start a training in a profile, once with each of RIGHTS; no two ask for the same."""
    done: dict[str, dict[str, Any]] = {}
    for item in list(site.objects.list("requests/")):
        if item.key.endswith("request.json"):
            request = json.loads(site.objects.get(item.key))
            if request["identity"]["job"] == "train":
                done[request["run"]["pipeline"]] = request
    numbers = iter(range(10_000))

    def begin(
        profile: str, seconds: float = SECONDS, rights: tuple[str, ...] = RIGHTS, boosted: bool = False,
        limit: int | None = None, **data: Any,
    ) -> list[Probe]:  # fmt: skip
        pipeline = "flight_delays" if boosted else "digits"
        like = done[pipeline]
        (given,) = like["identity"]["inputs"]
        found = []
        for right in rights:
            number = next(numbers)
            own = {"kind": "custom", "params": {"seconds": seconds, "number": number}}
            asked = {
                "pipeline": pipeline,
                "scope": like["identity"]["scope"],
                "data": {"uri": like["place"]["inputs"][given["digest"]], "digest": given["digest"],
                         "kind": given["kind"], **data},
                "limit": limit,
                "learner": {**BOOSTED, "learning_rate": 0.1 + number / 1e5} if boosted else own,
            }  # fmt: skip
            found.append(Probe(site, profile, right, site.trigger(f"probe__{profile}__{right}", conf={"given": asked})))
        return found

    return begin


@pytest.fixture(autouse=True)
def nothing_is_left(site: PodSite) -> Iterator[None]:
    """After every test the namespace is empty; what a failed one left does not fail the next."""
    yield
    try:
        until(lambda: not site.pods(), "pods to be gone", 60)
    finally:
        site.cluster.core.delete_collection_namespaced_pod(site.namespace, grace_period_seconds=0)


def at_work(probes: list[Probe]) -> None:
    for probe in probes:
        until(probe.at_work, f"{probe.dag}'s pod to run")
    time.sleep(4)  # imports are done, rounds are trained


def went_well(probes: list[Probe], *, more: int = 1) -> None:
    """Each ended with its outcome, by one pod, with at most so many more tries.

    Airflow's scheduler may take one by itself: where a trigger fires before the executor's word of the deferral is
    read, it finds "success" of a task that is queued again, and tries once more.
    """
    for probe in probes:
        assert probe.ended() == "success", probe.log()
        assert len(probe.pods()) == 1, probe.pods()
        assert probe.tries() <= 1 + more + 1
        assert [a["end"] for a in probe.attempts()] == ["outcome"]


def tasks(site: PodSite) -> dict[int, int]:
    """Process id of each task that runs -> that of the worker which watches over it."""
    scheduler = next(p.pid for p in site.running.processes if p.name == "scheduler")
    return {task: worker for worker in _children(scheduler) for task in _children(worker)}


def _instance(pid: int) -> str:
    """The task instance that a worker runs or a task is, which its title says."""
    title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return title.rpartition("-- ")[2].strip("\0 ")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in path.read_text().split()]
    return found


# What dies


@pytest.mark.parametrize("order", [RIGHTS, pytest.param(RIGHTS[::-1], marks=pytest.mark.long)])
def test_a_task_process_and_a_worker_are_killed(
    site: PodSite, start: Callable[..., list[Probe]], order: tuple[str, ...]
) -> None:
    probes = start("sync", rights=order)
    at_work(probes)
    workers = {_instance(pid): (worker, task) for task, worker in tasks(site).items() for pid in (task, worker)}
    # of one the process alone, of the other the worker that watches over it
    os.kill(workers[probes[0].task()["id"]][1], signal.SIGKILL)
    os.kill(workers[probes[1].task()["id"]][0], signal.SIGKILL)
    went_well(probes)
    assert probes[0].tries() >= 2


ALONE = [pytest.param([name], marks=pytest.mark.long) for name in ("scheduler", "triggerer")]


@pytest.mark.parametrize("names", [*ALONE, []], ids=["scheduler", "triggerer", "everything"])
def test_a_component_is_killed(site: PodSite, start: Callable[..., list[Probe]], names: list[str]) -> None:
    # the scheduler takes along the tasks that wait for their pods
    probes = start("small") + ([] if names == ["triggerer"] else start("sync"))
    at_work(probes)
    site.kill(*names)
    time.sleep(3)
    site.heal()
    went_well(probes)


def test_a_pod_that_ends_while_nobody_looks_is_not_run_again(site: PodSite, start: Callable[..., list[Probe]]) -> None:
    probes = start("small", seconds=5)
    at_work(probes)
    site.kill("scheduler", "triggerer")
    for probe in probes:
        until(lambda probe=probe: probe.pods()[0].phases[-1] == "Succeeded", "the pod to end")
    site.heal()
    went_well(probes)


# What does not answer


@pytest.mark.parametrize("how", [pytest.param("refusing", marks=pytest.mark.long), "hanging"])
def test_the_api_server_is_away_for_20_seconds(site: PodSite, start: Callable[..., list[Probe]], how: str) -> None:
    probes = start("small") + start("sync")
    at_work(probes)
    with getattr(site.gate, how)():
        time.sleep(20)
    went_well(probes)


def test_the_api_server_is_away_when_a_pod_is_to_be_made(site: PodSite, start: Callable[..., list[Probe]]) -> None:
    with site.gate.refusing():
        probes = start("small", seconds=0)
        time.sleep(15)
        assert not any(probe.pods() for probe in probes)
    went_well(probes, more=0)


# What ends a pod


def test_an_evicted_training_is_resumed_and_gives_the_same_bytes(
    site: PodSite, start: Callable[..., list[Probe]]
) -> None:
    probes = start("small", boosted=True)
    for probe in probes:
        until(probe.at_work, f"{probe.dag}'s pod to run")
    places = [probe.request()["place"]["checkpoint"] for probe in probes]
    for probe, place in zip(probes, places, strict=True):
        until(lambda place=place: list(site.objects.list(place)), "a checkpoint")
        name = probe.pods()[0].name
        site.cluster.core.create_namespaced_pod_eviction(
            name, site.namespace, {"metadata": {"name": name, "namespace": site.namespace}}
        )
    for probe in probes:
        assert probe.ended() == "success", probe.log()
        assert len(probe.pods()) == 2
        assert [a["end"] for a in probe.attempts()] == ["Interrupted", "outcome"]
        (note,) = [n for n in probe.result().observed.notes if n.startswith("Resumed from a checkpoint")]
        kept = int(re.findall(r"(\d+) rounds", note)[0])
        assert 0 < kept < ROUNDS
    # and the same request, undisturbed in this process, has the same outcome, weights included
    request = JobRequest.model_validate(probes[0].request())
    place = request.place.model_copy(update={"result": None, "checkpoint": None})
    calm = importlib.import_module("millrace.jobs.runner").run(request.model_copy(update={"place": place}))
    assert calm.error is None
    assert calm.outcome_digest == probes[0].result().outcome_digest


def test_what_cannot_run_says_why_and_what_can_is_helped(site: PodSite, start: Callable[..., list[Probe]]) -> None:
    # Given, all at once, trainings that lack memory, time, an image, a place, a GPU, or their data
    started = {name: start(name, seconds=1) for name in ("tight", "nowhere", "gpu", "gpu-or-not")}
    started["brief"] = start("small", seconds=30, limit=4)
    started["lost data"] = start("small", uri="snapshots/flight_delays/none")
    quota = {"metadata": {"name": "room"}, "spec": {"hard": {"requests.memory": "80Gi"}}}
    site.cluster.core.create_namespaced_resource_quota(site.namespace, quota)
    try:
        started["huge"] = start("huge")
        states = {name: [probe.ended() for probe in probes] for name, probes in started.items()}
    finally:
        site.cluster.core.delete_namespaced_resource_quota("room", site.namespace)
    # Then memory was enlarged once, and the CPU took the place of a GPU
    assert states.pop("tight") == states.pop("gpu-or-not") == ["success"] * 2
    for probe in started["tight"]:
        assert [(a["profile"], a["end"]) for a in probe.attempts()] == [("tight", "memory"), ("small", "outcome")]
    for probe in started["gpu-or-not"]:
        assert [(a["profile"], a["end"]) for a in probe.attempts()] == [
            ("gpu-or-not", "capacity"),
            ("small", "outcome"),
        ]
        limits = probe.request()["means"]["limits"]
        assert limits == {"seconds": "21600", "gpus": "1", "gpu_fallback": "cpu"}
        assert any("GPU" in note for note in probe.result().observed.notes), probe.result().observed
    # and the others ended without another pod, with the reason
    assert states == {name: ["failed"] * 2 for name in ("brief", "nowhere", "gpu", "lost data", "huge")}
    for name, said in {
        "brief": r"ran longer than its job's time limit",
        "nowhere": r"the image cannot be had \(ErrImageNeverPull",
        "gpu": r"found no node in time: .*Insufficient nvidia.com/gpu",
        "lost data": r"snapshots/flight_delays/none",
        "huge": r"cannot fit into namespace .* requests.memory=\d+, and quota 'room' allows 80Gi",
    }.items():
        for probe in started[name]:
            assert len(probe.pods()) <= 1 and len(probe.attempts()) == 1, name
            assert re.search(said, probe.log()), (name, probe.log())
    # who may list nodes is told at once that there is no GPU
    assert "No node has 1 nvidia.com/gpu now" in started["gpu"][RIGHTS.index("admin")].log()


def test_a_full_quota_is_waited_for(site: PodSite, start: Callable[..., list[Probe]]) -> None:
    # Given room for one pod, which another has
    blocker = {
        "metadata": {"name": "blocker"}, "spec": {"containers": [_restricted("sleep", "60")],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False},
    }  # fmt: skip
    site.cluster.core.create_namespaced_pod(site.namespace, blocker)
    quota = {"metadata": {"name": "room"}, "spec": {"hard": {"pods": "1"}}}
    site.cluster.core.create_namespaced_resource_quota(site.namespace, quota)
    try:
        until(lambda: _used(site) == "1", "the quota to count")
        probes = start("small", seconds=0)
        for probe in probes:
            until(lambda probe=probe: "Waiting up to 60 s for quota" in probe.log(), "the task to wait")
        assert not any(probe.pods() for probe in probes)
        # when there is room again
        site.cluster.core.delete_namespaced_resource_quota("room", site.namespace)
        # then each has its pod, in the same try
        went_well(probes, more=0)
    finally:
        for delete, name in ((site.cluster.core.delete_namespaced_resource_quota, "room"),
                             (site.cluster.core.delete_namespaced_pod, "blocker")):  # fmt: skip
            try:
                delete(name, site.namespace)
            except Exception as err:
                assert getattr(err, "status", None) == 404


# What a person does


def test_a_run_marked_failed_takes_its_pod_along(site: PodSite, start: Callable[..., list[Probe]]) -> None:
    probes = start("small") + start("sync")
    at_work(probes)
    for probe in probes:
        site.api.call("PATCH", f"/dags/{probe.dag}/dagRuns/{probe.run}", {"state": "failed"})
    until(lambda: not site.pods(), "the pods to be gone", 60)
    for probe in probes:
        assert probe.ended() == "failed"
        assert len(probe.pods()) == 1 and probe.pods()[0].phases[-1] != "Succeeded"


def test_a_cleared_task_takes_up_its_pod_or_its_result(site: PodSite, start: Callable[..., list[Probe]]) -> None:
    probes = start("small") + start("sync")
    at_work(probes)
    body = {"dry_run": False, "only_failed": False}
    for probe in probes:
        site.api.call("POST", f"/dags/{probe.dag}/dagRuns/{probe.run}/clear", body)
    for probe in probes:
        assert probe.ended() == "success", probe.log()
        assert probe.attempts()[-1]["end"] == "outcome"
        # one pod, or one after the other: never two at work
        assert all(a.last <= b.first + 1 for a, b in zip(probe.pods(), probe.pods()[1:], strict=False))
    done = [len(probe.pods()) for probe in probes]
    # and once more, when all is done: nothing is run again
    for probe in probes:
        site.api.call("POST", f"/dags/{probe.dag}/dagRuns/{probe.run}/clear", body)
        assert probe.ended() == "success"
        until(lambda probe=probe: "no pod is made" in probe.log(), "the stored result to be taken")
    assert [len(probe.pods()) for probe in probes] == done


def _restricted(*command: str) -> dict[str, Any]:
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": list(command),
            "securityContext": context}  # fmt: skip


def _used(site: PodSite) -> str:
    try:
        quota = site.cluster.core.read_namespaced_resource_quota("room", site.namespace)
    except NotFound:
        return ""
    return str((quota.status.used or {}).get("pods", ""))
