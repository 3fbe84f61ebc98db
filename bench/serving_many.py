"""Many pipelines in one server: how fast and how large where most models are loaded when somebody asks for them.

Each pipeline has a model of its own file (60 trees of the bench's); pipelines are asked at random, each as often as any
other, which is the worst case: MEMORY_MB hold about two hundred of them, and what was not used for longest goes.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.row import Row
from bench.serving_servers import Server, Servers
from bench.serving_store import make

COUNTS = (1, 100, 1000)
MEMORY_MB, CONNECTIONS, SECONDS, ROUNDS = 80, 4, 1.5, 3


def measure(root: Path, folder: Path, client: Callable[[], Any], counts: tuple[int, ...] = COUNTS) -> list[Row]:
    """p50, p99, memory and idle CPU for each number of pipelines, against one; prints the table."""
    running: dict[int, Server] = {}
    seen: dict[int, dict[str, float]] = {}
    with client() as asking:
        try:
            for count in counts:
                made = make(folder / str(count), pipelines=count, rounds=60)
                options = ("--buffered", "--memory-mb", str(MEMORY_MB))
                servers = Servers(root, folder / str(count), made)
                running[count] = servers.millrace(f"{count} pipelines", *options, many=count)
            took: dict[int, list[float]] = {count: [] for count in counts}
            spent: dict[int, list[float]] = {count: [] for count in counts}
            for number in range(-1, ROUNDS):
                for count, server in running.items():
                    before = server.cpu_s()
                    found = asking.ask(_order(server, count, number))
                    if number >= 0:
                        took[count] += found["took"]
                        spent[count].append((server.cpu_s() - before) / found["count"] * 1000)
            for count, server in running.items():
                before = server.cpu_s()
                time.sleep(2)
                seen[count] = {
                    "p50": statistics.median(took[count]),
                    "p99": sorted(took[count])[int(0.99 * len(took[count]))],
                    "cpu": statistics.median(spent[count]),
                    "mb": server.pss_mb(),
                    "idle": (server.cpu_s() - before) / 2 * 1000,
                    "start": server.started_s,
                }
        finally:
            for server in running.values():
                server.end()
    print(f"  pipelines, {CONNECTIONS} connections, {MEMORY_MB} MB for models:")
    for count, of in seen.items():
        print(f"  {count:>7}  p50 {of['p50']:.2f} ms  p99 {of['p99']:.2f} ms  CPU {of['cpu']:.3f} ms  {of['mb']:.0f} MB"
              f"  start {of['start']:.1f} s  idle {of['idle']:.0f} CPU-ms a second")  # fmt: skip
    first = counts[0]
    return [
        Row(f"a server of {count} pipelines against one of {first}, {what}", seen[count][key], seen[first][key], unit,
            "stated")
        for count in counts[1:]
        for what, key, unit in (("p50", "p50", "ms"), ("p99", "p99", "ms"), ("memory", "mb", "MB"))
    ]  # fmt: skip


def _order(server: Server, count: int, number: int) -> dict[str, Any]:
    chance = random.Random(number)
    order = server.order(1, CONNECTIONS, SECONDS)
    bodies = order["bodies"]
    paths = [f"/predict/p{chance.randrange(count)}" for _ in range(5000)]
    return {**order, "paths": paths, "bodies": bodies}
