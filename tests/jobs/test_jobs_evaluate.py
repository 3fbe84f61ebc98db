from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.learning import FAST, FAST_MLP, World, rows, spec

from millrace.contract import Artifact, JobResult, Outcome
from millrace.core.canonical import digest
from millrace.models.files import load, save

WEAK = {**FAST, "rounds": 1, "learning_rate": 0.01}


def outcome_of(result: JobResult) -> Outcome:
    assert result.outcome is not None, result.error
    return result.outcome


def trained(world: World, table: pa.Table | None = None, learner: dict[str, Any] | None = None) -> dict[str, Artifact]:
    """Inputs of an evaluation: the training set, and a model trained on it."""
    data = rows(task=world.spec["label"]["task"]) if table is None else table
    model = outcome_of(world.train(data, learner)).outputs["model"]
    return {"training_set": world.snapshot(data), "model": model}


def fought(inputs: dict[str, Artifact]) -> dict[str, Artifact]:
    """A model as the champion that another meets, with what it was trained on."""
    return {"champion": inputs["model"], "champion_training_set": inputs["training_set"]}


def judged(tmp_path: Path, evaluation: dict[str, Any], task: str = "binary", **inputs: Artifact) -> Outcome:
    world = World(tmp_path, spec(task, evaluation=evaluation))
    return outcome_of(world.run("evaluate", {**trained(world), **inputs}))


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_metrics_are_those_of_the_held_out_rows_with_intervals(tmp_path: Path, task: str) -> None:
    from sklearn.metrics import log_loss, root_mean_squared_error

    world = World(tmp_path, spec(task))
    inputs = trained(world)
    outcome = outcome_of(world.run("evaluate", inputs))

    # given the held out rows, found again by hand
    model = load(world.objects, inputs["model"].uri, inputs["model"].digest)
    table = rows(task=task)
    held, keys = model.card.holdout.mask(table["event_timestamp"])
    label, prediction = table["late"].to_numpy()[held], model.predict(table)[held]
    name, value = (
        ("log_loss", log_loss(label, prediction))
        if task == "binary"
        else ("rmse", root_mean_squared_error(label, prediction))
    )

    metric = outcome.metrics[name]
    assert metric.value == pytest.approx(value, rel=1e-6)
    assert metric.low is not None and metric.high is not None
    assert metric.low < metric.value < metric.high
    assert metric.rows == held.sum()
    document = json.loads(world.objects.get(outcome.outputs["evaluation"].uri))
    assert list(document["blocks"]) == sorted(set(keys[held].tolist()))
    total = sum(part for part, _ in document["blocks"].values())
    count = sum(count for _, count in document["blocks"].values())
    assert count == held.sum()
    assert total / count == pytest.approx(value if task == "binary" else value**2, rel=1e-6)
    assert document["model"] == inputs["model"].digest
    assert document["training_set"] == inputs["training_set"].digest
    assert (document["block"], document["timezone"]) == ("day", "America/New_York")
    assert document["passed"] and outcome.verdict is not None and outcome.verdict.passed


def test_the_outcome_is_the_same_on_another_machine(tmp_path: Path) -> None:
    assert judged(tmp_path / "a", {}) == judged(tmp_path / "b", {})


@pytest.mark.parametrize(
    ("thresholds", "passed", "words"),
    [
        ({"log_loss": {"max": 0.69}}, True, "it must be at most 0.69"),
        ({"log_loss": {"max": 0.01}}, False, "it must be at most 0.01"),
        ({"roc_auc": {"min": 0.6, "max": 0.999}}, True, "it must be at least 0.6"),
        ({"roc_auc": {"min": 0.999}}, False, "it must be at least 0.999"),
    ],
)
def test_thresholds_make_the_verdict(tmp_path: Path, thresholds: dict[str, Any], passed: bool, words: str) -> None:
    outcome = judged(tmp_path, {"thresholds": thresholds})
    assert outcome.verdict is not None
    assert outcome.verdict.passed is passed
    assert words in " ".join(c.message for c in outcome.verdict.checks)
    assert outcome.facts["duel"]["against"] == "constant"


def test_predictions_that_are_not_numbers_fail(tmp_path: Path) -> None:
    from safetensors.numpy import load as tensors
    from safetensors.numpy import save as safetensors

    # given a model whose weights hold a NaN
    world = World(tmp_path)
    inputs = trained(world, learner=FAST_MLP)
    model = load(world.objects, inputs["model"].uri, inputs["model"].digest)
    values = tensors(model.data)
    broken = safetensors({**values, "dense.0.bias": np.full_like(values["dense.0.bias"], np.nan)})
    file = model.card.weights.model_copy(update={"digest": digest(broken)})
    inputs["model"] = save(world.objects, model.card.model_copy(update={"weights": file}), broken)

    for champion in (False, True):
        more = fought(trained(world)) if champion else {}
        outcome = outcome_of(world.run("evaluate", {**inputs, **more}))
        assert outcome.verdict is not None
        assert [c.passed for c in outcome.verdict.checks] == [False] * 2
        assert "a loss is not a number" in outcome.verdict.checks[1].message
        assert "log_loss must be at most 10, but it is not a number" in outcome.verdict.checks[0].message
        assert outcome.metrics == {}
        assert json.loads(world.objects.get(outcome.outputs["evaluation"].uri))["blocks"] == {}


