"""How transform and the training-set join grow with the data: time and peak memory on both engines.

    python -m bench.scale [--factors 1,10,100] [--engines duckdb,spark] [--memory 8GB] [--at-once N] [--folder DIR]

The data are those of flight_delays, tiled: at factor n there are n networks of airports and carriers side by side, each
with the flights and the weather of 2013. Tiled so, groups and windows keep their size and there are more of them, as
when a business grows by places. `join` is the job that builds a training set, in memory; `file` asks the same of the
feature store and writes the answer as it comes. A run is a process of its own, with a sampler beside it: peak memory
is the sum of the highest resident sizes of the process and its children (Spark's is a child), a bound from above.
Prints a line for each run and writes .millrace/scale.json; docs/scale.md quotes them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from demo import data
from demo.baseline import Bare
from millrace.contract import Artifact, JobRequest, Service
from millrace.core.settings import Settings
from millrace.feast_stores.apply import apply
from millrace.spec import Placed, ProjectTree
from millrace.store import SnapshotStore, Tables, bundles, open_store

ROOT = Path(__file__).resolve().parents[1]
PIPELINE, MONTH, BEFORE = "flight_delays", "2013-02", "2013-01"
TILED = {"flights": ("origin", "carrier"), "weather": ("origin",), "planes": ()}
SPARK_STORE = "millrace.feast_stores.offline_stores.spark.TableOfflineStore"
DUCKDB_STORE = "millrace.feast_stores.offline_stores.duckdb.TableOfflineStore"


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--factors", default="1,10,100")
    parser.add_argument("--engines", default="duckdb,spark")
    parser.add_argument("--tasks", default="transform,join")
    parser.add_argument("--memory", help="DuckDB's memory limit, and Spark's driver memory, such as 4GB")
    parser.add_argument("--at-once", type=int, default=1, help="as many equal tasks side by side, as partitions are")
    parser.add_argument("--folder", type=Path, help="kept between runs; a temporary one when left out")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="millrace-scale-") as temporary:
        folder = given.folder or Path(temporary)
        project = _project(folder / "project")
        for factor in map(int, given.factors.split(",")):
            for task in given.tasks.split(","):
                inputs = "transform" if task == "transform" else "join"
                prepared = folder / f"{inputs}-{factor}.json"
                if not prepared.exists():
                    _child(["prepare", inputs, str(factor), str(project), str(prepared)], {})
                for engine in given.engines.split(","):
                    with ThreadPoolExecutor(given.at_once) as pool:
                        what = (task, engine, factor, project, prepared, given.memory)
                        together = [pool.submit(_measure, *what) for _ in range(given.at_once)]
                    rows += [done.result() for done in together]
                    print("\n".join(json.dumps(row) for row in rows[-given.at_once :]), flush=True)
    target = ROOT / ".millrace" / "scale.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _project(project: Path) -> Path:
    """A copy of the reference project with a month's files, its features registered."""
    if project.exists():
        return project
    ignored = shutil.ignore_patterns(".millrace", ".venv", ".git", "__pycache__", "millrace", "tests")
    for name in ("feature_repo", "include"):
        shutil.copytree(ROOT / name, project / name, ignore=ignored)
    incoming = project / data.INCOMING
    data.write_planes(incoming)
    for month in data.MONTHS:
        data.write_flights(incoming, month)
        data.write_weather(incoming, month)
    apply(ProjectTree(project), _settings(project))
    return project


def _settings(project: Path) -> Settings:
    return Settings.load(project, {})


