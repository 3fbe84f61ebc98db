"""What the servers of the bench serve: one model of 200 trees and 20 features, and the rows of a thousand entities."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.contract import Artifact
from millrace.core.canonical import digest
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.deployment import FILE, KIND, Deployment
from millrace.models.encoding import Encoder
from millrace.models.files import Card, WeightsFile, save
from millrace.models.holdout import Holdout
from millrace.models.protocol import Settings, engine_of
from millrace.online.views import OnlineView
from millrace.spec.learner import XGBoostLearner
from millrace.spec.serving import ServingSpec
from millrace.store import layout, open_store
from millrace.store.plans import Arm, Plans, TrafficPlan

FEATURES = [f"f{n}" for n in range(20)]
ENTITIES = 1000
_SHA = "sha256:" + "1" * 64
_VIEW = "entities"


@dataclass(frozen=True)
class Made:
    """A store with pipelines, the online store, and the weights alone, for servers of other makes."""

    folder: Path
    views: tuple[OnlineView, ...]
    values: Any

    @property
    def store(self) -> str:
        return str(self.folder / "store")

    @property
    def online(self) -> str:
        return str(self.folder / "online.db")

    @property
    def weights(self) -> Path:
        return self.folder / "model.ubj"

    def serve(self, pipeline: str, weights: bytes, encoder: Encoder, params: XGBoostLearner) -> None:
        """Write a pipeline whose champion has these weights."""
        objects = open_store(self.store)
        of = engine_of(params)
        card = Card(
            pipeline=pipeline, learner=params.model_dump(mode="json"), task="regression", label="y", encoder=encoder,
            entity=("entity",), event_time="moment", feature_service="service", partitions=("2024-01-01",),
            holdout=Holdout(share=0.2, block="day", seed=1, timezone="UTC"), training_set=_SHA, spec_digest=_SHA,
            seed=1, threads=1, weights=WeightsFile(file=of.file, digest=digest(weights), media_type=of.media_type),
        )  # fmt: skip
        model = save(objects, card, weights)
        made = Deployment(pipeline=pipeline, version=1, model=model, views=self.views, entity=("entity",),
                          bins=tuple(n / 10 for n in range(1, 10)))  # fmt: skip
        key = layout.document("deployments", pipeline, made.digest, FILE)
        objects.put(key, made.to_bytes())
        arm = Arm(role="champion", version=1, model=model.digest, share=1.0,
                  deployment=Artifact(uri=key, digest=made.digest, kind=KIND))  # fmt: skip
        Plans(objects).follow(TrafficPlan(pipeline=pipeline, generation=1, since=1, salt=pipeline, arms=(arm,),
                                          watched=False, serving=ServingSpec()))  # fmt: skip


def make(folder: Path, *, pipelines: int = 1, rounds: int = 200, depth: int = 5) -> Made:
    """Train the model, write it for the pipelines `p0`, `p1`, .., and the entities' rows online, fresh as of now."""
    chance = np.random.default_rng(1)
    table = pa.table({name: chance.normal(size=5_000) for name in FEATURES})
    encoder = Encoder.learn(table, FEATURES)
    matrix = encoder.encode(table)
    label = matrix.values[:, 0] * matrix.values[:, 1] + np.sin(matrix.values[:, 2:]).sum(axis=1)
    params = XGBoostLearner(rounds=rounds, max_depth=depth, min_child_weight=5)
    labelled = type(matrix)(matrix.columns, matrix.values, label)
    weights = (
        learner_of(params)
        .fit(labelled, labelled, params, Settings("regression", 1, 1), Checkpoints(), lambda points: None)
        .data
    )
    values = matrix.values[:ENTITIES]
    folder.mkdir(parents=True, exist_ok=True)
    made = Made(folder, _online(folder, values), values)
    made.weights.write_bytes(weights)
    for number in range(pipelines):
        made.serve(f"p{number}", weights, encoder, params)
    return made


def _online(folder: Path, values: Any) -> tuple[OnlineView, ...]:
    """Write the rows as a materialization does, through Feast."""
    import pandas as pd
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.repo_config import RepoConfig
    from feast.types import Float64, Int64

    from millrace.feast_stores.online_views import online_views

    kept = "millrace.feast_stores.online_stores.addressed.EntityRowOnlineStore"
    config = RepoConfig(project="bench", provider="local", registry=str(folder / "registry.db"),
                        online_store={"type": kept, "path": str(folder / "online.db")},
                        entity_key_serialization_version=3)  # fmt: skip
    opened = FeatureStore(config=config)
    opened.config.repo_path = folder
    entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.INT64)
    view = FeatureView(name=_VIEW, entities=[entity], ttl=timedelta(days=1),
                       schema=[Field(name="entity", dtype=Int64), *(Field(name=n, dtype=Float64) for n in FEATURES)],
                       source=FileSource(name=_VIEW, path="none.parquet", timestamp_field="moment"))  # fmt: skip
    opened.apply([entity, view, FeatureService(name="service", features=[view])])
    columns = {name: values[:, place] for place, name in enumerate(FEATURES)}
    rows = {"entity": range(len(values)), "moment": [datetime.now(UTC)] * len(values), **columns}
    opened.write_to_online_store(_VIEW, pd.DataFrame(rows))
    return online_views(opened, "service")
