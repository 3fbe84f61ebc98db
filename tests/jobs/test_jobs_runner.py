"""What every job does at its start and end: the code it is for, its threads, its device, what it used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.learning import FAST, FAST_MLP, World, rows, spec

from millrace.contract import JobRequest, JobResult, Means, code_digest
from millrace.core import usage
from millrace.jobs.runner import run
from millrace.models import device

GPU = Means(limits={"gpus": "1"})
GPU_OR_CPU = Means(limits={"gpus": "1", "gpu_fallback": "cpu"})


def request(world: World, learner: dict[str, Any] = FAST, **changes: Any) -> JobRequest:
    made = world.request("train", {"training_set": world.snapshot(rows())}, {"learner": learner})
    identity = made.identity.model_copy(update=changes)
    return made.model_copy(update={"identity": identity})


def command(world: World, asked: JobRequest, env: dict[str, str] | None = None, *before: str) -> tuple[int, JobResult]:
    question, answer = world.root / "request.json", world.root / "result.json"
    question.write_text(asked.model_dump_json())
    answer.unlink(missing_ok=True)
    job = [*before, sys.executable, "-m", "millrace.jobs", "train", "--request", str(question)]
    done = subprocess.run([*job, "--result", str(answer)], env={**os.environ, **(env or {})}, timeout=120)
    return done.returncode, JobResult.parse(answer.read_bytes())


# Code


def test_a_request_for_other_code_is_refused_and_the_store_says_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    asked = request(world, code_digest="sha256:" + "1" * 64)
    code, result = command(world, asked)
    assert code == 2 and result.error is not None
    assert (result.error.type, result.error.retry) == ("ContractError", "never")
    assert "not the one that the request was made for" in result.error.message
    assert code_digest() in result.error.message and "1111" in result.error.message
    assert "Run the job with an image of the Millrace that made the request" in result.error.message
    assert result.request_digest == asked.request_digest
    assert JobResult.parse(world.objects.get(str(asked.place.result))) == result


def test_a_request_of_a_newer_contract_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    code, result = command(world, request(world, contract="1.99"))
    assert code == 2 and result.error is not None
    assert "cannot read the request's contract version" in result.error.message


# Where the request comes from and the result goes


NOBODY = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
}
"""An S3 server that does not answer."""


def from_store(store: str, key: str) -> subprocess.CompletedProcess[str]:
    job = [sys.executable, "-m", "millrace.jobs", "train", "--store", store, "--request", key]
    env = {**os.environ, **NOBODY, "MILLRACE_NODE": "node-7"}
    return subprocess.run(job, capture_output=True, text=True, timeout=120, env=env)


def test_a_pod_needs_nothing_but_the_store(tmp_path: Path) -> None:
    world = World(tmp_path)
    asked = request(world)
    world.objects.put("requests/r.json", asked.model_dump_json().encode())
    done = from_store(world.objects.root, "requests/r.json")
    assert (done.returncode, done.stderr) == (0, "")
    result = JobResult.parse(world.objects.get(str(asked.place.result)))
    assert result.outcome is not None and result.request_digest == asked.request_digest
    assert result.observed.host is not None and result.observed.host.startswith("node-7/")


def test_a_request_that_is_not_in_the_store(tmp_path: Path) -> None:
    done = from_store(str(tmp_path), "requests/r.json")
    assert done.returncode == 3 and "cannot read the request" in done.stderr


def test_a_store_that_does_not_answer_is_worth_another_try() -> None:
    done = from_store("s3://bucket/prefix", "requests/r.json")
    assert done.returncode == 4, done.stderr
    assert "cannot read the request" in done.stderr and "Traceback" not in done.stderr


def test_a_database_that_dies_while_a_library_asks_it_is_worth_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError

    from millrace.jobs import runner, train

    gone = Exception("server closed the connection unexpectedly\n\tbefore or while processing the request.")
    given = {"id": "Ann Smith"}
    for kind, retry in ((OperationalError, "same"), (InterfaceError, "same"), (IntegrityError, "never")):

        def ask(work: Any, params: Any, kind: Any = kind) -> Any:
            raise kind("SELECT name FROM people WHERE id = %(id)s", given, gone)

        monkeypatch.setattr(train, "run", ask)
        error = runner.run(request(World(tmp_path / kind.__name__))).error
        assert error is not None and error.retry == retry, error
        what = "did not answer" if retry == "same" else "refused"
        assert error.message == f"a database {what}: server closed the connection unexpectedly"
    shown = capsys.readouterr().err
    assert "SELECT name" in shown and "Ann Smith" not in shown, "a traceback with the values of rows"


def test_an_outcome_that_cannot_be_stored_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from millrace.core.errors import Unavailable
    from millrace.store.local import LocalStore

    put = LocalStore.put

    def gone(self: LocalStore, key: str, data: bytes) -> None:
        if key.startswith("results/"):
            raise Unavailable("the S3 server cannot be reached")
        put(self, key, data)

    monkeypatch.setattr(LocalStore, "put", gone)
    result = run(request(World(tmp_path)))
    assert result.outcome is None and result.error is not None
    assert (result.error.type, result.error.retry) == ("Unavailable", "same")


def test_a_result_must_go_somewhere(tmp_path: Path) -> None:
    job = [sys.executable, "-m", "millrace.jobs", "train", "--request", "r.json"]
    done = subprocess.run(job, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "--result is needed where there is no --store" in done.stderr


# Threads

WATCH = """
import json, os, sys
def hook(event, args):
    if event == "import" and args[0] in ("numpy", "pyarrow", "torch", "xgboost"):
        said = {k: v for k, v in os.environ.items() if "THREADS" in k or "DYNAMIC" in k}
        with open(os.environ["SEEN"], "a") as file:
            file.write(json.dumps([args[0], said]) + "\\n")
