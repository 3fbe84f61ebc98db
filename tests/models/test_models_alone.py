"""A row's prediction has the same IEEE value alone, in any batch and at any place in it, by any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import graphs

from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.onnx import Onnx
from millrace.models.protocol import Column, Matrix, Predictor, Settings, engine_of
from millrace.spec.learner import OnnxModel, TorchMLPLearner, XGBoostLearner

COLUMNS = (*(Column(f"n{i}", "number") for i in range(5)), Column("c", "category", 3))
SIZES = (1, 2, 3, 7, 15, 16, 17, 31, 64, 127, 128, 129, 200, 257, 500, 1000)
Made = Callable[[int], Predictor]
TASKS = ("binary", "multiclass", "regression")


def rows(count: int, seed: int = 0) -> Matrix:
    chance = np.random.default_rng(seed)
    values = chance.normal(0, 2, (count, 6)).astype(np.float32).astype(np.float64)
    values[chance.random((count, 6)) < 0.05] = np.nan
    values[:, 5] = chance.integers(0, 4, count)
    return Matrix(COLUMNS, values)


def trained(params: Any, task: Any) -> Made:
    given = rows(600, 1)
    signal = np.nan_to_num(given.values[:, 0]) + given.values[:, 5]
    label = {"binary": (signal > 1) * 1.0, "multiclass": np.digitize(signal, [0, 1, 2, 3]) * 1.0, "regression": signal}
    classes = 5 if task == "multiclass" else 0
    labelled = Matrix(COLUMNS, given.values, label[task])
    settings = Settings(task, 3, 1, classes)
    weights = learner_of(params).fit(labelled, labelled, params, settings, Checkpoints(), lambda points: None).data
    engine = engine_of(params)
    return lambda threads: engine.predictor(weights, COLUMNS, params, Settings(task, 3, threads, classes))


def graph(made: Any, task: Any, columns: int, classes: int = 0) -> Made:
    def of(threads: int) -> Predictor:
        inner = Onnx().predictor(graphs.data(made), COLUMNS[:columns], OnnxModel(), Settings(task, 3, threads, classes))
        return lambda given: inner(Matrix(COLUMNS[:columns], np.nan_to_num(given.values[:, :columns])))

    return of


def same_everywhere(made: Made) -> None:
    given = rows(1000)
    by_threads = [made(threads) for threads in (1, 2, 3)]
    whole = by_threads[0](given)
    assert len(np.unique(whole, axis=0)) > 3
    bits = whole.view(np.int64)
    for number, predict in enumerate(by_threads):
        assert (predict(given).view(np.int64) == bits).all(), f"{number + 1} threads"
        for size in SIZES:
            for first in {0, 1, 13, 1000 - size}:
                part = slice(first, min(first + size, 1000))
                found = predict(Matrix(COLUMNS, given.values[part]))
                assert (found.view(np.int64) == bits[part]).all(), f"{size} rows from {first}, {number + 1} threads"
        order = np.random.default_rng(number).permutation(1000)
        assert (predict(given.take(order)).view(np.int64) == bits[order]).all()
    for place in range(0, 1000, 9):
        assert (by_threads[0](given.take(np.array([place]))).view(np.int64) == bits[place : place + 1]).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("hidden", [(64, 32), (7, 3), (200,)], ids=str)
def test_torch(task: str, hidden: tuple[int, ...]) -> None:
    same_everywhere(trained(TorchMLPLearner(hidden=hidden, epochs=1), task))


@pytest.mark.parametrize("task", TASKS)
def test_xgboost(task: str) -> None:
    same_everywhere(trained(XGBoostLearner(rounds=20, max_depth=4), task))


def boosted() -> Any:
    """60 trees of an XGBoost model as a converter writes them."""
    import xgboost

    given = rows(600, 1).values[:, :5]
    label = (np.nan_to_num(given[:, 0]) + np.nan_to_num(given[:, 1] * given[:, 2]) > 0) * 1
    booster = xgboost.train({"max_depth": 4, "objective": "binary:logistic", "base_score": 0.5},
                            xgboost.DMatrix(given, label), 60)  # fmt: skip
    return graphs.of_booster(booster, 5)


@pytest.mark.parametrize("name", ["network", "logistic", "trees"])
def test_onnx(name: str) -> None:
    made = {
        "network": lambda: graph(graphs.network(), "multiclass", 2, 3),
        "logistic": lambda: graph(graphs.logistic([0.2, -0.1, 0.7, 0.3, 0.11], 0.5), "binary", 5),
        "trees": lambda: graph(boosted(), "binary", 5),
    }
    same_everywhere(made[name]())


def test_a_network_of_zeros_and_far_numbers_gives_what_it_gave() -> None:
    """The blocks are the network: they differ from it by no more than float32 rounds."""
    import torch

    from millrace.models.torch.blocks import Blocks
    from millrace.models.torch.net import Net, deterministic, outputs

    settings = Settings("multiclass", 3, 1, 5)
    with deterministic(settings, torch.device("cpu")), torch.no_grad():
        net = Net(COLUMNS, TorchMLPLearner(hidden=(33, 9)), settings)
        given = net.inputs(rows(300))
        assert torch.allclose(Blocks(net)(*given)[:300], outputs(net, *given).double(), rtol=1e-5, atol=1e-6)
