"""The compose stack under a project name, ports and folders of its own, as a test drives it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker_engine import ROOT, docker
from support.keys import keys

from millrace.local.processes import free_ports
from millrace.local.rest import AirflowApi

STACK = ROOT / "include" / "images" / "stack.py"
UP_S = 600


@dataclass
class Stack:
    """`make up-compose` and `make down-compose` with an .env of one's own."""

    folder: Path
    project: Path
    name: str = "millrace-test"

    def __post_init__(self) -> None:
        airflow, mlflow, serving = free_ports(3)
        changes = {
            "MILLRACE_PROJECT_DIR": self.project,
            "MILLRACE_INCOMING": self.project / ".millrace" / "incoming",
            "MILLRACE_SECRETS": self.folder / "secrets",
            "AIRFLOW_PORT": airflow,
            "MLFLOW_PORT": mlflow,
            "SERVING_PORT": serving,
        }
        signing = self.folder / "secrets"
        signing.mkdir(exist_ok=True)
        for made, name in zip(keys(self.folder), ("signing-key", "signing-public-key"), strict=True):
            made.chmod(0o444)  # a container reads it as a user that this machine does not know
            made.rename(signing / name)
        text = (ROOT / ".env.example").read_text()
        for name, value in changes.items():
            text = re.sub(rf"(?m)^{name}=.*$", f"{name}={value}", text)
        files = ":".join(str(ROOT / f"docker-compose{more}.yaml") for more in ("", ".signing"))
        self.env_file.write_text(text + f"\nCOMPOSE_PROJECT_NAME={self.name}\nCOMPOSE_FILE={files}\n")
        self.airflow, self.mlflow, self.serving = (f"http://localhost:{port}" for port in (airflow, mlflow, serving))

    @property
    def env_file(self) -> Path:
        return self.folder / "env"

    @property
    def password(self) -> str:
        return (self.folder / "secrets" / "admin-password").read_text()

    @property
    def token(self) -> str:
        """Of a caller of the prediction server."""
        return (self.folder / "secrets" / "serving-token").read_text()

    @property
    def api(self) -> AirflowApi:
        return AirflowApi(self.airflow, "admin", self.password)

    def up(self) -> float:
        """Start and wait until all is healthy; returns the seconds it took."""
        began = time.monotonic()
        command = [sys.executable, str(STACK), "up", "--env-file", str(self.env_file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=UP_S)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:] + self.logs()
        assert self.airflow in done.stdout and self.mlflow in done.stdout and self.serving in done.stdout
        return time.monotonic() - began

    def down(self, *words: str) -> None:
        subprocess.run([sys.executable, STACK, "down", "--env-file", self.env_file, *words], capture_output=True,
                       timeout=UP_S, check=True)  # fmt: skip

    def compose(self, *words: str, **options: Any) -> str:
        where = ("--project-directory", str(ROOT), "--env-file", str(self.env_file))
        return docker("compose", *where, *words, **options).stdout

    def run(self, service: str, *words: str, **options: Any) -> str:
        """Run a command in a running service's container."""
        return self.compose("exec", "-T", service, *words, **options)

    def python(self, code: str) -> Any:
        """Run Python with Millrace's settings in the scheduler; the last line it prints is JSON."""
        out = self.run("scheduler", "/opt/millrace/platform/entrypoint.sh", "python", "-", input=code)
        return json.loads(out.strip().splitlines()[-1])

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).strip()

    def kill(self, service: str) -> None:
        """End a container at once, as a crash would, and let it come back."""
        found = self.container(service)
        docker("kill", found)
        docker("start", found)

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "15", check=False)[-12000:]


def until(done: Callable[[], Any], what: str, seconds: float, explain: Callable[[], str] = str) -> Any:
    """Wait until `done` says something true and return it."""
    limit = time.monotonic() + seconds
    while True:
        if found := done():
            return found
        assert time.monotonic() < limit, f"waited {seconds} s for {what}\n{explain()}"
        time.sleep(1)
