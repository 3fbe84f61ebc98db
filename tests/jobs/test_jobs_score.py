from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.learning import FAST, FAST_MLP, World, rows, spec

from millrace.contract import Artifact, JobResult
from millrace.core.canonical import digest
from millrace.models.files import load, save
from millrace.store import SnapshotStore


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("score"))


@pytest.fixture(scope="module")
def model(world: World) -> Artifact:
    result = world.train()
    assert result.outcome is not None, result.error
    return result.outcome.outputs["model"]


def score(world: World, model: Artifact, table: pa.Table, partition: str = "2013-03") -> JobResult:
    features = world.snapshot(table, "features", partition)
    return world.run("score", {"features": features, "model": model}, {"version": 3}, scope=(partition,))


def predictions(world: World, result: JobResult) -> pa.Table:
    assert result.outcome is not None, result.error
    artifact = result.outcome.outputs["data"]
    return SnapshotStore(world.objects).read(artifact.uri, artifact.digest)


def test_every_row_gets_its_prediction_and_says_by_whom(world: World, model: Artifact) -> None:
    table = rows(300, seed=5)
    result = score(world, model, table)

    scored = predictions(world, result)
    assert {f.name: str(f.type) for f in scored.schema} == {
        "flight_id": "int64",
        "event_timestamp": "timestamp[us, tz=UTC]",
        "prediction": "double",
        "model_version": "string",
        "model_digest": "string",
        "in_training_window": "bool",
    }
    assert scored["flight_id"].to_pylist() == table["flight_id"].to_pylist()
    assert scored["event_timestamp"].to_pylist() == table["event_timestamp"].to_pylist()
    np.testing.assert_array_equal(
        scored["prediction"].to_numpy(), load(world.objects, model.uri, model.digest).predict(table)
    )
    assert set(scored["model_version"].to_pylist()) == {"3"}
    assert set(scored["model_digest"].to_pylist()) == {model.digest}
    assert result.outcome is not None
    assert result.outcome.facts == {"rows": 300, "version": "3", "model": model.digest, "in_training_window": False}
    assert "/predictions/" in result.outcome.outputs["data"].uri


@pytest.mark.parametrize(("partition", "inside"), [("2013-02", True), ("2013-03", False)])
def test_it_says_whether_the_model_was_trained_on_the_partition(
    world: World, model: Artifact, partition: str, inside: bool
) -> None:
    scored = predictions(world, score(world, model, rows(50, seed=6), partition))
    assert set(scored["in_training_window"].to_pylist()) == {inside}


def test_labels_are_not_needed_and_do_not_matter(world: World, model: Artifact) -> None:
    table = rows(200, seed=7)
    labelled = predictions(world, score(world, model, table))
    blind = predictions(world, score(world, model, table.drop_columns(["late"])))
    assert labelled.equals(blind)


def test_unseen_categories_and_nulls_are_scored(world: World, model: Artifact) -> None:
    table = rows(3, seed=8)
    odd = table.set_column(table.column_names.index("carrier"), "carrier", pa.array(["ZZ", None, "AA"]))
    odd = odd.set_column(odd.column_names.index("distance"), "distance", pa.array([None, 1e9, float("nan")]))
    scored = predictions(world, score(world, model, odd))
    assert np.isfinite(scored["prediction"].to_numpy()).all()


TRAINER = """
import numpy as np
def fit(train, params, settings):
    return {"mean": np.array(train.label.mean())}
def predict(weights, rows, params, settings):
    return weights["mean"] + np.isnan(rows.values).sum(axis=1) / 100
"""


@pytest.mark.parametrize("learner", [FAST, FAST_MLP, {"kind": "custom"}], ids=lambda learner: str(learner["kind"]))
def test_nan_in_a_number_is_null_to_every_learner(tmp_path: Path, learner: dict[str, Any]) -> None:
    """Given the same rows once with nulls and once with NaN, then weights and predictions are the same."""
    world = World(tmp_path, spec("regression"), code={"trainer.py": TRAINER},
                  means={"limits": {"custom_code": "process"}})  # fmt: skip
    models, scored, gaps = [], [], rows(task="regression")["distance"]
    assert gaps.null_count
    for column in (gaps, gaps.fill_null(float("nan"))):
        table = rows(task="regression", distance=column)
        result = world.train(table, learner)
        assert result.outcome is not None, result.error
        models.append(result.outcome.outputs["model"])
        scored.append(predictions(world, score(world, models[0], table)))
        evaluated = world.run("evaluate", {"model": models[0], "training_set": world.snapshot(table)})
        assert evaluated.outcome is not None and evaluated.outcome.metrics["rmse"].value > 0, evaluated.error
    weights = [load(world.objects, m.uri, m.digest, world.request("score", {}).means).data for m in models]
    assert weights[0] == weights[1]
    assert scored[0].equals(scored[1])