def prepare(task: str, factor: int, project: Path, prepared: Path) -> None:
    """Write the inputs of a task at a factor as Snapshots, and list them."""
    tree, settings = ProjectTree(project), _settings(project)
    bare = Bare(tree, settings, PIPELINE)
    store = SnapshotStore(open_store(settings.store))
    found: list[tuple[str, Artifact, str | None]] = []
    if task == "transform":
        for name, landed, key in _raw(tree, bare, (BEFORE, MONTH)):
            tiled = _tiled(store.read(landed.uri, landed.digest), factor, TILED[name])
            found.append((name, _write(store, tiled, f"raw.{name}", str(key)), key))
    else:
        for number, month in enumerate(data.MONTHS):
            months = data.MONTHS[max(0, number - 1) : number + 1]
            made = bare.run("transform", (month,), _raw(tree, bare, months)).outputs["data"]
            tiled = _tiled(store.read(made.uri, made.digest), factor, ("flight_id",))
            found.append(("features", _write(store, tiled, "features", month), month))
            Tables(open_store(settings.store)).move(f"{PIPELINE}/features", month, found[-1][1])
    prepared.write_text(json.dumps([(r, a.model_dump(mode="json"), k) for r, a, k in found]))


def _raw(tree: ProjectTree, bare: Bare, months: tuple[str, ...]) -> list[tuple[str, Artifact, str | None]]:
    locations = Placed.of(tree, "dev", PIPELINE).locations()
    found: list[tuple[str, Artifact, str | None]] = []
    for name, source in bare.spec.sources.items():
        for key in months if source.partitioned else ("static",):
            landed = bare.run("land", (key,), [], {"source": name}, locations=locations)
            found.append((name, landed.outputs["data"], key))
    return found


def _tiled(table: pa.Table, factor: int, columns: tuple[str, ...]) -> pa.Table:
    """The table `factor` times, told apart by a suffix of these columns; the first copy as it is."""
    if not columns:
        return table
    copies = [table]
    for number in range(1, factor):
        copy = table
        for column in columns:
            suffixed = pc.binary_join_element_wise(table[column], pa.scalar(f"{number:02d}"), "")
            copy = copy.set_column(copy.column_names.index(column), column, suffixed)
        copies.append(copy)
    return pa.concat_tables(copies)


def _write(store: SnapshotStore, table: pa.Table, dataset: str, key: str) -> Artifact:
    return store.write(table, pipeline=PIPELINE, dataset=dataset, partition=key)


def work(task: str, engine: str, project: Path, prepared: Path, memory: str) -> None:
    """Run one task and print its seconds and rows as JSON."""
    bare = Bare(ProjectTree(project), _settings(project), PIPELINE)
    inputs = [(r, Artifact.model_validate(a), k) for r, a, k in json.loads(prepared.read_text())]
    limits = {"duckdb_memory": memory, "duckdb_temp": str(prepared.parent)} if memory else {}
    features = bare.spec.features.model_copy(update={"engine": engine if task == "transform" else "duckdb"})
    text = bare.bundle.feature_store
    if task == "join":
        extra = f"\n  threads: {os.cpu_count()}" + (f"\n  memory_limit: {memory}" if memory else "")
        text = text.replace(DUCKDB_STORE, SPARK_STORE + f"\n  master: local[{os.cpu_count()}]" if engine == "spark"
                            else DUCKDB_STORE + extra)  # fmt: skip
    spec = bare.spec.model_copy(update={"features": features}).model_dump(mode="json")
    bare.bundle = bare.bundle.model_copy(update={"spec": spec, "feature_store": text})
    bundles.keep(bare.objects, bare.bundle)
    scope: tuple[str, ...] = (MONTH,)
    params: dict[str, Any] = {}
    services = {"spark": f"local[{os.cpu_count()}]"}
    if task == "join":
        label, settings = bare.spec.label, bare.settings
        assert label is not None
        scope = data.MONTHS
        params = {"as_of": label.known_after.after(bare.spec.partitioning.end(data.MONTHS[-1])).isoformat()}
        services = {"registry": settings.feast_registry, "online": settings.feast_online}
    if task == "file":
        print(json.dumps(_to_file(bare, inputs, prepared.with_suffix(f".{os.getpid()}.parquet"), memory)))
        return
    print(json.dumps(_run(bare, task, scope, inputs, params, services, limits)))


