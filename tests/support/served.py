"""A pipeline `trips` that can be served: models, deployments, plans and online rows in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.contract import Artifact
from millrace.core.canonical import digest
from millrace.feast_stores.online_views import online_views
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.deployment import FILE, KIND, Deployment
from millrace.models.encoding import Encoder
from millrace.models.files import Card, Model, WeightsFile, load, save
from millrace.models.holdout import Holdout
from millrace.models.protocol import Settings, engine_of
from millrace.online.views import OnlineView
from millrace.spec.learner import XGBoostLearner
from millrace.spec.serving import ServingSpec
from millrace.store import layout, open_store
from millrace.store.plans import Arm, Plans, TrafficPlan
from support import feast_project

NAMES = feast_project.FEATURE_NAMES
SHA = "sha256:" + "1" * 64
VEHICLES = 40


@dataclass
class Served:
    """A store below `root` with versions 1 and 2 of `trips`, and an online store with vehicles v0 to v39."""

    root: Path
    views: tuple[OnlineView, ...]
    place: str = ""
    """Address of the online store, where it is no file below `root`."""

    @classmethod
    def make(cls, root: Path, online: tuple[str, str] | None = None) -> Served:
        """Train two versions, write the rows of the vehicles, fresh as of now, and one (`old`) that is stale. `online`:
        kind and address of the online store; SQLite if left out."""
        project = feast_project.FeastProject.applied(root)
        project.online = online
        opened = project.open()
        table = rows(VEHICLES)
        now = datetime.now(UTC)
        events = [now - timedelta(hours=1)] * VEHICLES
        table = table.append_column("vehicle", pa.array([f"v{n}" for n in range(VEHICLES)]))
        stale = table.slice(0, 1).set_column(table.column_names.index("vehicle"), "vehicle", pa.array(["old"]))
        table = pa.concat_tables([table, stale])
        moments = pa.array([*events, now - timedelta(days=30)], pa.timestamp("us", "UTC"))
        for name in ("event_timestamp", "created", "serviced"):
            table = table.append_column(name, moments)
        opened.provider.online_store.write_table(opened.config, opened.get_feature_view("trips"), table)
        made = cls(root, online_views(opened, "trips_v1"), online[1] if online else "")
        for version in (1, 2):
            made.deploy(version, made.train(version))
        return made

    @property
    def store(self) -> str:
        return str(self.root / ".millrace" / "store")

    @property
    def online(self) -> str:
        return self.place or str(self.root / ".millrace" / "feast_online.db")

    @property
    def objects(self) -> Any:
        return open_store(self.store)

    @property
    def plans(self) -> Plans:
        return Plans(self.objects)

    def train(self, seed: int, params: Any = None, task: Any = "binary", pipeline: str = "trips") -> Artifact:
        """Train on other rows for another seed."""
        table = rows(600, seed)
        params = params or XGBoostLearner(rounds=20, max_depth=4)
        encoder = Encoder.learn(table, NAMES)
        matrix = encoder.encode(table)
        signal = np.nan_to_num(table["speed"].to_numpy()) + 2.0 * matrix.values[:, 3]
        y = (signal > np.median(signal)).astype(float) if task == "binary" else signal
        labelled = type(matrix)(matrix.columns, matrix.values, y)
        engine, of = learner_of(params), engine_of(params)
        weights = engine.fit(
            labelled, labelled, params, Settings(task, seed, 1), Checkpoints(), lambda points: None
        ).data
        card = Card(
            pipeline=pipeline, learner=params.model_dump(mode="json"), task=task, label="late", encoder=encoder,
            entity=("vehicle",), event_time="event_timestamp", feature_service="trips_v1", partitions=("2024-01-01",),
            holdout=Holdout(share=0.2, block="day", seed=seed, timezone="UTC"), training_set=SHA, spec_digest=SHA,
            seed=seed, threads=2,
            weights=WeightsFile(file=of.file, digest=digest(weights), media_type=of.media_type),
        )  # fmt: skip
        return save(self.objects, card, weights)

    def model(self, artifact: Artifact) -> Model:
        return load(self.objects, artifact.uri, artifact.digest)

    def deploy(self, version: int, model: Artifact, pipeline: str = "trips", **others: Any) -> Arm:
        """Write the document of a version."""
        deciles = tuple(float(x) for x in np.quantile(self.model(model).predict(rows(500, 99)), np.arange(1, 10) / 10))
        made = Deployment(pipeline=pipeline, version=version, model=model, views=self.views, entity=("vehicle",),
                          bins=deciles, **others)  # fmt: skip
        key = layout.document("deployments", pipeline, made.digest, FILE)
        self.objects.put(key, made.to_bytes())
        self.objects.put(f"made/{pipeline}/{version}.json", made.digest.encode())
        return self.arm(version, pipeline)

    def arm(self, version: int, pipeline: str = "trips", share: float = 1.0, role: Any = "champion") -> Arm:
        """A deployed version as a part of a plan."""
        of = self.objects.get(f"made/{pipeline}/{version}.json").decode()
        key = layout.document("deployments", pipeline, of, FILE)
        return Arm(role=role, version=version, model=self.deployed(version, pipeline).digest, share=share,
                   deployment=Artifact(uri=key, digest=of, kind=KIND))  # fmt: skip

    def deployed(self, version: int, pipeline: str = "trips") -> Artifact:
        """The model of a deployed version."""
        of = self.objects.get(f"made/{pipeline}/{version}.json").decode()
        key = layout.document("deployments", pipeline, of, FILE)
        return Deployment.model_validate_json(self.objects.get(key)).model

    def plan(
        self, generation: int = 1, *, since: int = 1, canary: float | None = None, pipeline: str = "trips",
        serving: Any = None, **others: Any,
    ) -> TrafficPlan:  # fmt: skip
        """Version 1 answers; with `canary`, version 2 has that share. Written to the store."""
        arms: tuple[Arm, ...] = (self.arm(1, pipeline),)
        if canary is not None:
            arms = (self.arm(1, pipeline, 1 - canary), self.arm(2, pipeline, canary, "challenger"))
        made = TrafficPlan(pipeline=pipeline, generation=generation, since=since, salt=f"{pipeline} {since}",
                           serving=ServingSpec.model_validate(serving or {}), **{"arms": arms, **others})  # fmt: skip
        return self.plans.follow(made)


def rows(count: int, seed: int = 0) -> pa.Table:
    """Features of `trips` as a training set has them, with gaps."""
    chance = np.random.default_rng(seed)
    gaps = chance.random(count) < 0.1
    return pa.table(
        {
            "speed": pa.array(chance.normal(50, 20, count), mask=gaps),
            "distance": pa.array(chance.integers(0, 500, count)),
            "driver": pa.array(chance.choice(["ann", "bob", "cy", None], count), pa.string()),
            "electric": pa.array(chance.random(count) < 0.5),
            "weight": pa.array(chance.integers(0, 2**40, count)),
        }
    )
