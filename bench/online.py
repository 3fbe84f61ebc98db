"""Online reads: the features of one entity, ours against Feast's `get_online_features` on its own stores.

Each figure comes from a process of its own that has read before: microseconds between the question and the values, the
median of thousands of reads one after another, and those of many at once for ours.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.row import Row

READ = """
import asyncio, json, statistics, sys, time, warnings
warnings.filterwarnings("ignore")
from datetime import UTC, datetime, timedelta
import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float64, Int64, String
folder, which, place = sys.argv[1:]
KINDS = [Float64, Int64, String]
KEPT = "millrace.feast_stores.online_stores.addressed.EntityRowOnlineStore"
if which == "ours":
    online = {"type": KEPT, "path": place or f"{folder}/ours-online.db"}
elif place:
    online = {"type": "redis", "connection_string": place.removeprefix("redis://").replace("/0", ",db=1")}
else:
    online = {"type": "sqlite", "path": f"{folder}/stock-online.db"}
opened = FeatureStore(config=RepoConfig(project=which, provider="local", registry=f"{folder}/{which}-registry.db",
    online_store=online, entity_key_serialization_version=3))
opened.config.repo_path = folder
entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.INT64)
view = FeatureView(name="entities", entities=[entity], ttl=timedelta(days=1),
    schema=[Field(name="entity", dtype=Int64), *(Field(name=f"f{n}", dtype=KINDS[n % 3]) for n in range(20))],
    source=FileSource(name="entities", path="none.parquet", timestamp_field="moment"))
service = FeatureService(name="service", features=[view])
opened.apply([entity, view, service])
now, count = datetime.now(UTC), 1000
values = {f"f{n}": [[i / 7, i * 10**6, f"text {i}"][n % 3] for i in range(count)] for n in range(20)}
opened.write_to_online_store("entities", pd.DataFrame({"entity": range(count), "moment": [now] * count, **values}))

def report(took, many):
    print(json.dumps({"one": statistics.median(took) * 1e6, "many": many * 1e6}))

if which == "stock":
    held, took = opened.get_feature_service("service"), []
    def read(n):
        return opened.get_online_features(held, [{"entity": n}]).to_dict()
    assert read(7)["f1"] == [7 * 10**6]
    for n in range(3000):
        began = time.perf_counter()
        read(n % count)
        took.append(time.perf_counter() - began)
    report(took, 0.0)
else:
    from millrace.feast_stores.online_views import online_views
    from millrace.online.features import read
    from millrace.online.reader import open_reader
    views, reader = online_views(opened, "service"), open_reader(opened.config.online_store.path, timeout_s=5)
    async def run():
        took = []
        (row,) = await read(views, reader, [{"entity": 7}], now)
        assert row.state == "found" and row.features["f1"] == 7 * 10**6
        for n in range(20000):
            began = time.perf_counter()
            await read(views, reader, [{"entity": n % count}], now)
            took.append(time.perf_counter() - began)
        began = time.perf_counter()
        for turn in range(300):
            await asyncio.gather(*(read(views, reader, [{"entity": n}], now) for n in range(turn, turn + 32)))
        report(took, (time.perf_counter() - began) / 300 / 32)
        await reader.close()
    asyncio.run(run())
"""


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def measure(root: Path, folder: Path) -> list[Row]:
    """Rows of the bench for SQLite, and for Redis where its server is installed."""

    def python(which: str, place: str) -> dict[str, float]:
        command = [sys.executable, "-c", READ, str(folder), which, place]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))

    def both(store: str, place: str) -> list[Row]:
        name = f"read 20 features of one entity from {store}"
        stock, ours = python("stock", place), python("ours", place)
        return [
            Row(f"{name}, against Feast's own", ours["one"], stock["one"], "us", "<= 1/3", "Feast"),
            Row(f"{name}, 32 at once against one", ours["many"], ours["one"], "us", "reported"),
        ]

    rows = both("SQLite", "")
    if shutil.which("redis-server"):
        with _redis(folder) as place:
            rows += both("Redis", place)
    return rows
