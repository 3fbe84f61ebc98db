"""A graph that was trained elsewhere is judged by the same checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import graphs
from support.judged import Judging, blocked

from millrace.contract import Artifact
from millrace.core.canonical import digest
from millrace.models.files import WeightsFile, load, load_reference, save

CHECKS = (
    {"type": "artifact"},
    {"type": "size", "max_bytes": 1_000_000},
    {"type": "latency", "rows": 10, "max_median_ms": 1000},
    {"type": "explanations"},
)


def as_graph(judging: Judging) -> Artifact:
    """The model, with a graph in place of its trees."""
    objects, model = judging.world.objects, judging.model
    card = load(objects, model.uri, model.digest).card
    data = graphs.data(graphs.logistic([0.003, 0.1, 0.5, 0.0], -3.5))
    weights = WeightsFile(file="weights.onnx", digest=digest(data), media_type="application/onnx")
    card = card.model_copy(update={"learner": {"kind": "onnx"}, "weights": weights})
    return save(objects, card, data, reference=load_reference(objects, model.uri, model.digest))


def test_a_graph_passes_checks_of_files_time_and_what_it_looks_at(tmp_path: Path) -> None:
    judging = Judging(tmp_path, *CHECKS)
    judging.model = as_graph(judging)
    outcome = judging.outcome()
    assert outcome.verdict is not None and outcome.verdict.passed, outcome.verdict
    assert outcome.facts["artifact"][0]["format"] == "onnx"
    (explained,) = outcome.facts["explanations"]
    assert explained["method"] == "permutation_shap" and explained["top"][0]["feature"] == "distance"


@pytest.mark.parametrize("formats", [["ubj"], ["ubj", "safetensors"]])
def test_a_pipeline_may_leave_graphs_out(tmp_path: Path, formats: list[str]) -> None:
    judging = Judging(tmp_path, {"type": "artifact", "formats": formats})
    judging.model = as_graph(judging)
    blocked(judging, "artifact", "weights are onnx, and allowed are ubj")
