"""What a GPU does otherwise (bfloat16, the compiler, one kernel for AdamW), tried on the CPU."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.learners.torch import compiled
from millrace.learners.torch.adamw import AdamW
from millrace.learners.torch.compiled import Forward, has_compiler
from millrace.learners.torch.loss import learn_scales, target_of
from millrace.models.metrics import metrics
from millrace.models.protocol import Column, Matrix, Settings, engine_of
from millrace.models.torch.net import Net
from millrace.spec.learner import TorchMLPLearner
from millrace.store import open_store

SETTINGS = Settings("binary", 7, 1)
PARAMS = TorchMLPLearner(hidden=(16,), epochs=6, batch_size=100, learning_rate=0.01, segments=2)
TOLERANCE = 0.01
"""Largest difference in held out log loss, relative, as docs/gpu.md states it."""


def data(count: int = 3000) -> tuple[Matrix, Matrix]:
    random = np.random.default_rng(0)
    x, city = random.normal(1e6, 1000, count), random.integers(1, 4, count)
    label = ((x - 1e6) / 1000 + (city == 2) + random.normal(0, 0.5, count) > 0.5).astype(np.float64)
    rows = Matrix((Column("x", "number"), Column("city", "category", 3)), np.column_stack([x, city]), label)
    return rows.take(np.arange(count) < 2050), rows.take(np.arange(count) >= 2050)


def fit(checkpoints: Checkpoints | None = None) -> Any:
    return learner_of(PARAMS).fit(*data(), PARAMS, SETTINGS, checkpoints or Checkpoints(), lambda points: None)


def loss(weights: bytes) -> float:
    holdout = data()[1]
    predict = engine_of(PARAMS).predictor(weights, holdout.columns, PARAMS, SETTINGS)
    return metrics("binary", holdout.label, predict(holdout))["log_loss"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The CPU counts as a device to be quick on."""
    monkeypatch.setattr(compiled, "QUICK_ON", ("cpu",))
    return monkeypatch


def test_bfloat16_learns_as_well(quick: pytest.MonkeyPatch) -> None:
    mixed = fit()
    quick.undo()
    exact = fit()
    assert mixed.data != exact.data, "was it computed in bfloat16 at all?"
    assert loss(mixed.data) == pytest.approx(loss(exact.data), rel=TOLERANCE)


def test_weights_and_moments_stay_float32(quick: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from safetensors.torch import load

    class Kept(Checkpoints):
        states: list[bytes] = []

        def save(self, segment: int, data: bytes, curve: Any, part: int = 0) -> None:
            self.states.append(data)

    fit(Kept(open_store(tmp_path), "c", "r"))
    kinds = {str(t.dtype) for state in Kept.states for name, t in load(state).items() if "place" not in name}
    assert kinds == {"torch.float32", "torch.float64", "torch.int64"}


def forward() -> tuple[Forward, Net]:
    train, _ = data()
    net = Net(train.columns, PARAMS, SETTINGS)
    learn_scales(net, train, "binary")
    return Forward(net, (*net.inputs(train), target_of(net, train, "binary")), PARAMS, SETTINGS), net


def test_a_short_training_is_not_worth_the_compiler(quick: pytest.MonkeyPatch) -> None:
    quick.setattr(torch, "compile", lambda *args, **more: pytest.fail("it was tried"))
    made, _ = forward()
    made.choose(21)
    assert made.compiled is False


def test_the_cpu_and_a_place_without_a_compiler_never_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "WORTH", 0.0)
    monkeypatch.setattr(torch, "compile", lambda *args, **more: pytest.fail("it was tried"))
    made, _ = forward()
    made.choose(10**9)
    assert made.compiled is False
    monkeypatch.setattr(compiled, "QUICK_ON", ("cpu",))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    made.choose(10**9)
    assert made.compiled is False


def test_a_compiler_that_fails_leaves_the_network_as_it_was(
    quick: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any, **more: Any) -> Any:
        raise RuntimeError("no ptxas here\nand much more")

    quick.setattr(compiled, "WORTH", 0.0)
    quick.setattr(compiled, "has_compiler", lambda: True)
    quick.setattr(torch, "compile", broken)
    made, net = forward()
    chance, weights = torch.get_rng_state(), [p.clone() for p in net.parameters()]
    with caplog.at_level(logging.WARNING):
        made.choose(21)
    assert made.compiled is False and "no ptxas here" in caplog.text and "much more" not in caplog.text
    # nor did trying change chance, weights or gradients
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(weights, net.parameters(), strict=True))


@pytest.mark.skipif(not os.environ.get("MILLRACE_TEST_GPU"), reason="half a minute of compiling: make bench-gpu")
@pytest.mark.skipif(not has_compiler(), reason="no C compiler")
def test_the_compiled_network_is_taken_where_it_is_faster_and_again_when_resumed(
    quick: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quick.setattr(compiled, "WORTH", 0.0)
    quick.setattr(compiled, "GAIN", 1e9)  # whatever it measures
    made, _ = forward()
    made.choose(21)
    assert made.compiled is True
    dense, codes, _ = made.data
    for rows in (100, 50):  # the size it was compiled for, and the last batch of an epoch
        assert made(dense[:rows], codes[:rows]).shape == (rows,)

    quick.setattr(compiled, "GAIN", 0.0)
    again, _ = forward()
    again.choose(21)
    assert again.compiled is False  # measured, and not faster
    again.compiled = True  # as a checkpoint says
    again.choose(21)
    assert again.compiled is True


def test_one_kernel_takes_the_steps_of_many() -> None:
    torch.manual_seed(0)
    start, unused = torch.randn(5, 3), torch.randn(2)
    one, many = ([start.clone().requires_grad_(), unused.clone().requires_grad_()] for _ in range(2))
    first, second = AdamW(one, 0.1), AdamW(many, 0.1)
    for step in range(20):
        for parameters, optimizer in ((one, first), (many, second)):
            optimizer.clear()
            (parameters[0].sin() * (step + 1)).sum().backward()
        first.steps += 1
        first.step_at_once(0.05 / (step + 1))
        second.step(0.05 / (step + 1))
    assert torch.allclose(one[0], many[0], rtol=1e-5, atol=1e-6)
    assert torch.equal(one[1], unused)
    for kind in ("mean.0", "square.0"):
        assert torch.allclose(first.state()[kind], second.state()[kind], rtol=1e-4, atol=1e-7)
    assert first.state()["steps"] == second.state()["steps"] == 20
