"""Servers that are measured side by side: how each is started, and what it is asked.

Those of other makes predict with the same weights as ours. What is not in the lock gets an environment of its own in
.millrace/bench-environments, kept from run to run.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.serving_store import ENTITIES, FEATURES, Made

APPS = Path(__file__).parent / "serving_apps"
BODIES = 50
START_S = 120


@dataclass
class Server:
    """A server that is running, in a session of its own."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    path: str
    bodies: Callable[[int], list[str]]
    said: Path
    started_s: float = 0.0
    last: str = field(default="", repr=False)

    def order(self, rows: int, connections: int, seconds: float) -> dict[str, Any]:
        """What its client is told; see `serving_client`."""
        return {"port": self.port, "path": self.path, "bodies": self.bodies(rows), "connections": connections,
                "seconds": seconds}  # fmt: skip

    def processes(self) -> list[int]:
        """All that belong to it: its session."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (stat := _stat(int(entry))) and int(stat[3]) == self.process.pid:
                found.append(int(entry))
        return found

    def cpu_s(self) -> float:
        """Seconds of processor that its threads have taken, to the nanosecond (/proc/PID/stat counts hundredths)."""
        found = 0
        for pid in self.processes():
            try:
                for thread in os.listdir(f"/proc/{pid}/task"):
                    found += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
            except OSError:  # it has ended
                continue
        return found / 1e9

    def pss_mb(self) -> float:
        """Memory of its processes; what several share is counted once."""
        found = 0
        for pid in self.processes():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:  # it has ended
                continue
            found += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
        return found / 1024

    def end(self) -> None:
        """End all of its processes."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            pass
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the name: state, parent, group, session, .."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


