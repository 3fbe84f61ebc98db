"""A small pipeline with a training set in a store of its own, for tests of train, evaluate and score."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.contract import Artifact, JobRequest, JobResult, Run, code_digest
from millrace.jobs.runner import run
from millrace.spec import Bundle, PipelineSpec
from millrace.store import SnapshotStore, bundles, open_store
from support.requests import request

CODE = code_digest()
FAST: dict[str, Any] = {"kind": "xgboost", "rounds": 20, "max_depth": 3, "segments": 2}
FAST_MLP: dict[str, Any] = {"kind": "torch_mlp", "hidden": [16], "epochs": 4, "batch_size": 256, "segments": 2}
PARTITIONS = ("2013-01", "2013-02")


def spec(task: str = "binary", **changes: Any) -> dict[str, Any]:
    """A valid PipelineSpec as JSON; `changes` replace top-level parts or, as dicts, are merged into them."""
    metric = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}[task]
    base: dict[str, Any] = {
        "version": 1,
        "name": "flights",
        "owner": "test",
        "description": "A pipeline for tests.",
        "partition": {"grain": "month", "timezone": "America/New_York", "start": "2013-01"},
        "sources": {
            "flights": {
                "kind": "files",
                "location": "in/{year}{month}.csv",
                "gate": "suites/raw.yaml",
                "columns": ["a"],
            }
        },
        "features": {"entity": ["flight_id"], "event_time": "event_timestamp", "service": "flights_v1"},
        "columns": {"distance": "public", "carrier": "public"},
        "label": {"column": "late", "task": task, "known_after": "P1D"},
        "training": {"learner": FAST, "window": "P2M", "minimum_rows": 100, "seed": 7},
        "evaluation": {"thresholds": {metric: {"max": 10}}},
    }
    for key, value in changes.items():
        base[key] = {**base[key], **value} if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return PipelineSpec.model_validate(base).model_dump(mode="json")


def rows(count: int = 1500, seed: int = 0, task: str = "binary", **columns: Any) -> pa.Table:
    """Labelled feature rows of January and February 2013: two signals, noise, a category, a boolean, and gaps."""
    random = np.random.default_rng(seed)
    moments = np.datetime64("2013-01-01T05:00", "us") + random.integers(0, 59 * 86400, count).astype("m8[s]")
    distance = random.normal(1000, 300, count)
    carrier = random.choice(["AA", "B6", "UA", "WN"], count)
    rain = random.random(count) < 0.3
    signal = (distance - 1000) / 300 + 1.5 * (carrier == "UA") + rain + random.normal(0, 0.7, count)
    gaps = random.random(count) < 0.05
    data = {
        "flight_id": pa.array(np.arange(count)),
        "event_timestamp": pa.array(np.sort(moments)).cast(pa.timestamp("us", "UTC")),
        "distance": pa.array(distance, mask=gaps),
        "carrier": pa.array(carrier.tolist()),
        "rain": pa.array(rain),
        "hour": pa.array(random.integers(0, 24, count)),
        "late": pa.array(signal > 0.5) if task == "binary" else pa.array(signal),
        **(
            {"late": pa.array(np.array(["early", "on time", "late"])[np.digitize(signal, [-0.5, 1])].tolist())}
            if task == "multiclass"
            else {}
        ),
    }
    return pa.table({**data, **columns})


@dataclass
class World:
    """A store, a bundle and a training set; makes and runs requests."""

    root: Path
    spec: dict[str, Any] = field(default_factory=spec)
    mlflow: str | None = None
    code: dict[str, str] = field(default_factory=dict)
    means: dict[str, Any] = field(default_factory=dict)
    """Of requests: profile, limits."""

    def __post_init__(self) -> None:
        self.objects = open_store(self.root / "store")
        self.bundle = Bundle(spec=self.spec, sql="select 1", suites={}, code=self.code)
        bundles.keep(self.objects, self.bundle)

    def snapshot(self, table: pa.Table, dataset: str = "training_set", partition: str = PARTITIONS[-1]) -> Artifact:
        return SnapshotStore(self.objects).write(table, pipeline="flights", dataset=dataset, partition=partition)

    def request(
        self,
        job: str,
        inputs: dict[str, Artifact],
        params: dict[str, Any] | None = None,
        scope: tuple[str, ...] = PARTITIONS,
        run: Run | None = None,
    ) -> JobRequest:
        training = self.spec["training"] or {}
        asked = request(
            job, store=self.root / "store", spec_digest=self.bundle.digest, scope=scope, inputs=inputs.items(),
            params=params, seed=training.get("seed", 0), threads=training.get("threads", 2),
            run=run or Run(pipeline="flights"), services={"mlflow": self.mlflow} if self.mlflow else {}, **self.means,
        )  # fmt: skip
        name = asked.request_digest.removeprefix("sha256:")
        place = {"result": f"results/{job}/{name}.json", "checkpoint": f"checkpoints/{name}"}
        return asked.model_copy(update={"place": asked.place.model_copy(update=place)})

    def run(
        self, job: str, inputs: dict[str, Artifact], params: dict[str, Any] | None = None, **more: Any
    ) -> JobResult:
        return run(self.request(job, inputs, params, **more))

    def train(self, table: pa.Table | None = None, learner: dict[str, Any] | None = None, **more: Any) -> JobResult:
        data = self.snapshot(rows(task=self.spec["label"]["task"]) if table is None else table)
        return self.run("train", {"training_set": data}, {"learner": learner}, **more)