sys.addaudithook(hook)
"""


def test_threads_are_said_before_anything_that_computes_is_imported(tmp_path: Path) -> None:
    threads = 3
    world = World(tmp_path / "w")
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WATCH)
    env = {"PYTHONPATH": str(site), "SEEN": str(tmp_path / "seen"), "OMP_NUM_THREADS": "7"}
    code, _ = command(world, request(world, FAST_MLP, threads=threads), env)
    assert code == 0
    seen = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert {name for name, _ in seen} >= {"numpy", "pyarrow", "torch"}
    for name, said in seen:
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            assert said[variable] == str(threads), name
        assert said["MKL_DYNAMIC"] == said["OMP_DYNAMIC"] == "FALSE"


def test_libraries_that_were_imported_before_are_told_too(tmp_path: Path) -> None:
    import pyarrow as pa
    import threadpoolctl

    world = World(tmp_path, spec(training={"threads": 1}))
    try:
        assert run(request(world)).outcome is not None
        assert pa.cpu_count() == 1
        assert {p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"} == {1}
    finally:
        pa.set_cpu_count(os.cpu_count() or 1)
        threadpoolctl.threadpool_limits(os.cpu_count(), "blas")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2 or not shutil.which("taskset"), reason="one core only")
@pytest.mark.parametrize("learner", [FAST, FAST_MLP], ids=["xgboost", "torch_mlp"])
def test_one_core_gives_the_bytes_of_two(tmp_path: Path, learner: dict[str, Any]) -> None:
    core = str(min(os.sched_getaffinity(0)))
    outcomes = []
    for name, before in (("one", ("taskset", "-c", core)), ("all", ())):
        world = World(tmp_path / name)
        code, result = command(world, request(world, learner, threads=2), None, *before)
        assert code == 0
        outcomes.append(result.outcome_digest)
    assert outcomes[0] == outcomes[1]


# Device


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_DRIVER", "libno-such-driver.so.1")


def test_a_gpu_that_is_not_there_is_said(tmp_path: Path, no_gpu: None) -> None:
    world = World(tmp_path)
    result = run(request(world).model_copy(update={"means": GPU}))
    assert result.error is not None and result.outcome is None
    assert (result.error.type, result.error.retry) == ("NoGPU", "same")
    assert "1 GPU asked for, none found" in result.error.message


@pytest.mark.parametrize("learner", [FAST, FAST_MLP], ids=["xgboost", "torch_mlp"])
def test_the_cpu_in_its_place_gives_the_bytes_of_the_cpu(tmp_path: Path, no_gpu: None, learner: dict[str, Any]) -> None:
    first, second = World(tmp_path / "a"), World(tmp_path / "b")
    asked = request(second, learner).model_copy(update={"means": GPU_OR_CPU})
    plain, instead = run(request(first, learner)), run(asked)
    assert plain.outcome is not None and instead.outcome == plain.outcome
    assert instead.request_digest == plain.request_digest, "the device is no part of identity"
    said = "Trained on the CPU: 1 GPU asked for, none found, and the profile allows it"
    assert said in instead.observed.notes and said not in plain.observed.notes


def test_means_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    result = run(request(World(tmp_path)).model_copy(update={"means": Means(limits={"gpus": "all"})}))
    assert result.error is not None and "means.limits.gpus is not a number" in result.error.message


# Use

# The calls of NVIDIA's management library, with the signatures of nvml.h, for one GPU that gets busier.
NVML = """
#include <string.h>
typedef struct { unsigned gpu, memory; } rates;
typedef struct { unsigned long long total, free, used; } memory;
static unsigned looks;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)0x7fff00000001; return i; }
int nvmlDeviceGetName(void *d, char *name, unsigned len) { strncpy(name, "Some GPU", len); return 0; }
int nvmlDeviceGetUtilizationRates(void *d, rates *r) { r->gpu = looks++ ? 90 : 70; r->memory = 5; return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory *m) { m->total = 8ULL << 30; m->used = 3ULL << 30; return 0; }
"""


def test_a_gpu_that_was_used_is_told_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build a management library with")
    (tmp_path / "nvml.c").write_text(NVML)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "nvml.c"], check=True)
    monkeypatch.setattr(usage, "_NVML", str(library))
    monkeypatch.setattr(usage, "_EVERY", 0.05)
    seen = usage.Usage()
    seen.watch_gpus()
    time.sleep(0.5)
    (said,) = seen.gpu_notes()
    assert said.startswith("GPU 0 (Some GPU): 8") and said.endswith("at most 3.0 GiB used")


def test_without_the_library_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_NVML", "libno-such-library.so.1")
    seen = usage.Usage()
    seen.watch_gpus()
    assert seen.gpu_notes() == []


def test_processes_that_a_job_started_count(tmp_path: Path) -> None:
    seen = usage.Usage()
    code = "x = bytearray(300 * 2**20); sum(range(10**7))"
    subprocess.run([sys.executable, "-c", code], check=True)
    used = seen.observed()
    assert used["cpu_seconds"] > 0.1 and used["seconds"] > 0.1
    assert used["peak_memory_mb"] > 300