@pytest.mark.parametrize("value", [float("inf"), -1e39])
def test_a_number_that_no_learner_takes_is_named_and_never_scored(world: World, model: Artifact, value: float) -> None:
    result = score(world, model, changed("distance", pa.array([value] + [1.0] * 19)))
    assert result.outcome is None and result.error is not None
    assert (result.error.type, result.error.retry) == ("DataError", "never")
    assert "feature 'distance' is infinite or beyond float32 in 1 of 20 rows" in result.error.message


def test_predictions_that_are_no_numbers_are_never_stored(tmp_path: Path) -> None:
    """Given a model whose weights hold a NaN, then score refuses it, and nothing is written."""
    from safetensors.numpy import load as tensors
    from safetensors.numpy import save as safetensors

    world = World(tmp_path)
    result = world.train(learner=FAST_MLP)
    assert result.outcome is not None
    made = result.outcome.outputs["model"]
    model = load(world.objects, made.uri, made.digest)
    values = tensors(model.data)
    broken = safetensors({**values, "dense.0.bias": np.full_like(values["dense.0.bias"], np.nan)})
    file = model.card.weights.model_copy(update={"digest": digest(broken)})
    spoilt = save(world.objects, model.card.model_copy(update={"weights": file}), broken)

    scored = score(world, spoilt, rows(20))

    assert scored.error is not None and scored.error.type == "DataError"
    assert "predicts no number (NaN, infinite, or beyond float32) for 20 of 20 rows" in scored.error.message
    assert not list(world.objects.list("snapshots/flights/predictions/"))


def test_torch_and_regression_score_too(tmp_path: Path) -> None:
    world = World(tmp_path, spec("regression"))
    result = world.train(learner=FAST_MLP)
    assert result.outcome is not None
    scored = predictions(world, score(world, result.outcome.outputs["model"], rows(100, task="regression")))
    assert scored.num_rows == 100


def changed(name: str, values: pa.Array | None) -> pa.Table:
    table = rows(20, seed=9)
    if values is None:
        return table.drop_columns([name])
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (changed("hour", None), "feature 'hour' is missing"),
        (changed("hour", pa.array(["x"] * 20)), "feature 'hour' was number (int64) in training and is text now"),
        (changed("carrier", pa.array(range(20))), "feature 'carrier' was text (string) in training and is number now"),
        (changed("flight_id", None), "lack the key column 'flight_id'"),
        (rows(20).slice(0, 0), "no rows to predict"),
    ],
    ids=["missing", "text", "number", "key", "empty"],
)
def test_a_changed_schema_is_a_data_error_that_names_the_column(
    world: World, model: Artifact, table: pa.Table, words: str
) -> None:
    result = score(world, model, table)
    assert result.error is not None, "scored it"
    assert (result.error.type, result.error.retry) == ("DataError", "never")
    assert words in result.error.message


def test_a_tampered_model_scores_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    result = world.train()
    assert result.outcome is not None
    model = result.outcome.outputs["model"]
    data = bytearray(world.objects.get(model.uri + "weights.ubj"))
    data[len(data) // 2] ^= 1
    world.objects.put(model.uri + "weights.ubj", bytes(data))
    scored = score(world, model, rows(20))
    assert scored.error is not None and scored.error.type == "Corrupt"
    assert not list(world.objects.list("snapshots/flights/predictions/"))


def test_a_model_of_another_pipeline_is_refused(tmp_path: Path, model: Artifact, world: World) -> None:
    other = World(world.root, {**spec(), "name": "trains"})
    result = score(other, model, rows(20))
    assert result.error is not None and "another pipeline" in result.error.message


def test_the_same_request_gives_the_same_snapshot(tmp_path: Path) -> None:
    def once(folder: str) -> Any:
        world = World(tmp_path / folder)
        result = world.train()
        assert result.outcome is not None
        return score(world, result.outcome.outputs["model"], rows(100, seed=4)).outcome

    assert once("a") == once("b")
