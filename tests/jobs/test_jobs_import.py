"""import_model: weights of elsewhere become a model that predicts as they did there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from support import graphs
from support.learning import FAST, FAST_MLP, rows
from support.registry import Registry, error

from millrace.contract import Artifact
from millrace.core.canonical import digest
from millrace.models.files import load
from millrace.store.layout import CARD


def elsewhere(registry: Registry, learner: dict[str, Any]) -> tuple[Artifact, dict[str, Artifact]]:
    """A model of a training, and its files as somebody would hand them over."""
    trained = registry.train(learner=learner)
    assert trained.outcome is not None, trained.error
    model = trained.outcome.outputs["model"]
    loaded = load(registry.objects, model.uri, model.digest)
    found = {}
    for role, data in (("file", loaded.data), ("card", registry.objects.get(model.uri + CARD))):
        registry.objects.put(f"imports/{role}", data)
        found[role] = Artifact(uri=f"imports/{role}", digest=digest(data), kind=role)
    return model, found


@pytest.mark.parametrize(("learner", "form"), [(FAST, "ubj"), (FAST_MLP, "safetensors")])
def test_weights_of_elsewhere_predict_as_they_did_there(registry, learner, form):
    model, files = elsewhere(registry, learner)
    data = registry.snapshot(rows(800, seed=3))

    brought = registry.run("import_model", {"training_set": data, **files}, {"format": form})

    assert brought.outcome is not None, brought.error
    assert brought.outcome.facts == {"format": form, "file": files["file"].digest}
    mine = brought.outcome.outputs["model"]
    assert mine.digest != model.digest, "its card speaks of another training set"
    given = rows(50, seed=9)
    one, other = (load(registry.objects, m.uri, m.digest).predict(given) for m in (model, mine))
    assert (one == other).all()
    run = registry.client.get_run(brought.observed.mlflow_run)
    assert run.data.tags["millrace.imported"] == files["file"].digest
    held = {f.path for f in registry.client.list_artifacts(run.info.run_id, "model")}
    assert {"model/model.json", "model/signature.json"} < held


def test_a_network_of_other_layers_and_a_card_of_another_task_are_refused(registry):
    _, files = elsewhere(registry, FAST_MLP)
    data = registry.snapshot(rows(800, seed=3))
    card = registry.objects.get("imports/card")
    for old, new, words in (
        (b'"hidden":[16]', b'"hidden":[17]', "not of the network"),
        (b'"task":"binary"', b'"task":"regression"', "of another task"),
        (b'"kind":"torch_mlp"', b'"kind":"custom"', "of another learner"),
        (b'"entity"', b'"entities"', "no model.json"),
    ):
        changed = card.replace(old, new)
        assert changed != card
        registry.objects.put("imports/changed", changed)
        given = files | {"card": Artifact(uri="imports/changed", digest=digest(changed), kind="card")}
        kind, message = error(registry.run("import_model", {"training_set": data, **given}, {"format": "safetensors"}))
        assert kind == "DataError" and words in message, message


def test_without_a_card_a_network_says_nothing_of_its_layers(registry):
    _, files = elsewhere(registry, FAST_MLP)
    data = registry.snapshot(rows(800, seed=3))
    given = {"training_set": data, "file": files["file"]}
    assert "of which layers" in error(registry.run("import_model", given, {"format": "safetensors"}))[1]


def test_without_a_card_no_number_is_guessed_for_a_text(registry):
    _, files = elsewhere(registry, FAST)
    data = registry.snapshot(rows(800, seed=3))
    given = {"training_set": data, "file": files["file"]}
    assert (
        "which number stands for which value of carrier, rain"
        in error(registry.run("import_model", given, {"format": "ubj"}))[1]
    )


@pytest.mark.parametrize("names", [["hour", "distance"], None])
def test_trees_of_numbers_alone_need_no_card_and_their_names_say_the_order(registry, names):
    # given: a training set without texts, and trees of its numbers, in another order where they have names
    table = rows(800, seed=3).drop_columns(["carrier", "rain"])
    order = names or ["distance", "hour"]
    values = np.column_stack([table[name].to_numpy(zero_copy_only=False).astype(float) for name in order])
    matrix = xgb.DMatrix(values, table["late"].to_numpy(zero_copy_only=False), feature_names=names)
    booster = xgb.train({"objective": "binary:logistic", "max_depth": 2}, matrix, 5)
    data = bytes(booster.save_raw("ubj"))
    registry.objects.put("imports/trees", data)
    given = {
        "training_set": registry.snapshot(table),
        "file": Artifact(uri="imports/trees", digest=digest(data), kind="file"),
    }
    made = registry.run("import_model", given, {"format": "ubj"})
    assert made.outcome is not None, made.error
    model = made.outcome.outputs["model"]
    expected = booster.inplace_predict(values)
    assert (load(registry.objects, model.uri, model.digest).predict(table) == expected.astype(np.float64)).all()


NUMBERS = ("distance", "hour")


def handed_over(registry: Registry, made: Any) -> dict[str, Artifact]:
    """A training set of numbers alone, and a graph."""
    data = graphs.data(made)
    registry.objects.put("imports/graph", data)
    table = rows(800, seed=3).drop_columns(["carrier", "rain"])
    return {
        "training_set": registry.snapshot(table),
        "file": Artifact(uri="imports/graph", digest=digest(data), kind="file"),
    }


@pytest.mark.parametrize("names", [(), NUMBERS, NUMBERS[::-1]], ids=["a matrix", "names", "names turned"])
def test_a_graph_of_numbers_alone_needs_no_card_and_its_names_say_the_order(registry, names):
    weights = {"distance": 0.003, "hour": -0.1}
    made = graphs.logistic([weights[name] for name in names or NUMBERS], -2, names=names)
    brought = registry.run("import_model", handed_over(registry, made), {"format": "onnx"})
    assert brought.outcome is not None, brought.error
    model = brought.outcome.outputs["model"]
    loaded = load(registry.objects, model.uri, model.digest)
    assert loaded.card.learner == {"kind": "onnx"} and loaded.card.weights.file == "weights.onnx"
    table = rows(50, seed=9)
    score = sum(
        w * np.nan_to_num(table[name].to_numpy(zero_copy_only=False).astype(float)) for name, w in weights.items()
    )
    assert loaded.predict(table) == pytest.approx(1 / (1 + np.exp(2 - score)), abs=1e-5)


def test_a_graph_takes_the_mapping_of_a_card_whatever_learned_it(registry):
    _, files = elsewhere(registry, FAST)
    data = graphs.data(graphs.logistic([0.003, 0.1, 0.2, 0.0], -2))
    registry.objects.put("imports/graph", data)
    file = Artifact(uri="imports/graph", digest=digest(data), kind="file")
    given = {"training_set": registry.snapshot(rows(800, seed=3)), "file": file}
    assert (
        "which number stands for which value of carrier, rain"
        in error(registry.run("import_model", given, {"format": "onnx"}))[1]
    )
    brought = registry.run("import_model", {**given, "card": files["card"]}, {"format": "onnx"})
    assert brought.outcome is not None, brought.error


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (graphs.logistic([0.1, 0.1, 0.1], 0), "of another width than the features"),
        (graphs.logistic([0.1, 0.1], 0, names=["distance", "minute"]), "trained on other features"),
        (graphs.logistic([0.1, 0.1], 0, zipmap=True), "zipmap=False"),
        (graphs.trees(), "are no probabilities"),
        (graphs.network(), "does not give what a binary label asks for"),
        (graphs.with_external(graphs.trees()), "in another file"),
        (graphs.of_domain("com.evil"), "of the domain 'com.evil'"),
    ],
    ids=["width", "names", "zipmap", "no probabilities", "classes", "external data", "domain"],
)
def test_a_graph_that_is_none_of_this_pipeline_is_refused_in_words(registry, made, words):
    kind, message = error(registry.run("import_model", handed_over(registry, made), {"format": "onnx"}))
    assert kind == "DataError" and words in message, message