@pytest.mark.parametrize(("challenger", "champion", "passed"), [(FAST, WEAK, True), (WEAK, FAST, False)])
def test_the_duel_is_fought_on_the_same_rows(
    tmp_path: Path, challenger: dict[str, Any], champion: dict[str, Any], passed: bool
) -> None:
    world = World(tmp_path)
    inputs = trained(world, learner=challenger)
    met = trained(world, learner=champion)
    other = met["model"]

    outcome = outcome_of(world.run("evaluate", {**inputs, **fought(met)}))

    assert outcome.verdict is not None
    (check,) = [c for c in outcome.verdict.checks if c.name == "duel"]
    assert (check.passed, outcome.verdict.passed) == (passed, passed)
    duel = outcome.facts["duel"]
    assert duel["low"] < duel["difference"] < duel["high"]
    assert (duel["challenger"], duel["champion"]) == (inputs["model"].digest, other.digest)
    assert duel["rows"] == outcome.facts["rows"]
    assert (duel["difference"] < 0) is passed
    alone = [
        outcome_of(world.run("evaluate", {**inputs, "model": m})).metrics["log_loss"].value
        for m in (inputs["model"], other)
    ]
    assert duel["difference"] == pytest.approx(alone[0] - alone[1], abs=1e-8)
    assert json.loads(world.objects.get(outcome.outputs["evaluation"].uri))["champion"] == other.digest


def test_tolerance_lets_a_slightly_worse_challenger_pass(tmp_path: Path) -> None:
    world = World(tmp_path, spec(evaluation={"duel": {"tolerance": 0.6}}))
    other = trained(world, learner=FAST)
    outcome = outcome_of(world.run("evaluate", {**trained(world, learner=WEAK), **fought(other)}))
    assert outcome.verdict is not None and outcome.verdict.passed
    assert 0 < outcome.facts["duel"]["difference"] < 0.6


def test_the_duel_leaves_out_rows_that_the_champion_was_trained_on(tmp_path: Path) -> None:
    # given a champion of a time when other days were held out
    world = World(tmp_path)
    inputs = trained(world)
    earlier = World(tmp_path, spec(training={"holdout": {"share": 0.5, "block": "day"}, "seed": 8}))
    met = trained(earlier)
    champion = met["model"]

    outcome = outcome_of(world.run("evaluate", {**inputs, **fought(met)}))

    table, cards = rows(), [load(world.objects, a.uri, a.digest).card for a in (inputs["model"], champion)]
    both = np.logical_and(*(card.holdout.mask(table["event_timestamp"])[0] for card in cards))
    assert 0 < both.sum() < outcome.facts["rows"]
    assert outcome.facts["duel"]["rows"] == both.sum()


def test_a_duel_that_cannot_be_fought_is_not_passed(tmp_path: Path) -> None:
    world = World(tmp_path)
    inputs = trained(world)
    # given a champion that needs a feature which is gone, and one that predicts something else
    wider = rows().append_column("gone", pa.array(np.arange(1500.0)))
    another = World(tmp_path, spec("regression"))
    for met, words in (
        (trained(world, wider), "feature 'gone' is missing"),
        (trained(another), "another label"),
    ):
        outcome = outcome_of(world.run("evaluate", {**inputs, **fought(met)}))
        assert outcome.verdict is not None and not outcome.verdict.passed
        assert words in outcome.verdict.failures[0].message


def test_a_champion_whose_weights_cannot_be_read_fails_the_duel_and_not_the_job(tmp_path: Path) -> None:
    world = World(tmp_path)
    inputs = trained(world)
    model = load(world.objects, inputs["model"].uri, inputs["model"].digest)
    wider = trained(world, rows().append_column("more", pa.array(np.arange(1500.0))))["model"]  # other columns
    others = load(world.objects, wider.uri, wider.digest).data
    file = model.card.weights.model_copy(update={"digest": digest(others)})
    champion = save(world.objects, model.card.model_copy(update={"weights": file}), others)

    outcome = outcome_of(world.run("evaluate", {**inputs, **fought({**inputs, "model": champion})}))

    assert outcome.verdict is not None and not outcome.verdict.passed
    assert [(check.name, check.passed) for check in outcome.verdict.checks] == [("log_loss", True), ("duel", False)]
    assert outcome.verdict.failures[0].message.startswith("duel could not be computed: ")
    assert (outcome.facts["duel"], outcome.facts["champion"]) == (None, champion.digest)


def test_the_training_run_shows_the_evaluation(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    world = World(tmp_path, mlflow=f"sqlite:///{tmp_path}/mlflow.db")
    inputs = trained(world)
    result = world.run("evaluate", inputs)

    assert result.observed.mlflow_run is not None
    run = MlflowClient(tracking_uri=world.mlflow).get_run(result.observed.mlflow_run)
    assert run.data.tags["millrace.model_digest"] == inputs["model"].digest
    assert run.data.tags["millrace.evaluation"] == "passed"
    assert run.data.metrics["evaluation/log_loss"] == outcome_of(result).metrics["log_loss"].value
    assert run.data.metrics["evaluation/log_loss_low"] < run.data.metrics["evaluation/log_loss"]
    # and a model that was not tracked is evaluated all the same
    untracked = World(tmp_path, spec(training={"seed": 9}))
    other = {**trained(untracked)}
    again = world.run("evaluate", other)
    assert again.outcome is not None
    assert again.observed.notes == ("MLflow has no run of this model: this evaluation is not tracked",)


def test_a_duel_weighs_as_the_challenger_was_trained(tmp_path: Path) -> None:
    world = World(tmp_path)
    data = world.snapshot(rows())
    models = [
        world.run("train", {"training_set": data}, {"learner": None, "half_life": half}).outcome.outputs["model"]
        for half in (None, 0.5)
    ]
    facts = [
        world.run(
            "evaluate",
            {"training_set": data, "model": mine, "champion": other, "champion_training_set": data},
        ).outcome.facts["duel"]
        for mine, other in (models, models[::-1])
    ]
    assert [each["half_life"] for each in facts] == [None, 0.5]
    # the same two models on the same rows: with the weights of one the past counts for less
    assert facts[0]["difference"] != -facts[1]["difference"]
