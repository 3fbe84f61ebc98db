"""latency, size and artifact: budgets and files, judged through the evaluate job."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from support.judged import Judging, blocked, passing
from support.learning import FAST_MLP

from millrace.evaluation.checks import latency


def test_a_prediction_that_takes_too_long_blocks_the_model(tmp_path: Path) -> None:
    judging = Judging(tmp_path, {"type": "latency", "rows": 100, "max_median_ms": 1e-6, "max_p99_ms": 1e6})
    outcome = blocked(
        judging, "latency", "a prediction of 100 rows must take at most 1e-06 ms (median)", "takes longer"
    )
    assert [f["passed"] for f in outcome.facts["latency"][0]["figures"]] == [False, True]


def test_times_are_observed_and_the_outcome_is_the_same_whatever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging = Judging(tmp_path, {"type": "latency", "max_median_ms": 1e9, "max_p99_ms": 1e9})
    first = judging.result()
    assert first.outcome is not None and first.outcome.verdict is not None and first.outcome.verdict.passed
    assert 0 < first.observed.times["latency/1_rows/median_ms"] <= first.observed.times["latency/1_rows/p99_ms"]
    assert any(note.startswith("latency: a prediction of 1 row takes ") for note in first.observed.notes)
    # a machine that is a hundred times slower, and still keeps the budget, however busy this one is
    measured = latency._round
    monkeypatch.setattr(latency, "_round", lambda subject, rows: measured(subject, rows) * 100)
    request = judging.world.request("evaluate", {"training_set": judging.data, "model": judging.model})
    from millrace.jobs.runner import run

    second = run(request.model_copy(update={"place": request.place.model_copy(update={"result": None})}))
    assert second.observed.times != first.observed.times
    assert second.outcome_digest == first.outcome_digest


def test_the_best_of_a_few_rounds_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    rounds = [np.full(10, 900.0), np.full(10, 1.0), np.full(10, 0.5)]
    monkeypatch.setattr(latency, "_round", lambda subject, rows: rounds.pop(0))
    passing(Judging(tmp_path, {"type": "latency", "max_p99_ms": 10}), "latency")
    assert len(rounds) == 1, "no more rounds than it takes"


def test_a_model_that_is_too_large_is_blocked(tmp_path: Path) -> None:
    judging = Judging(tmp_path, {"type": "size", "max_bytes": 1000})
    outcome = blocked(judging, "size", "size of the model's files in bytes is", "it must be at most 1000")
    (fact,) = outcome.facts["size"]
    sizes = {o.key.rpartition("/")[2]: o.size for o in judging.world.objects.list(judging.model.uri)}
    assert fact["files"] == sizes and set(sizes) == {"model.json", "reference.json", "weights.ubj"}
    assert fact["figures"][0]["value"] == sum(sizes.values())


def test_a_small_model_passes(tmp_path: Path) -> None:
    passing(Judging(tmp_path, {"type": "size", "max_bytes": 10_000_000}), "size")


@pytest.mark.parametrize("learner", [None, FAST_MLP], ids=["ubj", "safetensors"])
def test_a_model_as_it_was_saved_passes(tmp_path: Path, learner: dict[str, Any] | None) -> None:
    outcome, _ = passing(Judging(tmp_path, {"type": "artifact"}, learner=learner), "artifact")
    assert outcome.facts["artifact"][0]["format"] == ("safetensors" if learner else "ubj")


def test_a_format_that_is_not_allowed_blocks_the_model(tmp_path: Path) -> None:
    judging = Judging(tmp_path, {"type": "artifact", "formats": ["safetensors"]})
    blocked(judging, "artifact", "weights are ubj, and allowed are safetensors")


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/millrace-beside"),))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.pkl", pickle.dumps(Bomb())),
        ("MLmodel", b"flavors:\n  python_function:\n    loader_module: os\n    data: model.pkl\n"),
        ("python_model.pkl", pickle.dumps(Bomb())),
        ("conda.yaml", b"dependencies: [pip: [evil]]\n"),
        ("code/loader.py", b"open('/tmp/millrace-beside', 'w')\n"),
        ("weights.safetensors", b"second weights"),
        ("sitecustomize.py", b"open('/tmp/millrace-beside', 'w')\n"),
    ],
)
def test_what_lies_beside_a_model_blocks_it_and_is_never_opened(tmp_path: Path, name: str, data: bytes) -> None:
    judging = Judging(tmp_path, {"type": "artifact"})
    judging.world.objects.put(judging.model.uri + name, data)
    blocked(judging, "artifact", f"'{name}' lies beside the model")
    assert not Path("/tmp/millrace-beside").exists()


def test_a_reference_that_was_changed_blocks_the_model(tmp_path: Path) -> None:
    judging = Judging(tmp_path, {"type": "artifact"})
    judging.world.objects.put(judging.model.uri + "reference.json", b"{}")
    blocked(judging, "artifact", "'reference.json' does not have its digest")
    judging.world.objects.delete(judging.model.uri + "reference.json")
