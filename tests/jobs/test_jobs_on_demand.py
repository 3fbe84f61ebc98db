"""Jobs of a pipeline with on-demand features: each computes them by the model's functions, or is not let."""

from __future__ import annotations

from pathlib import Path

from support.computing import DAYS, FEATURES, Computed

from millrace.models.files import read_card


def test_evaluation_and_drift_compute_by_the_models_own_functions(tmp_path: Path) -> None:
    it = Computed.make(tmp_path / "p")
    data = it.training_set()
    old = it.model(data)
    # Another function makes other features; the champion is judged and watched by its own.
    it.project.features = FEATURES.replace("(tip or 0.0) / 3", "(tip or 0.0) * 1000")
    new_data = it.training_set()
    new = it.model(new_data, 21)
    cards = [read_card(it.project.objects, model.uri, model.digest) for model in (old, new)]
    assert cards[0].on_demand != cards[1].on_demand
    inputs = [("model", new), ("champion", old), ("training_set", new_data), ("champion_training_set", data)]
    outcome = it.outcome("evaluate", inputs, DAYS)
    alike = it.outcome("evaluate", [("model", old), ("training_set", data)], DAYS)
    assert outcome.facts["duel"] is not None and outcome.facts["duel"]["against"] == "champion", outcome.facts
    assert alike.verdict is not None
    window = [("current", it.features[DAYS[-1]], DAYS[-1]), ("model", old)]
    facts = it.outcome("drift", window, DAYS[-1:], {"as_of": "2024-02-01T00:00:00+00:00"}).facts
    assert {"pace", "named"} <= {*facts["columns"]}, facts
    refused = it.send("drift", window, DAYS[-1:], {"as_of": "2024-02-01T00:00:00+00:00"}, code=False)
    assert "may not be executed" in str(refused.error)
    scored = it.send("score", [("features", it.features[it.today]), ("model", old)], [it.today], {"version": 1}, False)
    assert "may not be executed" in str(scored.error)
