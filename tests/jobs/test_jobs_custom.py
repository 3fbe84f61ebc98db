"""train, evaluate and score with a pipeline's own code: the text travels in the model, and runs only where it may."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.learning import FAST, PARTITIONS, World, rows, spec

from millrace.contract import Artifact, JobResult
from millrace.core.canonical import digest
from millrace.core.errors import ContractError, Corrupt
from millrace.models.files import load
from millrace.spec import Bundle
from millrace.store import SnapshotStore, bundles

DOCS = Path(__file__).resolve().parents[2] / "docs" / "trainer.md"
RIDGE = DOCS.read_text().split("```python\n")[1].split("```")[0]
CUSTOM = {"kind": "custom", "params": {"penalty": 0.1}}
PROCESS = {"limits": {"custom_code": "process"}}
POD = {"profile": "cpu-small"}


def world(root: Path, text: str | None = RIDGE, means: dict[str, Any] = PROCESS, learner: Any = CUSTOM) -> World:
    described = spec("regression", training={"learner": learner}, evaluation={"thresholds": {"rmse": {"max": 1}}})
    return World(root, described, code={"trainer.py": text} if text else {}, means=means)


def outputs(result: JobResult) -> dict[str, Artifact]:
    assert result.outcome is not None, result.error
    return result.outcome.outputs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Artifact]:
    made = world(tmp_path_factory.mktemp("custom"))
    return made, outputs(made.train())["model"]


def test_a_model_of_ones_own_is_trained_judged_and_scores(trained: tuple[World, Artifact]) -> None:
    made, model = trained
    card = load(made.objects, model.uri, model.digest, made.request("score", {}).means).card
    assert card.code == RIDGE and card.learner == CUSTOM and card.weights.file == "weights.safetensors"
    assert made.objects.exists(model.uri + "reference.json"), "what drift is judged by"
    data = made.snapshot(rows(task="regression"))
    judged = made.run("evaluate", {"training_set": data, "model": model})
    assert judged.outcome is not None and judged.outcome.verdict is not None and judged.outcome.verdict.passed
    table = rows(80, seed=4, task="regression")
    features = made.snapshot(table.drop_columns(["late"]), "features", "2013-03")
    scored = made.run("score", {"features": features, "model": model}, {"version": 1}, scope=("2013-03",))
    found = outputs(scored)["data"]
    guesses = SnapshotStore(made.objects).read(found.uri, found.digest)["prediction"].to_numpy()
    assert np.corrcoef(guesses, table["late"].to_numpy())[0, 1] > 0.7


def test_the_same_request_gives_the_same_bytes(trained: tuple[World, Artifact], tmp_path: Path) -> None:
    again = world(tmp_path, means=POD)
    assert outputs(again.train())["model"].digest == trained[1].digest


def test_the_outcome_says_what_was_learnt(trained: tuple[World, Artifact]) -> None:
    result = trained[0].train()
    assert result.outcome is not None
    assert result.outcome.facts["learner"] == "custom"
    assert 0 < result.outcome.metrics["holdout_squared_error"].value < 1


def test_a_model_predicts_by_the_code_it_was_trained_with(trained: tuple[World, Artifact]) -> None:
    # Given a folder whose code was changed since, so that it predicts nothing but zero
    made, model = trained
    data = {"training_set": made.snapshot(rows(task="regression")), "model": model}
    before = made.run("evaluate", data)
    zero = RIDGE.replace("return design(", "return 0 * design(")
    other = Bundle(spec=made.spec, sql="select 1", suites={}, code={"trainer.py": zero})
    assert other.digest != made.bundle.digest
    bundles.keep(made.objects, other)
    request = made.request("evaluate", data)
    identity = request.identity.model_copy(update={"spec_digest": other.digest})
    from millrace.jobs.runner import run

    after = run(request.model_copy(update={"identity": identity}))
    assert after.outcome is not None and before.outcome is not None
    assert after.outcome.metrics == before.outcome.metrics


@pytest.mark.parametrize("means", [{}, {"limits": {"custom_code": "pods"}}, {"limits": {"custom_code": ""}}])
def test_a_process_without_leave_executes_nothing(
    trained: tuple[World, Artifact], tmp_path: Path, means: dict[str, Any]
) -> None:
    # Given code that would be noticed if it ran, and a request that does not let it
    seen = tmp_path / "seen"
    refused = world(tmp_path / "w", f"open({str(seen)!r}, 'w')\n{RIDGE}", means).train()
    assert refused.error is not None and refused.error.type == "ContractError" and refused.error.retry == "never"
    assert "may not be executed in the task's process" in refused.error.message
    assert "custom_code: process" in refused.error.message and not seen.exists()
    # and neither is a model's code, whoever loads it
    made, model = trained
    data = {"training_set": made.snapshot(rows(task="regression")), "model": model}
    closed = World(made.root, made.spec, code=made.code, means=means)
    for job, inputs, params in (
        ("evaluate", data, {}),
        ("score", {"features": made.snapshot(rows(30, 1), "features", "2013-04"), "model": model}, {"version": 9}),
    ):
        request = closed.request(job, inputs, params, scope=PARTITIONS if job == "evaluate" else ("2013-04",))
        request = request.model_copy(update={"place": request.place.model_copy(update={"result": None})})
        from millrace.jobs.runner import run

        result = run(request)
        assert result.error is not None and "may not be executed" in result.error.message, job
    with pytest.raises(ContractError, match="may not be executed"):
        load(made.objects, model.uri, model.digest)


def test_a_champion_with_code_is_refused_too_when_the_spec_has_moved_on(trained: tuple[World, Artifact]) -> None:
    made, champion = trained
    now = World(made.root, spec("regression", training={"learner": FAST}))
    model = outputs(now.train())["model"]
    data = now.snapshot(rows(task="regression"))
    inputs = {"training_set": data, "model": model, "champion": champion, "champion_training_set": data}
    result = now.run("evaluate", inputs)
    assert result.error is not None and "compute profile" in result.error.message
    allowed = World(made.root, now.spec, means=PROCESS)
    judged = allowed.run("evaluate", inputs)
    assert judged.outcome is not None and judged.outcome.facts["duel"]["champion"] == champion.digest


def test_a_changed_text_is_refused_before_it_runs(trained: tuple[World, Artifact], tmp_path: Path) -> None:
    made, model = trained
    other = world(tmp_path)
    for name in ("model.json", "weights.safetensors"):
        other.objects.put(model.uri + name, made.objects.get(model.uri + name))
    card = json.loads(other.objects.get(model.uri + "model.json"))
    card["code"] = f"open({str(tmp_path / 'seen')!r}, 'w')\n" + card["code"]
    changed = json.dumps(card, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert digest(changed) != model.digest
    other.objects.put(model.uri + "model.json", changed)
    features = other.snapshot(rows(30, 1), "features", "2013-04")
    result = other.run("score", {"features": features, "model": model}, {"version": 9}, scope=("2013-04",))
    assert result.error is not None and result.error.type == Corrupt.__name__
    assert not (tmp_path / "seen").exists()


@pytest.mark.parametrize(("text", "kind", "words"), [
    (None, "ContractError", "which pipeline 'flights' does not have"),
    ("def fit(:", "SpecError", "include/pipelines/flights/trainer.py:1: not Python"),
    ("def fit(a, b, c):\n    return 1 / 0\ndef predict(a, b, c, d): ...\n", "CodeError",
     "include/pipelines/flights/trainer.py:2: fit raised ZeroDivisionError: division by zero"),
])  # fmt: skip
def test_a_mistake_of_the_code_ends_the_job_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, kind: str, words: str
) -> None:
    result = world(tmp_path, text).train()
    assert result.error is not None and (result.error.type, result.error.retry) == (kind, "never")
    assert words in result.error.message
    assert "Traceback" not in "".join(capsys.readouterr())


def test_the_training_form_cannot_bring_code(tmp_path: Path) -> None:
    result = world(tmp_path).train(learner={**CUSTOM, "code": RIDGE})
    assert result.error is not None and "code" in result.error.message and "learner" in result.error.message


def test_it_scores_as_a_pod_does_from_the_store_alone(trained: tuple[World, Artifact], tmp_path: Path) -> None:
    """Given a request in the store with a pod's profile, then the command of a pod leaves its result there."""
    made, model = trained
    pod = World(made.root, made.spec, code=made.code, means=POD)
    features = pod.snapshot(rows(40, 2), "features", "2013-05")
    request = pod.request("score", {"features": features, "model": model}, {"version": 2}, scope=("2013-05",))
    pod.objects.put("requests/r.json", request.model_dump_json().encode())
    done = subprocess.run([sys.executable, "-m", "millrace.jobs", "score", "--store", request.place.store, "--request",
                           "requests/r.json"], capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert request.place.result is not None
    left = JobResult.parse(pod.objects.get(request.place.result))
    assert outputs(left)["data"].rows == 40
