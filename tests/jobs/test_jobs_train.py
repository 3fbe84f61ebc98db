from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.learning import FAST, FAST_MLP, World, rows, spec

from millrace.contract import JobResult, Run
from millrace.core import interruption
from millrace.core.canonical import digest
from millrace.models.files import load
from millrace.models.holdout import Holdout
from millrace.spec import PipelineSpec


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def model_of(result: JobResult) -> Any:
    assert result.outcome is not None, result.error
    return result.outcome.outputs["model"]


def with_column(name: str, values: pa.Array) -> pa.Table:
    table = rows()
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)


@pytest.mark.parametrize("learner", [FAST, FAST_MLP], ids=["xgboost", "torch_mlp"])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_training_leaves_a_model_that_says_what_it_is(tmp_path: Path, learner: dict[str, Any], task: str) -> None:
    world = World(tmp_path, spec(task))
    result = world.train(learner=learner)

    artifact = model_of(result)
    names = [o.key.removeprefix(artifact.uri) for o in world.objects.list("models/")]
    ending = "ubj" if learner is FAST else "safetensors"
    assert names == ["model.json", "reference.json", f"weights.{ending}"]
    card = json.loads(world.objects.get(artifact.uri + "model.json"))
    assert digest(world.objects.get(artifact.uri + "model.json")) == artifact.digest
    assert [f["name"] for f in card["encoder"]["features"]] == ["distance", "carrier", "rain", "hour"]
    assert card["learner"] == {**card["learner"], **learner}
    assert (card["label"], card["task"], card["entity"]) == ("late", task, ["flight_id"])
    assert card["partitions"] == ["2013-01", "2013-02"]
    assert card["reference"] == digest(world.objects.get(artifact.uri + "reference.json"))
    assert card["weights"]["digest"] == digest(world.objects.get(artifact.uri + card["weights"]["file"]))
    assert result.outcome is not None
    sides = result.outcome.facts["rows"]
    assert sides["train"] + sides["holdout"] == 1500
    assert load(world.objects, artifact.uri, artifact.digest).predict(rows(task=task)).shape == (1500,)
    # and nothing of the way there is left
    assert not list(world.objects.list("checkpoints/"))
    assert "not tracked" in result.observed.notes[0]


def test_held_out_rows_teach_nothing(world: World) -> None:
    # given a category that only held out rows have, and held out labels turned round
    table = rows()
    held, _ = Holdout.of(PipelineSpec.model_validate(world.spec)).mask(table["event_timestamp"])
    carrier = pa.array(np.where(held, "HELD", np.array(table["carrier"].to_pylist())).tolist())
    late = pa.array(table["late"].to_numpy() ^ held)
    other = with_column("late", late).set_column(table.column_names.index("carrier"), "carrier", carrier)

    models = [model_of(world.train(data)) for data in (table, other)]

    # then the weights and the categories are the same
    cards = [load(world.objects, m.uri, m.digest).card for m in models]
    assert models[0].digest != models[1].digest
    assert cards[0].weights == cards[1].weights
    assert cards[0].encoder == cards[1].encoder


def test_two_stores_get_the_same_outcome(tmp_path: Path) -> None:
    first, second = World(tmp_path / "a"), World(tmp_path / "b")
    assert first.train().outcome_digest == second.train().outcome_digest


def test_a_finished_training_is_not_run_again(world: World) -> None:
    first = world.train()
    assert world.train() == first
    world.objects.delete(model_of(first).uri + "model.json")
    again = world.train()
    assert again.observed != first.observed
    assert again.outcome == first.outcome


def test_the_learner_of_the_request_wins_and_makes_another_model(world: World) -> None:
    spec_model, other = model_of(world.train()), model_of(world.train(learner={**FAST, "max_depth": 2}))
    assert spec_model.digest != other.digest
    assert json.loads(world.objects.get(other.uri + "model.json"))["learner"]["max_depth"] == 2


@pytest.mark.parametrize("wrong", [1e308, float("-inf")])
def test_a_label_that_no_regression_can_have_is_no_stack_of_a_library(tmp_path: Path, wrong: float) -> None:
    table = rows(task="regression")
    late = pa.array([wrong, *table["late"].to_pylist()[1:]])
    world = World(tmp_path, spec("regression", columns={"late": "public"}))
    result = world.train(table.set_column(table.column_names.index("late"), "late", late))
    assert result.error is not None and result.error.type == "DataError"
    assert f"something else in 1 of 1500 rows (given: '{wrong} (1 rows)'); allowed: finite" in result.error.message


