"""explanations: SHAP values that add up, kept and drawn, and a challenger that looks elsewhere than the champion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.judged import Judging, blocked, outcome_of, passing
from support.learning import FAST, FAST_MLP, rows

from millrace.contract import Artifact, Outcome
from millrace.evaluation import attributions as made
from millrace.models.files import load
from millrace.models.metrics import log_odds

NETWORK = {**FAST_MLP, "epochs": 20, "learning_rate": 0.02}


def asked(**keys: Any) -> dict[str, Any]:
    return {"type": "explanations", "minimum_rows": 20, **keys}


def explanation(judging: Judging, outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(judging.world.objects.get(outcome.outputs["explanations"].uri))
    return found


@pytest.mark.parametrize(
    ("learner", "task"),
    [(None, "binary"), (None, "multiclass"), (None, "regression"), (NETWORK, "binary"), (NETWORK, "multiclass")],
    ids=lambda value: value if isinstance(value, str) else "torch_mlp" if value else "xgboost",
)
def test_contributions_add_up_and_the_strongest_features_are_those_of_the_data(
    tmp_path: Path, learner: dict[str, Any] | None, task: str
) -> None:
    judging = Judging(tmp_path, asked(slices=["carrier"]), task=task, learner=learner, table=rows(task=task))
    result = judging.result()
    outcome = outcome_of(result)
    assert outcome.verdict is not None and outcome.verdict.passed, outcome.verdict
    document = explanation(judging, outcome)
    assert document["method"] == ("permutation_shap" if learner else "tree_shap")
    assert document["features"][-1]["feature"] == "hour", "noise"
    assert sum(f["share"] for f in document["features"]) == pytest.approx(1, abs=1e-4)
    assert [part["group"] for part in document["slices"]["carrier"]] == ["AA", "B6", "UA", "WN"]
    assert judging.document(outcome)["files"] == {"explanations.json": outcome.outputs["explanations"].digest}
    # and the plot is for people: it lies in the store and belongs to no outcome
    picture = Path(result.observed.links["explanations"].removeprefix("file://")).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert outcome_of(judging.result()) == outcome


def test_a_slice_has_an_explanation_of_its_own(tmp_path: Path) -> None:
    judging = Judging(tmp_path, asked(slices=["carrier"]), table=rows(3000))
    outcome, _ = passing(judging, "explanations")
    means = {
        part["group"]: {one["feature"]: one["mean"] for one in part["features"]}
        for part in explanation(judging, outcome)["slices"]["carrier"]
    }
    assert means["UA"]["carrier"] > 0.3 > 0 > means["AA"]["carrier"]


def test_slices_are_numbered_where_the_column_is_not_public(tmp_path: Path) -> None:
    judging = Judging(tmp_path, asked(slices=["carrier"], minimum_rows=10_000), columns={"carrier": "personal"})
    outcome, _ = passing(judging, "explanations")
    parts = explanation(judging, outcome)["slices"]["carrier"]
    assert [part["group"] for part in parts] == ["group 1", "group 2", "group 3", "group 4"]
    assert all(part["features"] is None for part in parts), "too few rows to explain"


def champion(judging: Judging, table: pa.Table, learner: dict[str, Any] | None = None) -> dict[str, Artifact]:
    """Inputs of an evaluation: the model that was champion before, and what it was trained on."""
    data = judging.world.snapshot(table)
    trained = judging.world.run("train", {"training_set": data}, {"learner": learner})
    return {"champion": outcome_of(trained).outputs["model"], "champion_training_set": data}


def other_eyes(judging: Judging) -> dict[str, Artifact]:
    """A champion that was trained on labels that follow the hour and nothing else."""
    hour = judging.table["hour"].to_numpy()
    return champion(
        judging, judging.table.set_column(judging.table.column_names.index("late"), "late", pa.array(hour > 11))
    )


def test_a_challenger_that_looks_elsewhere_is_blocked(tmp_path: Path) -> None:
    judging = Judging(tmp_path, asked(min_correlation=0.5, min_overlap=0.9, top=1))
    before = other_eyes(judging)
    outcome = blocked(judging, "explanations", "rank correlation of features with the champion's is",
                      "it must be at least 0.5", "overlap of the 1 strongest features", **before)  # fmt: skip
    correlation, overlap = outcome.facts["explanations"][0]["figures"]
    assert correlation["low"] <= correlation["value"] <= correlation["high"] < 0.5
    assert (overlap["value"], overlap["min"]) == (0.0, 0.9)
    document = explanation(judging, outcome)
    assert document["champion_features"][0]["feature"] == "hour" and document["champion"] == before["champion"].digest


@pytest.mark.parametrize("learner", [None, NETWORK], ids=["xgboost", "torch_mlp"])
def test_a_challenger_that_looks_where_the_champion_looks_passes(tmp_path: Path, learner: Any) -> None:
    judging = Judging(tmp_path, asked(min_correlation=0.5, min_overlap=0.6, top=3))
    before = champion(judging, rows(seed=5), learner or {**FAST, "rounds": 30})
    _, said = passing(judging, "explanations", **before)
    assert len(said) == 3


def test_without_a_champion_nothing_is_compared(tmp_path: Path) -> None:
    _, said = passing(Judging(tmp_path, asked(min_correlation=1, min_overlap=1)), "explanations")
    assert [check.message.endswith("add up to them") for check in said] == [True]


def test_contributions_that_do_not_add_up_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = made._of_trees

    def wrong(model: Any, encoded: Any) -> Any:
        found, base, raw, method = real(model, encoded)
        return found * 1.2, base, raw, method

    monkeypatch.setattr(made, "_of_trees", wrong)
    blocked(Judging(tmp_path, asked()), "explanations", "do not add up to them")


def test_a_champion_of_another_label_cannot_be_compared(tmp_path: Path) -> None:
    judging = Judging(tmp_path, asked(min_correlation=0))
    other = Judging(tmp_path, task="regression")
    outcome = judging.outcome(champion=other.model, champion_training_set=other.data)
    assert outcome.verdict is not None
    assert any(
        "explanations could not be computed: the champion predicts" in c.message for c in outcome.verdict.failures
    )


def test_sampled_values_are_near_the_exact_ones_of_trees(tmp_path: Path) -> None:
    judging = Judging(tmp_path, table=rows(3000))
    model = load(judging.world.objects, judging.model.uri, judging.model.digest)
    table = judging.table.slice(0, 150)
    exact = made.attributions(model, table, judging.table, seed=1)
    sampled, base, raw, _ = made._of_any(
        model, model.card.encoder.encode(table), model.card.encoder.encode(judging.table), 1
    )
    assert np.allclose(sampled.sum(axis=2) + base, raw, atol=1e-6)
    assert np.allclose(raw[:, 0], log_odds(model.predict(table)))
    strengths = np.abs(sampled[:, 0, :]).mean(axis=0)
    assert np.corrcoef(strengths, exact.strengths.mean(axis=0))[0, 1] > 0.97