class Servers:
    """Starts servers for what was made, and ends them."""

    def __init__(self, root: Path, folder: Path, made: Made) -> None:
        self.root, self.folder, self.made = root, folder, made

    def millrace(self, name: str, *options: str, rows: bool = False, many: int = 0, online: bool = True) -> Server:
        """Ours. `rows`: asked by rows instead of entities; `many`: of how many pipelines (the path is then a stem)."""
        log = self.folder / f"log-{name}"
        words = [sys.executable, "-m", "millrace.serving", "--store", self.made.store, "--log", str(log), *options]
        if online:
            words += ["--online", self.made.online]
        kind = "rows" if rows else "entities"
        return self.start(name, [*words, "--port", "{port}"], "/predict/" if many else "/predict/p0",
                          lambda count: [json.dumps({kind: each}) for each in self._asked(count, rows)])  # fmt: skip

    def bare(self) -> Server:
        """An ASGI app of its own on uvicorn."""
        return self.start("bare", self._uvicorn("bare:app"), "/predict", self._lists)

    def fastapi(self) -> Server:
        """FastAPI on uvicorn."""
        return self.start("FastAPI", self._uvicorn("fast:app"), "/predict", self._lists)

    def mlflow(self) -> Server:
        """`mlflow models serve`, one worker."""
        import mlflow.xgboost
        import xgboost as xgb

        place = self.folder / "mlflow-model"
        mlflow.xgboost.save_model(xgb.Booster(model_file=str(self.made.weights)), str(place))
        words = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", str(place), "--env-manager",
                 "local", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1"]  # fmt: skip

        def bodies(count: int) -> list[str]:
            asked = ({"dataframe_split": {"columns": FEATURES, "data": rows}} for rows in self._values(count))
            return [json.dumps(each) for each in asked]

        return self.start("MLflow", words, "/invocations", bodies)

    def litserve(self) -> Server:
        """LitServe with batching, one worker."""
        python = self._environment("litserve", "litserve>=0.2.19", "xgboost==3.2.0")
        return self.start("LitServe", [python, str(APPS / "lit.py"), "{port}"], "/predict", self._lists)

    def mlserver(self) -> Server:
        """MLServer with its XGBoost runtime, in one process."""
        python = self._environment("mlserver", "mlserver>=1.7", "mlserver-xgboost>=1.7", "xgboost==3.2.0")
        place = self.folder / "mlserver"
        place.mkdir()
        port, grpc, metrics = (_free() for _ in range(3))
        (place / "model-settings.json").write_text(json.dumps({
            "name": "p0", "implementation": "mlserver_xgboost.XGBoostModel",
            "parameters": {"uri": str(self.made.weights), "version": "1"},
        }))  # fmt: skip
        (place / "settings.json").write_text(json.dumps({
            "host": "127.0.0.1", "http_port": port, "grpc_port": grpc, "metrics_port": metrics, "debug": False,
            "parallel_workers": 0,
        }))  # fmt: skip

        def bodies(count: int) -> list[str]:
            shape = [count, len(FEATURES)]
            tensors = ({"name": "x", "shape": shape, "datatype": "FP32", "data": rows} for rows in self._values(count))
            return [json.dumps({"inputs": [tensor]}) for tensor in tensors]

        words = [str(Path(python).parent / "mlserver"), "start", str(place)]
        return self.start("MLServer", words, "/v2/models/p0/infer", bodies, port)

    def start(
        self, name: str, words: list[str], path: str, bodies: Callable[[int], list[str]], port: int | None = None
    ) -> Server:  # fmt: skip
        """Start a server and wait for its first answer. Raises RuntimeError with what it said where none comes."""
        from bench.serving_client import run

        port = port or _free()
        said = self.folder / f"{name}.txt"
        variables = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        variables |= {"MODEL": str(self.made.weights), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore",
                      "PATH": f"{Path(words[0]).parent}:{os.environ.get('PATH', '')}"}  # fmt: skip
        began = time.perf_counter()
        with said.open("wb") as out:
            process = subprocess.Popen(
                [word.format(port=port) for word in words], cwd=self.folder, env=variables, stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        server = Server(name, process, port, path, bodies, said)
        order = {**server.order(1, 1, 0.0), "path": path if not path.endswith("/") else f"{path}p0"}
        try:
            while "error" in (found := _tried(run, order)):
                if process.poll() is not None or time.perf_counter() - began > START_S:
                    raise RuntimeError(f"{name} gave no answer: {found['error']}\n{said.read_text()[-2000:]}")
                time.sleep(0.02)
        except BaseException:
            server.end()
            raise
        server.started_s, server.last = time.perf_counter() - began, found["last"]
        return server

    def _uvicorn(self, app: str) -> list[str]:
        return [sys.executable, "-m", "uvicorn", "--app-dir", str(APPS), app, "--port", "{port}", "--no-access-log",
                "--log-level", "warning"]  # fmt: skip

    def _environment(self, name: str, *packages: str) -> str:
        """A Python with these packages. Raises RuntimeError with the reason where it cannot be made."""
        place = self.root / ".millrace" / "bench-environments" / name
        python, made = place / "bin" / "python", place / "made"
        if not made.is_file():
            uv = str(Path(sys.executable).parent / "uv")
            for words in (
                ["venv", "--clear", "--python", sys.executable, str(place)],
                ["pip", "install", "--compile-bytecode", "--python", str(python), *packages],
            ):
                done = subprocess.run([uv, "-q", *words], capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(f"{name} cannot be installed here: {done.stderr.strip()[-300:]}")
            made.touch()
        return str(python)

    def _asked(self, count: int, rows: bool) -> list[list[dict[str, Any]]]:
        if rows:
            return [[dict(zip(FEATURES, row, strict=True)) for row in some] for some in self._values(count)]
        return [[{"entity": (n * count + k) % ENTITIES} for k in range(count)] for n in range(BODIES)]

    def _values(self, count: int) -> list[list[list[float]]]:
        held = self.made.values
        return [[held[(n * count + k) % ENTITIES].tolist() for k in range(count)] for n in range(BODIES)]

    def _lists(self, count: int) -> list[str]:
        return [json.dumps({"rows": rows}) for rows in self._values(count)]


def _tried(run: Callable[[dict[str, Any]], dict[str, Any]], order: dict[str, Any]) -> dict[str, Any]:
    try:
        return run(order)
    except OSError as err:
        return {"error": f"it does not listen: {err}"}


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