def _to_file(bare: Bare, inputs: Any, path: Path, memory: str) -> dict[str, Any]:
    import pyarrow.parquet as pq
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    from millrace.feast_stores.repo import open_feature_store

    settings, text = bare.settings, bare.bundle.feature_store
    store = open_feature_store(
        text.replace(DUCKDB_STORE, DUCKDB_STORE + (f"\n  memory_limit: {memory}" if memory else "")),
        registry=settings.feast_registry, online=settings.feast_online, store=settings.store,
        pinned={f"{PIPELINE}/features": [{"partition": k, "snapshot": a.digest, "uri": a.uri} for _, a, k in inputs]},
    )  # fmt: skip
    began = time.perf_counter()
    found = store.get_historical_features(
        entity_df="SELECT flight_id, event_timestamp FROM flight_delays_features",
        features=store.get_feature_service(bare.spec.features.service),
    )
    found.persist(SavedDatasetFileStorage(str(path)))
    seconds, rows = round(time.perf_counter() - began, 1), pq.read_metadata(path).num_rows
    path.unlink()
    return {"seconds": seconds, "rows": rows}


def _run(bare: Bare, task: str, scope: Any, inputs: Any, params: Any, services: Any, limits: Any) -> dict[str, Any]:
    from millrace.contract import Identity, Input, Means, Place, code_digest
    from millrace.jobs.runner import run

    job = {"transform": "transform", "join": "build_training_set"}[task]
    identity = Identity(
        job=job, params=params, scope=scope, spec_digest=bare.bundle.digest, code_digest=code_digest(),
        inputs=tuple(Input(role=r, kind=a.kind, digest=a.digest, partition=k) for r, a, k in inputs),
    )  # fmt: skip
    request = JobRequest(
        identity=identity,
        place=Place(store=bare.settings.store, inputs={a.digest: a.uri for _, a, _ in inputs}),
        means=Means(services={n: Service(uri=u) for n, u in services.items()}, limits=limits),
    )
    began = time.perf_counter()
    result = run(request)
    seconds = round(time.perf_counter() - began, 1)
    if result.error is not None:
        return {"seconds": seconds, "error": result.error.message[:200]}
    assert result.outcome is not None
    return {"seconds": seconds, "rows": result.outcome.outputs["data"].rows}


def _measure(task: str, engine: str, factor: int, project: Path, prepared: Path, memory: str | None) -> dict[str, Any]:
    env = {}
    if memory and engine == "spark":
        env["PYSPARK_SUBMIT_ARGS"] = f"--driver-memory {memory.upper().removesuffix('B').lower()} pyspark-shell"
    seen = _child(["work", task, engine, str(project), str(prepared), memory or ""], env)
    return {"task": task, "engine": engine, "factor": factor, **seen}


def _child(arguments: list[str], env: dict[str, str]) -> dict[str, Any]:
    """Run a part of this module in its own process, and watch what it takes."""
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.scale", "--child", *arguments],
            stdout=out,
            cwd=ROOT,
            env={**os.environ, **env},
        )
        peaks: dict[int, int] = {}
        times: dict[int, float] = {}
        while process.poll() is None:
            for pid in _tree(process.pid):
                _look(pid, peaks, times)
            time.sleep(0.2)
        out.seek(0)
        lines = out.read().splitlines()
    seen: dict[str, Any] = {"seconds": None, "error": f"ended with {process.returncode}"}
    if process.returncode == 0:
        seen = json.loads(lines[-1]) if lines else {}
    return {**seen, "cpu_seconds": round(sum(times.values()), 1), "peak_mb": sum(peaks.values()) // 1024}


def _tree(pid: int) -> list[int]:
    """The process and all below it."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(found for child in below for found in _tree(int(child)))]


def _look(pid: int, peaks: dict[int, int], times: dict[int, float]) -> None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), None)
    if peak is not None:
        peaks[pid] = max(peaks.get(pid, 0), int(peak))
    times[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _as_child(name: str, *given: str) -> int:
    if name == "prepare":
        task, factor, project, prepared = given
        prepare(task, int(factor), Path(project), Path(prepared))
    else:
        task, engine, project, prepared, memory = given
        work(task, engine, Path(project), Path(prepared), memory)
    return 0


if __name__ == "__main__":
    sys.exit(_as_child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
