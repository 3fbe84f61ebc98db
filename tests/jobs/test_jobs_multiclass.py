"""A label of several classes, job by job: train, evaluate, duel, score, performance, drift."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.learning import FAST, FAST_MLP, World, rows, spec
from support.requests import request

from millrace.contract import Artifact, Outcome
from millrace.jobs.runner import run
from millrace.models.files import load
from millrace.store import SnapshotStore

MONITORING = {"minimum_rows": 300, "max_age": "P60D", "columns": ["distance", "carrier"], "window": "P1M"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("classes"), spec("multiclass", monitoring=MONITORING))


@pytest.fixture(scope="module")
def inputs(world: World) -> dict[str, Artifact]:
    table = rows(task="multiclass")
    return {"training_set": world.snapshot(table), "model": outcome(world.train(table)).outputs["model"]}


def outcome(result: Any) -> Outcome:
    assert result.outcome is not None, result.error
    return result.outcome


def partitioned(world: World, job: str, given: list[tuple[str, Artifact, str]], scope: str, **params: Any) -> Outcome:
    """As World.run, with the inputs' partitions."""
    asked = request(
        job, store=world.root / "store", spec_digest=world.bundle.digest, scope=[scope], inputs=given, params=params
    )
    return outcome(run(asked))


def test_the_model_keeps_its_classes_in_order(world: World, inputs: dict[str, Artifact]) -> None:
    card = load(world.objects, inputs["model"].uri, inputs["model"].digest).card
    assert (card.task, card.classes) == ("multiclass", ("early", "late", "on time"))


@pytest.mark.parametrize("learner", [FAST, FAST_MLP], ids=["xgboost", "torch_mlp"])
def test_metrics_are_those_of_the_held_out_rows(world: World, learner: dict[str, Any]) -> None:
    from sklearn.metrics import f1_score

    table = rows(task="multiclass")
    model = outcome(world.train(table, learner)).outputs["model"]
    judged = outcome(world.run("evaluate", {"training_set": world.snapshot(table), "model": model}))
    loaded = load(world.objects, model.uri, model.digest)
    held, _ = loaded.card.holdout.mask(table["event_timestamp"])
    guess = np.array(loaded.card.classes)[loaded.predict(table)[held].argmax(axis=1)]
    label = np.array(table["late"])[held]
    assert judged.metrics["accuracy"].value == pytest.approx((guess == label).mean(), rel=1e-9)
    assert judged.metrics["macro_f1"].value == pytest.approx(f1_score(label, guess, average="macro"), rel=1e-9)
    assert judged.metrics["log_loss"].low < judged.metrics["log_loss"].value < judged.metrics["log_loss"].high


def test_a_champion_that_knows_fewer_classes_is_fought_with_its_own(world: World, inputs: dict[str, Artifact]) -> None:
    import pyarrow.compute as pc

    # Given a champion from before the class 'early' was used
    old = rows(task="multiclass")
    old = old.filter(pc.not_equal(old["late"], "early"))
    met = {"champion": outcome(world.train(old)).outputs["model"], "champion_training_set": world.snapshot(old)}
    judged = outcome(world.run("evaluate", {**inputs, **met}))
    # Then it is judged by what it says of the classes it knows, and loses by what it cannot know
    duel = judged.facts["duel"]
    assert duel["difference"] < -1 and judged.verdict.passed
    # and no model meets itself
    itself = {"champion": inputs["model"], "champion_training_set": inputs["training_set"]}
    refused = outcome(world.run("evaluate", {**inputs, **itself}))
    assert not refused.verdict.passed and refused.facts["duel"]["difference"] is None
    assert f"the same model {inputs['model'].digest}" in refused.verdict.failures[0].message


def test_predictions_are_classes_with_their_probabilities(world: World, inputs: dict[str, Artifact]) -> None:
    table = rows(200, seed=5, task="multiclass")
    features = world.snapshot(table, "features", "2013-03")
    scored = outcome(
        world.run("score", {"features": features, "model": inputs["model"]}, {"version": 3}, scope=("2013-03",))
    ).outputs["data"]
    found = SnapshotStore(world.objects).read(scored.uri, scored.digest)
    shares = ["probability_0", "probability_1", "probability_2"]
    assert found.column_names == ["flight_id", "event_timestamp", "prediction", *shares, "model_version",
                                  "model_digest", "in_training_window"]  # fmt: skip
    values = np.stack([found[name].to_numpy() for name in shares], axis=1)
    expected = load(world.objects, inputs["model"].uri, inputs["model"].digest).predict(table)
    np.testing.assert_array_equal(values, expected)
    assert found["prediction"].to_pylist() == [("early", "late", "on time")[n] for n in expected.argmax(axis=1)]


def test_performance_and_drift_see_when_classes_change(world: World, inputs: dict[str, Artifact]) -> None:
    judged = outcome(world.run("evaluate", inputs)).outputs["evaluation"]

    def watched(table: pa.Table) -> tuple[Outcome, Outcome]:
        features = world.snapshot(table, "features", "2013-03")
        scored = outcome(
            world.run("score", {"features": features, "model": inputs["model"]}, {"version": 3}, scope=("2013-03",))
        ).outputs["data"]
        both = [("predictions", scored, "2013-03")]
        performance = partitioned(
            world, "performance", [*both, ("features", features, "2013-03"), ("evaluation", judged, "")], "2013-03",
            as_of="2014-01-01T00:00:00Z",
        )  # fmt: skip
        drift = partitioned(
            world, "drift", [("current", features, "2013-03"), ("model", inputs["model"], ""), *both], "2013-03",
            as_of="2014-01-01T00:00:00Z",
        )  # fmt: skip
        return performance, drift

    # Given a month like the others
    still, calm = watched(rows(1500, seed=8, task="multiclass"))
    assert still.facts["degraded"] is False and set(still.metrics) == {"log_loss", "accuracy", "macro_f1"}
    assert not calm.facts["label"]["drifted"] and not calm.facts["prediction"]["drifted"]
    assert calm.facts["label"]["method"] == "jensenshannon"
    # Then one in which nobody is early any more, and two classes have changed their names, stands out
    table = rows(1500, seed=8, task="multiclass")
    swapped = {"early": "late", "late": "on time", "on time": "late"}
    other = table.set_column(table.column_names.index("late"), "late",
                             pa.array([swapped[v] for v in table["late"].to_pylist()]))  # fmt: skip
    worse, moved = watched(other)
    assert worse.facts["degraded"] is True
    assert worse.metrics["accuracy"].value < still.metrics["accuracy"].value / 2
    assert moved.facts["label"]["drifted"]
