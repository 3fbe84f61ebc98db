"""A small project for the tests of Feast's stores and of the jobs that use them."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace.contract import Artifact, JobRequest, JobResult, Run
from millrace.core.settings import Settings
from millrace.feast_stores.apply import Report, apply
from millrace.feast_stores.repo import open_feature_store
from millrace.jobs.runner import run
from millrace.spec import Bundle, ProjectTree
from millrace.store import SnapshotStore, Tables, bundles, open_store
from support.requests import request

FEATURE_STORE = """\
project: reference
provider: local
registry: {registry_type: sql, path: "${MILLRACE_FEAST_REGISTRY}"}
offline_store: {type: millrace.feast_stores.offline_stores.duckdb.TableOfflineStore, store: "${MILLRACE_STORE_ROOT}"}
online_store: {type: millrace.feast_stores.online_stores.sqlite.EntityRowOnlineStore, path: "${MILLRACE_FEAST_ONLINE}"}
entity_key_serialization_version: 3
"""

FEATURES = """\
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Bool, Float64, Int64, String, UnixTimestamp

vehicle = Entity(name="vehicle", join_keys=["vehicle"], value_type=ValueType.STRING)
source = FileSource(
    name="trips_features", path="millrace://trips/features", timestamp_field="event_timestamp",
    created_timestamp_column="created",
)
pushed = PushSource(name="trips_push", batch_source=source)
trips = FeatureView(
    name="trips", entities=[vehicle], ttl=timedelta(hours=36), source=pushed,
    schema=[
        Field(name="vehicle", dtype=String), Field(name="distance", dtype=Int64), Field(name="speed", dtype=Float64),
        Field(name="driver", dtype=String), Field(name="electric", dtype=Bool),
        Field(name="serviced", dtype=UnixTimestamp), Field(name="weight", dtype=Int64),
    ],
)
trips_v1 = FeatureService(name="trips_v1", features=[trips[["speed", "distance", "driver", "electric", "weight"]]])
"""

FEATURE_NAMES = ["speed", "distance", "driver", "electric", "weight"]

SPEC: dict[str, Any] = {
    "version": 1,
    "name": "trips",
    "owner": "tests",
    "description": "Trips of a few vehicles.",
    "partition": {"grain": "day", "start": "2024-01-01"},
    "sources": {
        "log": {
            "kind": "files",
            "location": "{year}{month}{day}.csv",
            "gate": "suites/log.yaml",
            "columns": ["vehicle"],
        }
    },
    "features": {"entity": ["vehicle"], "created_time": "created", "service": "trips_v1"},
    "label": {"column": "late", "task": "binary", "known_after": "PT6H"},
}

SCHEMA = pa.schema(
    [
        ("vehicle", pa.string()),
        ("event_timestamp", pa.timestamp("us", "UTC")),
        ("created", pa.timestamp("us", "UTC")),
        ("distance", pa.int64()),
        ("speed", pa.float64()),
        ("driver", pa.string()),
        ("electric", pa.bool_()),
        ("serviced", pa.timestamp("us", "UTC")),
        ("weight", pa.int64()),
        ("late", pa.int64()),
    ]
)


TEMPLATE: list[tempfile.TemporaryDirectory[str]] = []


def at(text: str) -> datetime:
    """A moment in UTC: `at("2024-01-01 05:30")`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def row(vehicle: str, when: str, distance: int = 1, **other: Any) -> dict[str, Any]:
    """A features row; everything but vehicle and time has a default."""
    return {
        "vehicle": vehicle,
        "event_timestamp": at(when),
        "created": at(when),
        "distance": distance,
        "speed": 1.5,
        "driver": "ann",
        "electric": True,
        "serviced": at("2023-12-01 00:00"),
        "weight": 2**60 + 1,
        "late": 0,
        **other,
    }


@dataclass
class FeastProject:
    """A project below `root`, its store, registry and online store."""

    root: Path
    spec: dict[str, Any]
    online: tuple[str, str] | None = None
    features: str = FEATURES

    @classmethod
    def make(cls, root: Path, **spec: Any) -> FeastProject:
        project = cls(root, {**SPEC, **spec})
        (root / "include").mkdir(parents=True)
        (root / "include" / "project.yaml").write_text("version: 1\nname: reference\nowner: tests\n")
        (root / "feature_repo").mkdir()
        (root / "feature_repo" / "feature_store.yaml").write_text(FEATURE_STORE)
        project.write("trips", FEATURES)
        return project

    @classmethod
    def applied(cls, root: Path) -> FeastProject:
        """A project whose definitions are registered; a copy of one made once, since applying takes its time."""
        if not TEMPLATE:
            TEMPLATE.append(tempfile.TemporaryDirectory())
            cls.make(Path(TEMPLATE[0].name) / "p").apply()
        shutil.copytree(Path(TEMPLATE[0].name) / "p", root)
        return cls(root, dict(SPEC))

    @property
    def settings(self) -> Settings:
        return Settings.load(self.root, {})

    @property
    def bundle(self) -> Bundle:
        return Bundle(spec=self.spec, sql="", suites={}, features=self.features, feature_store=FEATURE_STORE)

    @property
    def objects(self) -> Any:
        return open_store(self.settings.store)

    def write(self, name: str, text: str) -> Path:
        path = self.root / "feature_repo" / f"{name}.py"
        path.write_text(text)
        return path

    def apply(self, delete: bool = False) -> Report:
        return apply(ProjectTree(self.root), self.settings, delete=delete)

    def open(self, **other: Any) -> Any:
        s, (kind, place) = self.settings, self.online or ("sqlite", self.settings.feast_online)
        text = FEATURE_STORE.replace("online_stores.sqlite", f"online_stores.{kind}")
        return open_feature_store(text, registry=s.feast_registry, online=place, store=s.store, **other)

    def snapshot(self, partition: str, rows: list[dict[str, Any]] | pa.Table, publish: bool = True) -> Artifact:
        table = pa.Table.from_pylist(rows, SCHEMA) if isinstance(rows, list) else rows
        artifact = SnapshotStore(self.objects).write(table, pipeline="trips", dataset="features", partition=partition)
        if publish:
            Tables(self.objects).move("trips/features", partition, artifact)
        return artifact

    def request(
        self, job: str, role: str, inputs: dict[str, Artifact], params: dict[str, Any] | None = None
    ) -> JobRequest:
        bundle, s = self.bundle, self.settings
        bundles.keep(self.objects, bundle)
        return request(
            job, store=s.store, spec_digest=bundle.digest, scope=inputs, params=params, run=Run(pipeline="trips"),
            inputs=[(role, artifact, partition) for partition, artifact in inputs.items()],
            services={"registry": s.feast_registry, "online": s.feast_online},
        )  # fmt: skip

    def materialize(self, partition: str, artifact: Artifact, revision: int = 1) -> JobResult:
        return run(self.request("materialize", "data", {partition: artifact}, {"revision": revision}))

    def parity(self, partition: str, artifact: Artifact, **params: Any) -> JobResult:
        return run(self.request("parity", "data", {partition: artifact}, params))

    def training_set(self, inputs: dict[str, Artifact], as_of: str) -> JobResult:
        return run(self.request("build_training_set", "features", inputs, {"as_of": as_of}))
