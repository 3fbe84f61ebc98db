"""What a server answers is what the batch predicts, to the last bit, whatever the rows and whatever learned them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving.conftest import Asking, asking
from support import graphs
from support.served import NAMES, SHA, Served, rows

from millrace.core.canonical import digest
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.encoding import Encoder
from millrace.models.files import Card, Model, WeightsFile, save
from millrace.models.holdout import Holdout
from millrace.models.protocol import Matrix, Settings, engine_of
from millrace.rules.numbers import LARGEST
from millrace.spec.learner import OnnxModel, TorchMLPLearner, XGBoostLearner

TYPES = pa.schema([("speed", pa.float64()), ("distance", pa.int64()), ("driver", pa.string()),
                   ("electric", pa.bool_()), ("weight", pa.int64())])  # fmt: skip
SMALLEST = 5e-324
ROW = st.fixed_dictionaries(
    {
        "speed": st.none() | st.floats(-LARGEST, LARGEST) | st.floats(0, 100)
        | st.sampled_from([float("nan"), 0.0, -0.0, LARGEST, -LARGEST, SMALLEST]),
        "distance": st.none() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 0]),
        "driver": st.none() | st.sampled_from(["ann", "bob", "cy", "", "Ann", "änn", "ann\u0000", "\U0001f600"])
        | st.text(st.characters(codec="utf-8"), max_size=4),
        "electric": st.none() | st.booleans(),
        "weight": st.none() | st.integers(0, 2**40) | st.integers(-(2**63), 2**63 - 1),
    }
)  # fmt: skip
KINDS = {
    "xgboost binary": (XGBoostLearner(rounds=15, max_depth=4), "binary"),
    "xgboost multiclass": (XGBoostLearner(rounds=10, max_depth=4), "multiclass"),
    "xgboost regression": (XGBoostLearner(rounds=15, max_depth=4), "regression"),
    "torch binary": (TorchMLPLearner(hidden=(7, 3), epochs=2), "binary"),
    "torch multiclass": (TorchMLPLearner(hidden=(16,), epochs=2), "multiclass"),
    "torch regression": (TorchMLPLearner(hidden=(64, 32), epochs=2), "regression"),
    "onnx binary": (OnnxModel(), "binary"),
}
CLASSES = ("far", "near", "nowhere")


@dataclass
class Both:
    """A pipeline's model, as the batch and as a server has it."""

    model: Model
    pipeline: str
    runner: asyncio.Runner
    server: Asking


@pytest.fixture(scope="module", params=list(KINDS))
def both(request: pytest.FixtureRequest, made: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    import shutil

    root = tmp_path_factory.mktemp("equal") / "p"
    shutil.copytree(made.root, root)
    served = Served(root, made.views)
    params, task = KINDS[request.param]
    name = request.param.replace(" ", "_")
    artifact = save(served.objects, *trained(params, task, name))
    served.deploy(1, artifact, name) if task != "multiclass" else deployed(served, artifact, name)
    served.plan(pipeline=name)
    at = asking(served)
    with asyncio.Runner() as runner:
        server = runner.run(at.__aenter__())
        yield Both(served.model(artifact), name, runner, server)
        runner.run(at.__aexit__(None, None, None))


def deployed(served: Served, artifact: Any, name: str) -> None:
    """`Served.deploy` takes deciles of numbers; classes have none."""
    import unittest.mock

    with unittest.mock.patch.object(np, "quantile", lambda *_: ()):
        served.deploy(1, artifact, name)


def trained(params: Any, task: Any, name: str) -> tuple[Card, bytes]:
    table = rows(500, 5).cast(TYPES)
    encoder = Encoder.learn(table, NAMES)
    matrix = encoder.encode(table)
    signal = np.nan_to_num(matrix.values[:, 0]) + 20 * matrix.values[:, 2]
    label = {"binary": (signal > np.median(signal)) * 1.0, "regression": signal,
             "multiclass": np.digitize(signal, np.quantile(signal, [0.3, 0.6])) * 1.0}[task]  # fmt: skip
    labelled = Matrix(matrix.columns, matrix.values, label)
    classes = CLASSES if task == "multiclass" else ()
    if isinstance(params, OnnxModel):
        booster = xgboost.train({"max_depth": 4, "objective": "binary:logistic", "base_score": 0.5},
                                xgboost.DMatrix(matrix.values, label), 60)  # fmt: skip
        weights = graphs.data(graphs.of_booster(booster, len(NAMES)))
    else:
        weights = learner_of(params).fit(labelled, labelled, params, Settings(task, 5, 1, len(classes)), Checkpoints(),
                                         lambda points: None).data  # fmt: skip
    of = engine_of(params)
    card = Card(
        pipeline=name, learner=params.model_dump(mode="json"), task=task, label="late", classes=classes,
        encoder=encoder, entity=("vehicle",), event_time="event_timestamp", feature_service="trips_v1",
        partitions=("2024-01-01",), holdout=Holdout(share=0.2, block="day", seed=5, timezone="UTC"), training_set=SHA,
        spec_digest=SHA, seed=5, threads=2,
        weights=WeightsFile(file=of.file, digest=digest(weights), media_type=of.media_type),
    )  # fmt: skip
    return card, weights


def answers(both: Both, requests: list[list[dict[str, Any]]]) -> list[Any]:
    async def ask() -> list[Any]:
        found = []
        for each in requests:
            # json.dumps says NaN as many clients do
            answer = await both.server.client.post(f"/predict/{both.pipeline}", content=json.dumps({"rows": each}))
            assert answer.status_code == 200, answer.text
            found.append(answer.json()["predictions"])
        return found

    return both.runner.run(ask())


@settings(max_examples=12, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(st.lists(ROW, min_size=1, max_size=40))
def test_served_equals_scored(both: Both, given_: list[dict[str, Any]]) -> None:
    table = pa.table({f.name: pa.array([row[f.name] for row in given_], f.type) for f in TYPES})
    scored = both.model.predict(table)
    together, *alone = answers(both, [given_, *([row] for row in given_[:3])])
    for place, row in enumerate(together):
        assert values(row) == np.atleast_1d(scored[place]).tolist()
    for place, (row,) in enumerate(alone):
        assert values(row) == np.atleast_1d(scored[place]).tolist()


def values(row: dict[str, Any]) -> list[float]:
    return list(row["probabilities"].values()) if "probabilities" in row else [row["prediction"]]
