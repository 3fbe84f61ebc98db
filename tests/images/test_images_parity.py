"""The same JobRequests by process and by container: the same outcome, weights included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from docker_engine import ROOT, docker, image

from millrace.contract import Artifact, Identity, Input, JobRequest, JobResult, Means, Place, Service, code_digest

pytestmark = pytest.mark.timeout(1200)
MONTHS = ("2013-01", "2013-02")
XGBOOST = {"kind": "xgboost", "rounds": 30, "max_depth": 4, "subsample": 0.8, "segments": 2}
TORCH = {"kind": "torch_mlp", "hidden": [32], "epochs": 2, "batch_size": 512, "segments": 2}
# Another user, clock, language and machine: what must not be seen in an outcome.
ELSEWHERE = ("--user", "4321:8765", "--env", "TZ=Asia/Kathmandu", "--env", "LC_ALL=POSIX", "--env", "LANG=tr_TR",
             "--cpus", "1", "--memory", "4g", "--hostname", "elsewhere", "--network", "none", "--read-only",
             "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")  # fmt: skip


class Both:
    """Runs each request here and in a container, each side in a state folder of its own that begins alike."""

    def __init__(self, folder: Path, line: Any) -> None:
        self.folder, self.line = folder, line
        self.seen: dict[str, tuple[JobResult, JobResult]] = {}
        for side in ("process", "container"):
            shutil.copytree(line.settings.home, folder / side / "state")
        subprocess.run(["chmod", "-R", "a+rwX", str(folder)], check=True)

    def run(self, name: str, job: str, inputs: list[tuple[str, Artifact, str | None]], **params: Any) -> JobResult:
        here = self._process(self._request(self.folder / "process" / "state", job, inputs, params), name)
        there = self._container(self._request(Path("/state"), job, inputs, params), name)
        self.seen[name] = (here, there)
        for result in (here, there):
            assert result.error is None, f"{name}: {result.error.message}"
        return here

    def _request(self, state: Path, job: str, inputs: Any, params: dict[str, Any]) -> JobRequest:
        identity = Identity(
            job=job, params=params, scope=MONTHS if job != "transform" else MONTHS[1:], seed=7, threads=2,
            inputs=tuple(Input(role=r, kind=a.kind, digest=a.digest, partition=p) for r, a, p in inputs),
            spec_digest=self.line.bundle.digest, code_digest=code_digest(),
        )  # fmt: skip
        services = {"registry": f"sqlite:///{state}/feast_registry.db", "online": f"{state}/feast_online.db"}
        return JobRequest(
            identity=identity,
            place=Place(store=str(state / "store"), inputs={a.digest: a.uri for _, a, _ in inputs}),
            means=Means(services={key: Service(uri=uri) for key, uri in services.items()}),
        )

    def _process(self, request: JobRequest, name: str) -> JobResult:
        asked, result = self._files("process", request, name)
        env = {**os.environ, "TZ": "America/New_York", "LC_ALL": "C.UTF-8"}
        subprocess.run([sys.executable, "-m", "millrace.jobs", request.identity.job, "--request", asked,
                        "--result", result], env=env, capture_output=True, cwd=self.folder, timeout=600)  # fmt: skip
        return JobResult.parse(result.read_bytes())

    def _container(self, request: JobRequest, name: str) -> JobResult:
        asked, result = self._files("container", request, name)
        done = docker("run", "--rm", *ELSEWHERE, "--volume", f"{self.folder / 'container' / 'state'}:/state",
                      image("jobs"), request.identity.job, "--request", f"/state/{asked.name}",
                      "--result", f"/state/{result.name}", check=False, timeout=600)  # fmt: skip
        assert result.is_file(), done.stdout + done.stderr
        return JobResult.parse(result.read_bytes())

    def _files(self, side: str, request: JobRequest, name: str) -> tuple[Path, Path]:
        state = self.folder / side / "state"
        asked = state / f"{name}.request.json"
        asked.write_text(request.model_dump_json())
        return asked, state / f"{name}.result.json"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Two months of flights, landed and one of them made into features, then every job that makes a model by both."""
    from millrace.feast_stores.apply import apply

    sys.path.insert(0, str(ROOT))
    from support import job_by_job

    from demo import data

    root = tmp_path_factory.mktemp("parity")
    (root / "include").mkdir()
    line = job_by_job.JobByJob(job_by_job.project(root, "flight_delays"), "flight_delays")
    apply(line.tree, line.settings)
    data.write_planes(line.incoming)
    for month in MONTHS:
        data.write_flights(line.incoming, month)
        data.write_weather(line.incoming, month)
    landed = {
        (source, key): line.job("land", [key], [], source=source).outputs["data"]
        for source, about in line.spec.sources.items()
        for key in (MONTHS if about.partitioned else ("static",))
    }
    first = line.job("transform", [MONTHS[0]], read_by(line, MONTHS[0], landed)).outputs["data"]
    both = Both(tmp_path_factory.mktemp("sides"), line)
    second = both.run("transform", "transform", read_by(line, MONTHS[1], landed)).outcome.outputs["data"]
    as_of = line.spec.label.known_after.after(line.spec.partitioning.end(MONTHS[1])).isoformat()
    features = [("features", first, MONTHS[0]), ("features", second, MONTHS[1])]
    rows = both.run("training set", "build_training_set", features, as_of=as_of).outcome.outputs["data"]
    for learner in (XGBOOST, TORCH):
        kind = learner["kind"]
        model = both.run(f"train {kind}", "train", [("training_set", rows, None)], learner=learner)
        judged = [("training_set", rows, None), ("model", model.outcome.outputs["model"], None)]
        both.run(f"evaluate {kind}", "evaluate", judged)
    return both


def read_by(line: Any, month: str, landed: dict[tuple[str, str], Artifact]) -> list[tuple[str, Artifact, str | None]]:
    """Inputs of a month's transform, earlier partitions that it looks back on included."""
    partitioning, found = line.spec.partitioning, []
    for source, about in line.spec.sources.items():
        start = line.spec.partition.start
        keys = [*partitioning.lookback(month, about.lookback, start), month] if about.partitioned else ["static"]
        found += [(source, landed[source, key], key) for key in keys]
    return found


JOBS = ("transform", "training set", "train xgboost", "evaluate xgboost", "train torch_mlp", "evaluate torch_mlp")


@pytest.mark.parametrize("name", JOBS)
def test_the_outcome_is_the_same_by_process_and_by_container(both: Both, name: str) -> None:
    here, there = both.seen[name]
    assert here.request_digest == there.request_digest
    assert here.outcome == there.outcome
    assert here.outcome_digest == there.outcome_digest is not None
    # and the container's really ran there
    assert there.observed.host == "elsewhere" != here.observed.host


@pytest.mark.parametrize("name", ["train xgboost", "train torch_mlp"])
def test_the_weights_are_the_same_bytes(both: Both, name: str) -> None:
    model = both.seen[name][0].outcome.outputs["model"].uri
    sides = [both.folder / side / "state" / "store" / model for side in ("process", "container")]
    files = [{p.name: p.read_bytes() for p in side.iterdir()} for side in sides]
    assert files[0] == files[1]
    assert any(name.endswith((".ubj", ".safetensors")) and data for name, data in files[0].items())