@pytest.mark.parametrize(
    ("learner", "words"),
    [({"kind": "forest"}, "unknown kind 'forest'"), ({"kind": "xgboost", "depth": 3}, "depth"), ({}, "unknown kind")],
)
def test_a_wrong_learner_is_refused(world: World, learner: dict[str, Any], words: str) -> None:
    result = world.train(learner=learner)
    assert result.error is not None and words in result.error.message
    assert (result.error.type, result.error.retry) == ("ContractError", "never")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (rows(99), "99 labelled rows, fewer than training.minimum_rows"),
        (with_column("when", pa.array([datetime(2013, 1, 1)] * 1500)), "column 'when' has type timestamp"),
        (with_column("late", pa.array([None] + [True, False] * 749 + [True])), "'late' is null in 1 rows"),
        (with_column("late", pa.array([True] * 1500)), "one class only"),
        (with_column("late", pa.array([3] * 1500)), "(int64) is something else in 1500 of 1500 rows"),
        (with_column("distance", pa.array([-1e39] + [1.0] * 1499)), "'distance' is infinite or beyond float32 in 1 of"),
        (rows().drop_columns(["late"]), "the label is missing"),
        (rows().drop_columns(["event_timestamp"]), "lacks event_timestamp"),
        (rows().select(["flight_id", "event_timestamp", "late"]), "no feature columns"),
        (with_column("event_timestamp", pa.array([datetime(2013, 1, 1)] * 1500)), "cannot be divided"),
    ],
    ids=[
        "few",
        "timestamp",
        "null",
        "one class",
        "not binary",
        "beyond",
        "no label",
        "no time",
        "no features",
        "one day",
    ],
)
def test_wrong_training_sets_are_data_errors_and_leave_nothing(world: World, table: pa.Table, words: str) -> None:
    result = world.train(table)
    assert result.error is not None, "trained on it"
    assert (result.error.type, result.error.retry) == ("DataError", "never")
    assert words in result.error.message
    assert not list(world.objects.list("models/"))


def test_a_model_is_as_personal_as_its_features(tmp_path: Path) -> None:
    base = {"distance": "public", "carrier": "public", "rain": "public", "hour": "public", "late": "public"}
    public = World(tmp_path / "a", spec(columns=base))
    personal = World(tmp_path / "b", spec(columns={**base, "hour": "personal"}))
    assert model_of(public.train()).classification == "public"
    assert model_of(personal.train()).classification == "personal"


# MLflow


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def attempt(number: int, name: str = "manual__1") -> Run:
    return Run(
        pipeline="flights",
        dag_id="flights__training",
        run_id=name,
        task_id="train",
        try_number=number,
        url="http://airflow.test/run",
    )


