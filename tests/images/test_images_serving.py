"""The image of the prediction server: what it lacks, how soon it answers, what it takes, and how it leaves."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from docker_engine import docker, image
from support.served import Served

from millrace.store import layout
from millrace.store.served import unpack

pytestmark = pytest.mark.timeout(1200)
RESTRICTED = ("--user", "4321:8765", "--read-only", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL",
              "--security-opt", "no-new-privileges")  # fmt: skip
ABSENT = ("airflow", "duckdb", "evidently", "feast", "great_expectations", "matplotlib", "mlflow", "nvidia", "onnx",
          "pandas", "pyarrow", "sklearn", "torch")  # fmt: skip
MOST_MB = 150
"""Of memory (PSS) of all four processes, with one model of XGBoost: 133 were measured."""
MOST_CPU_S = 3.0
"""Until the first answer: on a core of its own within 2 s, and slower ones have slack."""
TAKES = """
import glob, json, os
kilobytes = ticks = 0
for folder in glob.glob("/proc/[0-9]*"):
    if int(folder[6:]) != os.getpid():
        lines = open(f"{folder}/smaps_rollup").read().splitlines()
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        ticks += sum(map(int, open(f"{folder}/stat").read().rpartition(")")[2].split()[11:15]))
print(json.dumps([kilobytes / 1000, ticks / os.sysconf("SC_CLK_TCK")]))
"""


class Running:
    """A container of the image that serves a folder, as an arbitrary user."""

    def __init__(self, served: Served, folder: Path, *words: str) -> None:
        self.token, self.log = secrets.token_urlsafe(32), folder / "log"
        self.log.mkdir()
        callers = folder / "tokens"
        digest = hashlib.sha256(self.token.encode()).hexdigest()
        callers.write_text(json.dumps({"test": {"sha256": digest, "pipelines": ["*"]}}))
        for path in (served.root, folder):
            subprocess.run(["chmod", "-R", "a+rwX", str(path)], check=True)
        self.began = time.monotonic()
        self.name = docker(
            "run", "--detach", *RESTRICTED, "--publish", "127.0.0.1::8800", "--volume", f"{served.root}:{served.root}",
            "--volume", f"{self.log}:/var/lib/millrace/predictions", "--volume", f"{callers}:/run/tokens:ro",
            "--env", f"MILLRACE_STORE={served.store}", "--env", f"MILLRACE_FEAST_ONLINE={served.online}",
            "--env", "MILLRACE_SERVING_TOKENS=/run/tokens", *words, image("serving"),
        ).stdout.strip()  # fmt: skip
        self.address = "http://" + docker("port", self.name, "8800").stdout.split()[0]

    def ask(self, unit: str = "u", token: str | None = None) -> httpx.Response:
        said = {"authorization": f"Bearer {token or self.token}", "x-unit": unit}
        body: Any = {"entities": [{"vehicle": "v1"}]}
        return httpx.post(f"{self.address}/predict/trips", json=body, headers=said, timeout=10)

    def first(self) -> tuple[float, httpx.Response]:
        """Seconds until it answered, and the answer."""
        while time.monotonic() < self.began + 120:
            try:
                return time.monotonic() - self.began, self.ask()
            except httpx.TransportError:
                time.sleep(0.02)
        pytest.fail(docker("logs", self.name).stderr[-3000:])

    def takes(self) -> list[float]:
        """Megabytes, and seconds of a processor."""
        found: list[float] = json.loads(docker("exec", self.name, "python", "-I", "-c", TAKES).stdout)
        return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    made = Served.make(tmp_path_factory.mktemp("served") / "p")
    made.plan()
    return made


@pytest.fixture(scope="module")
def running(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(served, tmp_path_factory.mktemp("running"))
    try:
        yield made
    finally:
        docker("rm", "--force", made.name)


def test_it_holds_nothing_that_trains_or_orchestrates():
    code = f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])"
    said = docker(
        "run", "--rm", *RESTRICTED, "--network", "none", "--entrypoint", "python", image("serving"), "-c", code
    )
    assert said.stdout.split() == ["[]"]


def test_it_opens_every_kind_of_model_and_store_that_needs_no_torch():
    code = (
        "import millrace.models.xgboost, millrace.models.onnx, millrace.models.custom, threadpoolctl, boto3, jwt; "
        "import millrace.online.postgres, millrace.online.redis, millrace.online.sqlite; "
        "from cryptography.hazmat.primitives.asymmetric import rsa; print('all')"
    )
    said = docker(
        "run", "--rm", *RESTRICTED, "--network", "none", "--entrypoint", "python", image("serving"), "-c", code
    )
    assert said.stdout.split() == ["all"]


def test_the_image_of_jobs_serves_what_trainers_import():
    code = (
        "import httptools, jwt, uvicorn, uvloop, millrace.serving.serve, sklearn, torch, os; "
        "print(os.access('/opt/millrace/platform/entrypoint.sh', os.X_OK), "
        "os.path.exists('/opt/millrace/platform/healthy.py'))"
    )
    said = docker("run", "--rm", *RESTRICTED, "--network", "none", "--entrypoint", "python", image("jobs"), "-c", code)
    assert said.stdout.split()[-2:] == ["True", "True"]


def test_the_first_answer_is_soon_there_and_takes_little(running: Running):
    seconds, answer = running.first()
    megabytes, processor = running.takes()
    print(f"\nfirst answer after {seconds:.1f} s and {processor:.1f} CPU-s; {megabytes:.0f} MB (PSS) in all processes")
    assert answer.status_code == 200 and answer.json()["predictions"], answer.text
    assert processor < MOST_CPU_S and megabytes < MOST_MB


def test_it_answers_nobody_without_a_token(running: Running):
    running.first()
    assert running.ask(token="another").status_code == 401
    assert httpx.get(f"{running.address}/v2/health/ready", timeout=10).status_code == 200


def test_it_does_not_start_where_it_would_answer_everybody(served: Served):
    done = docker("run", "--rm", *RESTRICTED, "--env", f"MILLRACE_STORE={served.store}", image("serving"), check=False)
    assert done.returncode == 1 and "MILLRACE_SERVING_TOKENS" in done.stderr


def test_the_engine_sees_that_it_is_healthy(running: Running):
    running.first()
    end = time.monotonic() + 60
    while docker("inspect", "--format", "{{.State.Health.Status}}", running.name).stdout.strip() != "healthy":
        assert time.monotonic() < end, docker("inspect", running.name).stdout[-2000:]
        time.sleep(1)


def test_asked_to_leave_it_leaves_what_it_acknowledged(served: Served, tmp_path: Path):
    running = Running(served, tmp_path)
    try:
        running.first()
        answered = 1 + sum(running.ask(f"u{n}").status_code == 200 for n in range(20))
        began = time.monotonic()
        docker("stop", "--time", "40", running.name)
        assert time.monotonic() - began < 20
        assert docker("inspect", "--format", "{{.State.ExitCode}}", running.name).stdout.strip() == "0"
        # in the store, where it shipped them when it left, and nothing lies here
        objects = served.objects
        lines = [line for o in objects.list(layout.all_served("trips")) for line in unpack(objects.get(o.key), o.key)]
        here = [json.loads(line) for line in lines if json.loads(line)["server"].startswith(f"{running.name[:12]}-")]
        assert answered == 21 == len({record["id"] for record in here})
        assert [path for path in running.log.rglob("*.*") if path.suffix in (".open", ".segment")] == []
    finally:
        docker("rm", "--force", running.name)
