"""Jobs in pods of a real cluster, through a real Airflow: the same outcomes, one pod per request, nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from chart_cluster import until
from cluster_project import IMAGE, JOBS, PIPELINES
from cluster_site import PodSite
from docker_engine import docker
from docker_engine import missing as no_engine

from millrace.contract import JobRequest, JobResult
from millrace.ledger import Ledger

pytestmark = [pytest.mark.timeout(2400), pytest.mark.loop]
NO_ENGINE = no_engine()


def test_two_loops_run_in_pods_at_once_and_leave_nothing(site: PodSite, trained: dict[str, str]) -> None:
    # Given two pipelines whose features are made and models trained in pods, at the same time
    runs = {f"{pipeline}__training/{run}" for pipeline, run in trained.items()}
    made = [a for a in site.attempts() if a["run"].startswith(PIPELINES)]
    # Then each of these jobs ran in one pod that left an outcome, and none is left
    assert len(made) == 4 + 3 + 2 * 3 and {a["end"] for a in made} == {"outcome"}, made
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


def test_process_container_and_pod_give_the_same_outcomes(
    site: PodSite, trained: dict[str, str], tmp_path: Path
) -> None:
    # Given a request of each kind that a pod answered, when a process and a container answer it too: another user,
    # clock, language, and one core
    folder = tmp_path / "work"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    seen = set()
    for item in list(site.objects.list("requests/")):
        if not item.key.endswith("request.json"):
            continue
        request = JobRequest.parse(site.objects.get(item.key))
        kind = (request.run.pipeline, request.identity.job)
        if kind in seen or not (request.run.dag_id or "").startswith(PIPELINES):
            continue
        seen.add(kind)
        assert request.place.result is not None
        theirs = JobResult.parse(site.objects.get(request.place.result))
        place = request.place.model_copy(update={"result": None, "checkpoint": None})
        asked = folder / "-".join((*kind, "request.json"))
        asked.write_text(request.model_copy(update={"place": place}).model_dump_json())
        answers = {"process": by_process(asked, request.identity.job)}
        if NO_ENGINE is None:
            answers["container"] = by_container(asked, request.identity.job)
        # Then it comes to the same, weights included
        for by, ours in answers.items():
            assert ours.error is None, (by, kind, ours.error)
            assert ours.outcome_digest == theirs.outcome_digest, (by, kind)
    assert seen == {(pipeline, job) for pipeline in PIPELINES for job in JOBS}
    print("pods and processes agree" + (", containers too" if NO_ENGINE is None else f"; {NO_ENGINE}"))


def by_process(asked: Path, job: str) -> JobResult:
    """The result of a process of this machine, on its first core."""
    result = asked.with_name("process.json")
    command = ["taskset", "--cpu-list", "0", sys.executable, "-m", "millrace.jobs", job]
    # OpenBLAS's kernel decides the last bits of what numpy multiplies; pods and containers choose theirs by the
    # processor.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    env = {**kept, "TZ": "America/New_York", "LC_ALL": "C.UTF-8"}
    subprocess.run([*command, "--request", asked, "--result", result], env=env, check=True, timeout=300)
    return JobResult.parse(result.read_bytes())


def by_container(asked: Path, job: str) -> JobResult:
    """The result of a container of the image that pods run, which sees the store and nothing else."""
    result = asked.with_name("container.json")
    result.unlink(missing_ok=True)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION", "PGPASSWORD")
    given = {"TZ": "Asia/Kathmandu", "LC_ALL": "POSIX", "LANG": "tr_TR"}
    words = [f"--env={name}" for name in names] + [f"--env={name}={value}" for name, value in given.items()]
    words += ["--network=host", "--user=4321:8765", "--cpus=1", "--read-only", "--tmpfs=/tmp:mode=1777"]
    words += ["--cap-drop=ALL", f"--volume={asked.parent}:/work"]
    docker("run", "--rm", *words, IMAGE, job, "--request", f"/work/{asked.name}", "--result", f"/work/{result.name}",
           timeout=300)  # fmt: skip
    return JobResult.parse(result.read_bytes())
