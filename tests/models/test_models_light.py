"""What predicts is light: who opens a model imports what its kind needs, and nothing that trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from onnx import helper
from support import graphs

from millrace.core.canonical import digest
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.encoding import Encoder
from millrace.models.files import Card, WeightsFile, save
from millrace.models.holdout import Holdout
from millrace.models.protocol import Code, Matrix, Settings, engine_of
from millrace.spec.learner import CustomLearner, OnnxModel, TorchMLPLearner, XGBoostLearner
from millrace.store import open_store

TABLE = pa.table({"x": [1.0, 2.0, 3.0, 4.0]})
SHA = "sha256:" + "1" * 64
TRAINER = """
import numpy as np

def fit(train, params, settings):
    return {"mean": np.array([train.label.mean()])}

def predict(weights, rows, params, settings):
    return np.repeat(weights["mean"], len(rows))
"""
# Serves as a server would: from the store alone, then says what that has imported.
SERVE = """
import json, sys
import pyarrow as pa
from millrace.contract import Means
from millrace.models.files import load
from millrace.store import open_store

root, prefix, digest, watched = json.loads(sys.argv[1])
heavy = {name for name in watched if name in sys.modules}
assert not heavy, heavy
model = load(open_store(root), prefix, digest, Means(profile="pods"))
predicted = model.predict(pa.table({"x": [1.0, 2.5]})).tolist()
print(json.dumps({"predicted": predicted, "imported": [name for name in watched if name in sys.modules]}))
"""
TRAINING = ["millrace.learners", "millrace.evaluation", "millrace.mlflow", "millrace.jobs", "millrace.sql"]
TOOLS = [
    "mlflow",
    "feast",
    "great_expectations",
    "airflow",
    "evidently",
    "duckdb",
    "matplotlib",
    "boto3",
]  # Arrow looks for pandas
LIBRARIES = ["xgboost", "torch", "safetensors", "onnx", "onnxruntime"]


@pytest.mark.parametrize(
    ("params", "needs"),
    [
        (XGBoostLearner(rounds=2), {"xgboost"}),
        (TorchMLPLearner(hidden=(2,), epochs=1), {"torch", "safetensors"}),
        (CustomLearner(), {"safetensors"}),
        (OnnxModel(), {"onnx", "onnxruntime"}),
    ],
    ids=["xgboost", "torch_mlp", "custom", "onnx"],
)
def test_a_model_is_served_without_what_trains(tmp_path: Path, params: Any, needs: set[str]) -> None:
    code = Code(TRAINER, "trainer.py") if isinstance(params, CustomLearner) else None
    engine, settings = engine_of(params, code), Settings("regression", 7, 1)
    encoder = Encoder.learn(TABLE, ["x"])
    rows = encoder.encode(TABLE)
    rows = Matrix(rows.columns, rows.values, np.array([1.0, 2.0, 3.0, 4.0]))
    if isinstance(params, OnnxModel):
        weights = graphs.data(graphs.model([helper.make_node("Abs", ["X"], ["Y"])], {"X": [None, 1]}, ["Y"]))
    else:
        learner = learner_of(params, code)
        weights = learner.fit(rows, rows, params, settings, Checkpoints(), lambda points: None).data
    card = Card(
        pipeline="p", learner=params.model_dump(mode="json"), code=code.text if code else None, task="regression",
        label="y", encoder=encoder, entity=("id",), event_time="t", feature_service="s", partitions=("2013-01",),
        holdout=Holdout(share=0.2, block="day", seed=7, timezone="UTC"), training_set=SHA, spec_digest=SHA, seed=7,
        threads=1, weights=WeightsFile(file=engine.file, digest=digest(weights), media_type=engine.media_type),
    )  # fmt: skip
    stored = save(open_store(tmp_path), card, weights)

    asked = json.dumps([str(tmp_path), stored.uri, stored.digest, TRAINING + TOOLS + LIBRARIES])
    done = subprocess.run([sys.executable, "-c", SERVE, asked], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    expected = engine.predictor(weights, rows.columns, params, settings)(encoder.encode(pa.table({"x": [1.0, 2.5]})))
    assert said["predicted"] == expected.tolist()
    assert set(said["imported"]) == needs
