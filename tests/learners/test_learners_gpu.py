"""On a real GPU, where there is one; and the bench that compares, everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.core import interruption
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.device import NoGPU, gpus
from millrace.models.metrics import metrics
from millrace.models.protocol import Column, Matrix, Settings
from millrace.spec.learner import LEARNERS
from millrace.store import open_store

ROOT = Path(__file__).resolve().parents[2]
ON_GPU = pytest.mark.skipif(not gpus(), reason="no GPU here; `make bench-gpu` on a machine that has one runs these")
TOLERANCE = 0.01
"""Largest relative difference of the held out log loss from the CPU's, as docs/gpu.md states it."""
LEARNER: dict[str, dict[str, Any]] = {
    "xgboost": {"kind": "xgboost", "rounds": 40, "max_depth": 4, "segments": 4},
    "torch_mlp": {
        "kind": "torch_mlp",
        "hidden": [32],
        "epochs": 8,
        "batch_size": 256,
        "dropout": 0.1,
        "learning_rate": 0.01,
        "segments": 4,
    },
}
BOTH = pytest.mark.parametrize("kind", sorted(LEARNER))


def data(count: int = 20_000) -> tuple[Matrix, Matrix]:
    random = np.random.default_rng(0)
    x, city = random.normal(1e6, 1000, count), random.integers(1, 4, count)
    label = ((x - 1e6) / 1000 + (city == 2) + random.normal(0, 0.5, count) > 0.5).astype(np.float64)
    rows = Matrix((Column("x", "number"), Column("city", "category", 3)), np.column_stack([x, city]), label)
    return rows.take(np.arange(count) < 15_000), rows.take(np.arange(count) >= 15_000)


def fit(kind: str, where: str, checkpoints: Checkpoints | None = None, gpus: int = 1) -> tuple[bytes, float]:
    params = LEARNERS.resolve(kind).model_validate(LEARNER[kind])
    train, holdout = data()
    settings = Settings("binary", 7, 2, device=where, gpus=gpus if where == "cuda" else 0)  # type: ignore[arg-type]
    engine = learner_of(params)
    weights = engine.fit(train, holdout, params, settings, checkpoints or Checkpoints(), lambda points: None)
    predicted = engine.predictor(weights.data, holdout.columns, params, settings)(holdout)
    return weights.data, metrics("binary", holdout.label, predicted)["log_loss"]


@ON_GPU
@BOTH
def test_a_gpu_learns_as_well_as_the_cpu(kind: str) -> None:
    on_gpu, loss = fit(kind, "cuda")
    on_cpu, reference = fit(kind, "cpu")
    assert on_gpu != on_cpu, "was it trained on the GPU at all?"
    assert loss == pytest.approx(reference, rel=TOLERANCE)


@ON_GPU
@BOTH
def test_the_same_gpu_gives_the_same_bytes_also_when_resumed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, _ = fit(kind, "cuda")
    assert fit(kind, "cuda")[0] == undisturbed
    looks = iter([False] * 15 + [True])
    monkeypatch.setattr(interruption, "asked", lambda: next(looks, True))
    checkpoints = Checkpoints(open_store(tmp_path), "c", "r")
    with pytest.raises(interruption.Interrupted):
        fit(kind, "cuda", checkpoints)
    monkeypatch.undo()
    assert fit(kind, "cuda", checkpoints)[0] == undisturbed


@ON_GPU
@BOTH
def test_what_began_on_a_gpu_may_end_on_the_cpu(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([False] * 15 + [True])
    monkeypatch.setattr(interruption, "asked", lambda: next(looks, True))
    checkpoints = Checkpoints(open_store(tmp_path), "c", "r")
    with pytest.raises(interruption.Interrupted):
        fit(kind, "cuda", checkpoints)
    monkeypatch.undo()
    assert fit(kind, "cpu", checkpoints)[1] == pytest.approx(fit(kind, "cpu")[1], rel=TOLERANCE)


@pytest.mark.skipif(len(gpus()) < 2, reason="fewer than two GPUs here")
def test_two_gpus_are_one_within_tolerance() -> None:
    assert fit("torch_mlp", "cuda", gpus=2)[1] == pytest.approx(fit("torch_mlp", "cuda")[1], rel=TOLERANCE)


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU here")
@BOTH
def test_without_a_gpu_no_engine_pretends(kind: str) -> None:
    # XGBoost by itself would warn and train on the CPU
    with pytest.raises(NoGPU, match="finds no GPU that it can use"):
        fit(kind, "cuda")


# What the bench says it needs, with what these bring.
NEEDS = {"torch", "xgboost", "numpy", "pyarrow", "safetensors", "pydantic", "yaml", "dateutil"}
BROUGHT = {
    *("scipy", "torchgen", "mpmath", "sympy", "jinja2", "markupsafe", "networkx", "filelock", "fsspec", "setuptools"),
    *("pydantic_core", "annotated_types", "typing_extensions", "typing_inspection", "six", "nvidia", "cuda", "triton"),
}
ALONE = """
import importlib.machinery, json, sys
allowed, bench = set(json.loads(sys.argv[1])), sys.argv[2]
class Only(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = super().find_spec(name, path, target)
        if found and "site-packages" in str(found.origin) and name.partition(".")[0] not in allowed:
            return None
        return found
sys.meta_path[:] = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder] + [Only]
sys.path.insert(0, bench)
import gpu
sys.exit(gpu.main(sys.argv[3:]))
"""


def bench(tmp_path: Path, *words: str) -> tuple[str, Any]:
    kept = tmp_path / "kept.json"
    given = [json.dumps(sorted(NEEDS | BROUGHT | {"millrace"})), str(ROOT / "bench"), *words, "--out", str(kept)]
    done = subprocess.run([sys.executable, "-c", ALONE, *given], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, json.loads(kept.read_text()) if kept.exists() else None


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU here")
def test_the_bench_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    said, kept = bench(tmp_path)
    assert said.startswith("No GPU here: nothing was measured.") and kept is None


def test_the_bench_runs_with_nothing_but_what_it_names(tmp_path: Path) -> None:
    small = ("--rows", "3000", "--rounds", "2", "--epochs", "1", "--threads", "1")
    said, kept = bench(tmp_path, "--device", "cpu", *small)
    assert "3,000 training rows, 65,077 held out, 14 features" in said
    figures = [found for found in kept if isinstance(found, dict)]
    assert [f["learner"].split(",")[0] for f in figures] == ["xgboost", "torch_mlp", "torch_mlp"]
    for figure in figures:
        assert figure["rows_per_second"] > 1000 and 0 < figure["share"] < 1 and 0.3 < figure["log_loss"] < 0.8