def runs_of(uri: str, run_id: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("flights")
    return client.search_runs(
        [experiment.experiment_id], f"tags.`airflow.run_id` = '{run_id}'", order_by=["attributes.start_time"]
    )


def test_a_training_is_one_run_with_all_that_a_person_wants(tmp_path: Path, mlflow_uri: str) -> None:
    from mlflow import MlflowClient

    world = World(tmp_path, mlflow=mlflow_uri)
    result = world.train(run=attempt(1, "whole"))

    (run,) = runs_of(mlflow_uri, "whole")
    assert run.info.run_id == result.observed.mlflow_run
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "xgboost 2013-02"
    assert run.data.params["max_depth"] == "3" and run.data.params["seed"] == "7"
    tags = run.data.tags
    assert tags["millrace.model_digest"] == model_of(result).digest
    assert tags["millrace.request_digest"] == result.request_digest
    assert tags["millrace.feature_service"] == "flights_v1"
    assert tags["airflow.url"] == "http://airflow.test/run"
    assert tags["millrace.device"] == "cpu"
    assert run.data.metrics["used/cpu_seconds"] > 0 and run.data.metrics["used/peak_memory_mb"] > 50
    for name in ("spec", "code", "lock"):
        assert tags[f"millrace.{name}_digest"].startswith("sha256:")
    client = MlflowClient(tracking_uri=mlflow_uri)
    curve = client.get_metric_history(run.info.run_id, "curve/holdout")
    assert [m.step for m in curve] == list(range(1, 21))
    assert result.outcome is not None
    assert curve[-1].value == pytest.approx(result.outcome.metrics["holdout_log_loss"].value)
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "flights training set"
    assert tags["millrace.training_set"].removeprefix("sha256:").startswith(dataset.dataset.digest)
    files = {f.path for folder in ("model", "plots") for f in client.list_artifacts(run.info.run_id, folder)}
    assert files == {
        "model/model.json",
        "model/weights.ubj",
        "model/signature.json",
        "plots/learning_curve.png",
        "plots/calibration.png",
        "plots/importance.png",
    }
    stored = Path(client.download_artifacts(run.info.run_id, "model/weights.ubj", str(tmp_path)))
    assert stored.read_bytes() == world.objects.get(model_of(result).uri + "weights.ubj")
    signature = Path(client.download_artifacts(run.info.run_id, "model/signature.json", str(tmp_path))).read_text()
    assert {i["name"]: i["type"] for i in json.loads(signature)["inputs"]}["carrier"] == "string"
    # artifacts lie beside the database, not where the process happened to start
    assert run.info.artifact_uri.startswith(Path(mlflow_uri.removeprefix("sqlite:///")).parent.as_uri())
    assert not Path("mlruns").exists()


def test_tracking_changes_nothing_in_the_outcome(tmp_path: Path, mlflow_uri: str) -> None:
    plain, tracked = World(tmp_path / "a"), World(tmp_path / "b", mlflow=mlflow_uri)
    assert plain.train().outcome_digest == tracked.train(run=attempt(1, "same")).outcome_digest


def test_the_same_attempt_continues_its_run_and_the_next_one_closes_it(tmp_path: Path, mlflow_uri: str) -> None:
    from mlflow import MlflowClient

    # given an attempt that was killed: its run is still RUNNING
    first = World(tmp_path / "a", mlflow=mlflow_uri).train(run=attempt(1, "again"))
    client = MlflowClient(tracking_uri=mlflow_uri)
    client.update_run(first.observed.mlflow_run, status="RUNNING")

    # when the same attempt starts again, its run is continued, and every point is there once
    second = World(tmp_path / "b", mlflow=mlflow_uri).train(run=attempt(1, "again"))
    assert second.observed.mlflow_run == first.observed.mlflow_run
    assert len(client.get_metric_history(first.observed.mlflow_run, "curve/train")) == 20
    assert client.get_run(first.observed.mlflow_run).info.status == "FINISHED"

    # when it is killed once more and the next try finds no checkpoint, there is a new run, and the old one is closed
    client.update_run(first.observed.mlflow_run, status="RUNNING")
    third = World(tmp_path / "c", mlflow=mlflow_uri).train(run=attempt(2, "again"))
    assert [(r.info.run_id, r.info.status) for r in runs_of(mlflow_uri, "again")] == [
        (first.observed.mlflow_run, "KILLED"),
        (third.observed.mlflow_run, "FINISHED"),
    ]


def test_the_next_try_continues_the_run_of_a_training_that_was_asked_to_leave(
    tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    # given a try that must leave after its first segment
    world = World(tmp_path, mlflow=mlflow_uri)
    looks = iter([False] * 10 + [True])
    monkeypatch.setattr(interruption, "asked", lambda: next(looks, True))
    first = world.train(run=attempt(1, "evicted"))
    assert first.error is not None and (first.error.type, first.error.retry) == ("Interrupted", "resume")
    assert "10 of 20 rounds are kept" in first.error.message
    (run,) = runs_of(mlflow_uri, "evicted")
    assert run.info.status == "KILLED"

    # when the next try comes, it goes on in the same run, with every point once
    monkeypatch.setattr(interruption, "asked", lambda: False)
    second = world.train(run=attempt(2, "evicted"))
    assert second.outcome is not None
    assert second.observed.mlflow_run == run.info.run_id
    assert "Resumed from a checkpoint: 10 rounds or epochs are not trained again" in second.observed.notes
    (run,) = runs_of(mlflow_uri, "evicted")
    assert (run.info.status, run.data.tags["millrace.try"]) == ("FINISHED", "2")
    curve = MlflowClient(tracking_uri=mlflow_uri).get_metric_history(run.info.run_id, "curve/train")
    assert [m.step for m in curve] == list(range(1, 21))


def test_a_failed_training_is_a_failed_run(tmp_path: Path, mlflow_uri: str) -> None:
    world = World(tmp_path, spec("regression"), mlflow=mlflow_uri)
    diverging = {**FAST_MLP, "learning_rate": 1e30}
    result = world.train(learner=diverging, run=attempt(1, "failed"))
    assert result.error is not None and "diverged" in result.error.message
    assert [r.info.status for r in runs_of(mlflow_uri, "failed")] == ["FAILED"]


def test_an_mlflow_that_does_not_answer_is_worth_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    world = World(tmp_path, mlflow="http://user:secret-word@127.0.0.1:9")
    result = world.train()
    assert result.error is not None
    assert (result.error.type, result.error.retry) == ("Unavailable", "same")
    assert "127.0.0.1:9" in result.error.message
    assert "secret-word" not in result.model_dump_json()


def test_a_server_gives_a_link() -> None:
    from millrace.mlflow.runs import Tracked

    run: Any = Tracked(None, "https://me:word@mlflow.test/", "3", "abc", 0)  # type: ignore[arg-type]
    assert run.link == "https://***@mlflow.test/#/experiments/3/runs/abc"
    assert Tracked(None, "sqlite:///x.db", "3", "abc", 0).link is None  # type: ignore[arg-type]


def test_recent_rows_can_count_for_more_and_the_model_says_so(world: World) -> None:
    alike, recent = world.train(), world.run(
        "train", {"training_set": world.snapshot(rows())}, {"learner": None, "half_life": 0.5}
    )  # fmt: skip
    cards = [load(world.objects, m.uri, m.digest).card for m in map(model_of, (alike, recent))]
    assert [card.half_life for card in cards] == [None, 0.5]
    assert cards[0].weights != cards[1].weights
    assert cards[0].encoder == cards[1].encoder
    # and so long a half-life that a month is nothing teaches what no weights do
    slow = world.run("train", {"training_set": world.snapshot(rows())}, {"learner": None, "half_life": 1e15})
    other = model_of(slow)
    assert load(world.objects, other.uri, other.digest).card.weights == cards[0].weights


def test_a_half_life_of_nothing_is_refused(world: World) -> None:
    result = world.run("train", {"training_set": world.snapshot(rows())}, {"learner": None, "half_life": 0})
    assert result.error is not None and "half_life" in result.error.message
