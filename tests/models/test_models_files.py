from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from safetensors.numpy import save as safetensors

from millrace.contract import Artifact
from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import Corrupt, DataError, NotFound
from millrace.models.encoding import Encoder
from millrace.models.files import Card, WeightsFile, check_weights, classification_of, load, save
from millrace.models.holdout import Holdout
from millrace.spec import PipelineSpec
from millrace.spec.learner import TorchMLPLearner
from millrace.store import ObjectStore, open_store

TABLE = pa.table({"x": [1.0, 2.0, 3.0], "c": ["a", "b", "a"]})
SHA = "sha256:" + "1" * 64


def trained() -> bytes:
    from millrace.learners.checkpoints import Checkpoints
    from millrace.learners.protocol import learner_of
    from millrace.models.protocol import Matrix, Settings

    rows = Encoder.learn(TABLE, ["x", "c"]).encode(TABLE)
    rows = Matrix(rows.columns, rows.values, np.array([1.0, 2.0, 3.0]))
    params = TorchMLPLearner(hidden=(4,), epochs=1)
    settings = Settings("regression", 7, 1)
    return learner_of(params).fit(rows, rows, params, settings, Checkpoints(), lambda points: None).data


def card(weights_bytes: bytes, **changes: Any) -> Card:
    return Card(
        **{
            "pipeline": "p",
            "learner": {"kind": "torch_mlp", "hidden": [4], "epochs": 1},
            "task": "regression",
            "label": "y",
            "encoder": Encoder.learn(TABLE, ["x", "c"]),
            "entity": ("id",),
            "event_time": "t",
            "feature_service": "s",
            "partitions": ("2013-01",),
            "holdout": Holdout(share=0.2, block="day", seed=7, timezone="UTC"),
            "training_set": SHA,
            "spec_digest": SHA,
            "seed": 7,
            "threads": 1,
            "weights": WeightsFile(file="weights.safetensors", digest=digest(weights_bytes), media_type="x/y"),
            **changes,
        }
    )


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path)


@pytest.fixture
def stored(objects: ObjectStore) -> Artifact:
    weights = trained()
    return save(objects, card(weights), weights)


def test_a_model_is_named_by_its_card_and_predicts_after_loading(objects: ObjectStore, stored: Artifact) -> None:
    assert stored.uri == f"models/p/{stored.digest.removeprefix('sha256:')}/"
    assert digest(objects.get(stored.uri + "model.json")) == stored.digest
    prediction = load(objects, stored.uri, stored.digest).predict(TABLE)
    assert prediction.shape == (3,)
    assert np.isfinite(prediction).all()


def test_a_loaded_model_reads_its_weights_once(
    objects: ObjectStore, stored: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millrace.models.torch import mlp

    reads: list[int] = []
    read = mlp.load
    monkeypatch.setattr(mlp, "load", lambda data: (reads.append(len(data)), read(data))[1])
    model = load(objects, stored.uri, stored.digest)
    whole = model.predict(TABLE)
    rows = [model.predict(TABLE.slice(n, 1))[0] for n in range(TABLE.num_rows)]
    assert len(reads) == 1
    assert whole == pytest.approx(rows, abs=1e-6)
    assert (whole == load(objects, stored.uri, stored.digest).predict(TABLE)).all()


def test_the_same_model_is_stored_once(objects: ObjectStore, stored: Artifact) -> None:
    before = [(o.key, o.changed) for o in objects.list("models/")]
    weights = trained()
    assert save(objects, card(weights), weights) == stored
    assert [(o.key, o.changed) for o in objects.list("models/")] == before


@pytest.mark.parametrize("file", ["model.json", "weights.safetensors"])
def test_a_changed_byte_is_found_before_anything_is_read(objects: ObjectStore, stored: Artifact, file: str) -> None:
    data = bytearray(objects.get(stored.uri + file))
    data[-2] ^= 1
    objects.put(stored.uri + file, bytes(data))
    with pytest.raises(Corrupt):
        load(objects, stored.uri, stored.digest)


def test_a_model_without_its_card_does_not_exist(objects: ObjectStore, stored: Artifact) -> None:
    objects.delete(stored.uri + "model.json")
    with pytest.raises(NotFound, match="no such model"):
        load(objects, stored.uri, stored.digest)


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/millrace-bomb"),))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("weights.safetensors", pickle.dumps(Bomb())),
        ("weights.safetensors", b""),
        ("weights.safetensors", safetensors({"w": np.ones(3)}) + b"tail"),
        ("weights.safetensors", (2**40).to_bytes(8, "little") + b"{}"),
        ("weights.safetensors", (2).to_bytes(8, "little") + b"[]"),
        ("weights.ubj", pickle.dumps(Bomb())),
        ("weights.ubj", b'{"learner": {}}'),
        ("weights.ubj", b""),
        ("weights.pkl", safetensors({"w": np.ones(3)})),
        ("weights", b"{L\x00"),
    ],
    ids=range(10),
)
def test_weights_that_could_hold_code_are_neither_saved_nor_loaded(
    objects: ObjectStore, name: str, data: bytes
) -> None:
    with pytest.raises(DataError, match="not in a format that holds no code"):
        check_weights(name, data)
    if name.endswith((".ubj", ".safetensors")):
        made = card(data, weights=WeightsFile(file=name, digest=digest(data), media_type="x/y"))
        with pytest.raises(DataError):
            save(objects, made, data)
        objects.put("models/p/x/" + name, data)
        objects.put("models/p/x/model.json", canonical_json(made))
        with pytest.raises(DataError, match="not in a format that holds no code"):
            load(objects, "models/p/x/", made.digest)
    assert not Path("/tmp/millrace-bomb").exists()


@pytest.mark.parametrize("file", ["../weights.ubj", "/etc/weights.ubj", "weights.pkl", "a/b.safetensors"])
def test_a_card_cannot_name_a_file_elsewhere(file: str) -> None:
    with pytest.raises(ValidationError):
        WeightsFile(file=file, digest=SHA, media_type="x/y")


def test_a_card_with_an_unknown_learner_or_field_is_refused(objects: ObjectStore) -> None:
    weights = trained()
    unknown = card(weights, learner={"kind": "os:system"})
    objects.put("models/p/x/model.json", canonical_json(unknown))
    with pytest.raises(DataError, match="unknown kind 'os:system'"):
        load(objects, "models/p/x/", unknown.digest)
    text = canonical_json({**card(weights).model_dump(mode="json"), "engine": "os:system"})
    objects.put("models/p/y/model.json", text)
    with pytest.raises(DataError, match="engine: Extra inputs"):
        load(objects, "models/p/y/", digest(text))


def test_no_rows_are_no_prediction(objects: ObjectStore, stored: Artifact) -> None:
    with pytest.raises(DataError, match="no rows"):
        load(objects, stored.uri, stored.digest).predict(TABLE.slice(0, 0))


def test_the_strongest_classification_wins() -> None:
    spec = PipelineSpec.model_construct(columns={"a": "public", "b": "personal"})
    assert classification_of(spec, ["a"]) == "public"
    assert classification_of(spec, ["a", "unnamed"]) == "internal"
    assert classification_of(spec, ["a", "unnamed", "b"]) == "personal"
