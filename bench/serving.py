"""Serving: ours beside a bare ASGI app, FastAPI, MLflow, LitServe and MLServer, with one model, in one run.

The servers run at the same time and are asked in turn, in rounds, so that whatever else the machine does hits all
alike; figures are medians of the rounds. CPU is what all processes of a server took while it was asked, per request,
less what they take in that time when nobody asks, which is stated beside it: on a busy machine a request takes longer,
and polling would count as its cost. A closed loop of 1 or 16 connections asks, from a process of its own.
`python -m bench.serving 1 10000` measures servers of so many pipelines.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import serving_many
from bench.row import Row
from bench.serving_servers import Server, Servers
from bench.serving_store import make

CELLS = [(1, 1), (1, 16), (32, 1), (32, 16)]
"""Rows of a request, connections."""
ROUNDS, SECONDS, IDLE_S = 5, 0.5, 4
OURS, DURABLE, GIVEN = "ours", "ours, durable", "ours, rows given"


class Client:
    """The process that asks."""

    def __init__(self) -> None:
        path = Path(__file__).with_name("serving_client.py")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, "-ISu", str(path)], stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """See `serving_client`. Raises RuntimeError where a request was not answered."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "error" in found:
            raise RuntimeError(f"port {order['port']}{order['path']}: {found['error']}")
        return found


def measure(root: Path, folder: Path) -> list[Row]:
    """Rows of the bench; prints the whole table."""
    made = make(folder / "made")
    servers = Servers(root, folder, made)
    begin: list[Callable[[], Server]] = [
        lambda: servers.millrace(OURS, "--buffered"),
        lambda: servers.millrace(DURABLE),
        lambda: servers.millrace(GIVEN, "--buffered", rows=True, online=False),
        servers.bare,
        servers.fastapi,
        servers.mlflow,
        servers.litserve,
        servers.mlserver,
    ]
    with ExitStack() as stack:
        running: list[Server] = []
        for each in begin:
            try:
                running.append(each())
            except RuntimeError as err:
                if each in begin[:6]:
                    raise
                print(f"  left out: {err}")
                continue
            stack.callback(running[-1].end)
        _alike(running)
        client = stack.enter_context(Client())
        idle = _idle(running)
        seen = _rounds(client, running, idle)
        kept = {each.name: {"mb": each.pss_mb(), "start": each.started_s, "idle": idle[each.name]} for each in running}
    _table(seen, kept)
    return [*_rows(seen, kept), *serving_many.measure(root, folder / "many", Client)]


def _idle(running: list[Server]) -> dict[str, float]:
    """CPU seconds that each server takes in a second while nobody asks."""
    before = {server.name: server.cpu_s() for server in running}
    time.sleep(IDLE_S)
    return {server.name: (server.cpu_s() - before[server.name]) / IDLE_S for server in running}


def _rounds(
    client: Client, running: list[Server], idle: dict[str, float]
) -> dict[tuple[str, int, int], dict[str, float]]:
    """(server, rows, connections) -> CPU ms a request, requests a second, p50 and p99 in ms."""
    cpu: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    rate: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    took: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for number in range(-1, ROUNDS):
        for rows, connections in CELLS:
            for server in running:
                before = server.cpu_s()
                found = client.ask(server.order(rows, connections, SECONDS if number >= 0 else SECONDS / 2))
                if number < 0:  # what is made at the first requests
                    continue
                key = server.name, rows, connections
                taken = server.cpu_s() - before - idle[server.name] * found["seconds"]
                cpu[key].append(taken / found["count"] * 1000)
                rate[key].append(found["count"] / found["seconds"])
                took[key] += found["took"]
    return {
        key: {
            "cpu": statistics.median(cpu[key]),
            "rate": statistics.median(rate[key]),
            "p50": statistics.median(took[key]),
            "p99": sorted(took[key])[int(len(took[key]) * 0.99)],
        }
        for key in cpu
    }


def _alike(running: list[Server]) -> None:
    """Raise RuntimeError unless every server gave the same number for the first row."""
    names = r'"(?:prediction|predictions|data)":\s*\[?(?:\{"prediction":)?\s*(-?[0-9.]+)'
    numbers = {}
    for server in running:
        found = re.search(names, server.last.rpartition("\r\n\r\n")[2])
        numbers[server.name] = float(found[1]) if found else float("nan")
    if not all(abs(each - numbers[OURS]) < 1e-5 for each in numbers.values()):
        raise RuntimeError(f"the servers do not answer alike: {numbers}")


def _table(seen: dict[Any, dict[str, float]], kept: dict[str, dict[str, float]]) -> None:
    load = os.getloadavg()[0]
    print(f"  {os.cpu_count()} cores, load {load:.1f}; CPU ms a request, p50 / p99 in ms by rows x connections")
    heads = [f"{rows}x{connections}" for rows, connections in CELLS]
    print(f"  {'':18}" + "".join(f"{head:>24}" for head in heads) + f"{'MB':>7}{'start s':>9}{'idle ms/s':>11}")
    for name, of in kept.items():
        cells = (seen[name, rows, connections] for rows, connections in CELLS)
        texts = (f"{c['cpu']:.3f}  {c['p50']:.2f} / {c['p99']:.2f}" for c in cells)
        print(
            f"  {name:18}"
            + "".join(f"{text:>24}" for text in texts)
            + f"{of['mb']:7.0f}{of['start']:9.1f}{1000 * of['idle']:11.1f}"
        )


def _rows(seen: dict[Any, dict[str, float]], kept: dict[str, dict[str, float]]) -> list[Row]:
    def cpu(name: str, connections: int) -> float:
        return seen[name, 1, connections]["cpu"]

    rows = [
        Row("serve a row with its features read, 16 connections, against a bare app given rows", cpu(OURS, 16),
            cpu("bare", 16), "CPU-ms", "<= 1.2"),
        Row("serve a row with its features read, 1 connection, against a bare app given rows", cpu(OURS, 1),
            cpu("bare", 1), "CPU-ms", "stated"),
        Row("serve a given row, 16 connections, against a bare app", cpu(GIVEN, 16), cpu("bare", 16), "CPU-ms",
            "stated"),
        Row("serve a row, 16 connections, log on the disk against in the kernel", cpu(DURABLE, 16), cpu(OURS, 16),
            "CPU-ms", "stated"),
        Row("serve a row, 16 connections, p50 with the log on the disk against in the kernel",
            seen[DURABLE, 1, 16]["p50"], seen[OURS, 1, 16]["p50"], "ms", "stated"),
    ]  # fmt: skip
    goals = {"MLflow": "<= 0.1"}
    for name, of in kept.items():
        if name in (OURS, DURABLE, GIVEN, "bare"):
            continue
        rows.append(Row(f"serve a row with its features read, 16 connections, against {name}", cpu(OURS, 16),
                        cpu(name, 16), "CPU-ms", goals.get(name, "stated"), name))  # fmt: skip
        rows.append(Row(f"memory of a server, against {name}", kept[OURS]["mb"], of["mb"], "MB", "stated"))
        rows.append(Row(f"start of a server to its first answer, against {name}", kept[OURS]["start"], of["start"], "s",
                        "stated"))  # fmt: skip
    return rows


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as place:
        root = Path(__file__).resolve().parents[1]
        serving_many.measure(root, Path(place), Client, tuple(int(each) for each in sys.argv[1:]) or (1, 100, 1000))
