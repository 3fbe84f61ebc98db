"""Torch MLP: embeddings, standardised numbers with missing indicators, dense layers; kept as safetensors."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

# As in learners/xgboost.py; torch brings its own libgomp.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from millrace.learners.adamw import AdamW
from millrace.learners.checkpoints import Checkpoints, Point
from millrace.learners.losses import Floats, Task
from millrace.learners.protocol import Column, Matrix, Report, Settings, Weights, check_finite, segment_bounds
from millrace.spec.learner import TorchMLPLearner

_FAR = 8.0  # standard deviations beyond which a number counts as this far: a network cannot extrapolate
_ROWS_AT_ONCE = 65_536


class Net(nn.Module):
    """From encoded rows to one output: the logit (binary) or the value in standard deviations of the label; or to a
    logit for each class (multiclass)."""

    def __init__(self, columns: tuple[Column, ...], params: TorchMLPLearner, settings: Settings) -> None:
        super().__init__()
        self.numbers = [i for i, c in enumerate(columns) if c.kind == "number"]
        self.categories = [i for i, c in enumerate(columns) if c.kind == "category"]
        widths = [min(16, math.ceil(1.6 * max(columns[i].levels, 1) ** 0.56)) for i in self.categories]
        # Row 0 (null or never seen) stays zero: it was not learned, so it says nothing.
        self.embeddings = nn.ModuleList(
            nn.Embedding(columns[i].levels + 1, width, padding_idx=0)
            for i, width in zip(self.categories, widths, strict=True)
        )
        layers: list[nn.Module] = []
        width = 2 * len(self.numbers) + sum(widths)
        for size in params.hidden:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(params.dropout)]
            width = size
        self.dense = nn.Sequential(*layers, nn.Linear(width, settings.classes or 1))
        for name, start in (("mean", 0.0), ("scale", 1.0), ("gaps", 0.0)):
            self.register_buffer(name, torch.full((len(self.numbers),), start, dtype=torch.float64))
        self.register_buffer("label", torch.tensor([0.0, 1.0], dtype=torch.float64))  # mean and scale

    def learn_scales(self, train: Matrix, task: Task) -> None:
        """Take means and deviations from the training rows, and which numbers are ever missing there."""
        if self.numbers:
            numbers = train.values[:, self.numbers]
            there = np.isfinite(numbers)
            count = np.maximum(there.sum(axis=0), 1)
            mean = np.where(there, numbers, 0).sum(axis=0) / count
            scale = np.sqrt((np.where(there, numbers - mean, 0) ** 2).sum(axis=0) / count)
            self.mean.copy_(torch.from_numpy(mean))
            self.scale.copy_(torch.from_numpy(np.where(scale > 0, scale, 1.0)))
            # An indicator that never fired was not learned; the factor 0 keeps it silent later too.
            self.gaps.copy_(torch.from_numpy((~there).any(axis=0).astype(np.float64)))
        if task == "regression":
            scale = float(train.label.std())
            self.label.copy_(torch.tensor([float(train.label.mean()), scale if scale > 0 else 1.0]))

    def inputs(self, rows: Matrix) -> tuple[Tensor, Tensor]:
        """Numbers with their indicators (rows, 2 x numbers) float32, and codes (rows, categories) int64."""
        numbers = torch.from_numpy(rows.values[:, self.numbers])
        missing = torch.isnan(numbers)
        scaled = ((numbers - self.mean) / self.scale).clamp(-_FAR, _FAR).masked_fill(missing, 0.0)
        dense = torch.cat([scaled, missing * self.gaps], dim=1).float()
        return dense, torch.from_numpy(rows.values[:, self.categories]).long()

    def forward(self, dense: Tensor, codes: Tensor) -> Tensor:
        """Output of each row, shape (rows,) or (rows, classes)."""
        parts = [dense, *(embed(codes[:, i]) for i, embed in enumerate(self.embeddings))]
        return self.dense(torch.cat(parts, dim=1)).squeeze(1)  # which leaves several classes as they are


class TorchMLP:
    """Trained by AdamW with a cosine schedule on the CPU. A segment draws all its chance from `seed + segment`."""

    file: ClassVar[str] = "weights.safetensors"
    media_type: ClassVar[str] = "application/vnd.safetensors"

    def fit(
        self,
        train: Matrix,
        holdout: Matrix,
        params: TorchMLPLearner,
        settings: Settings,
        checkpoints: Checkpoints,
        report: Report,
    ) -> Weights:
        """Train; see `Learner.fit`. The bytes depend on the number of threads, which belongs to the request."""
        with _deterministic(settings.threads, settings.seed):
            if settings.task == "multiclass":
                holdout = holdout.of_known_class()
            net = Net(train.columns, params, settings)
            net.learn_scales(train, settings.task)
            optimizer = AdamW(net.parameters(), params.weight_decay)
            last = checkpoints.last()
            curve: list[Point] = last.curve if last else []
            if last:
                _restore(net, optimizer, last.data)
            report(curve)
            sides = {"train": train, "holdout": holdout}
            tensors = {side: (*net.inputs(rows), _target(net, rows, settings.task)) for side, rows in sides.items()}
            for segment, (first, stop) in enumerate(segment_bounds(params.epochs, params.segments), start=1):
                if last and segment <= last.segment:
                    continue
                torch.manual_seed(settings.seed + segment)
                points: list[Point] = []
                for epoch in range(first, stop):
                    _epoch(net, optimizer, tensors["train"], params, settings.task, epoch)
                    losses = {side: _measure(net, data, settings.task) for side, data in tensors.items()}
                    points.append((epoch + 1, losses))
                check_finite(points)
                curve = [*curve, *points]
                checkpoints.save(segment, _state(net, optimizer), curve)
                report(points)
            return Weights(save(_tensors(net)), curve)

    def predict(self, weights: bytes, rows: Matrix, params: TorchMLPLearner, settings: Settings) -> Floats:
        """Predict; see `Learner.predict`."""
        with _deterministic(settings.threads, settings.seed), torch.no_grad():
            net = Net(rows.columns, params, settings)
            net.load_state_dict(load(weights))
            output = _outputs(net, *net.inputs(rows)).double()
            if settings.task == "binary":
                return np.asarray(torch.sigmoid(output).numpy(), dtype=np.float64)
            if settings.task == "multiclass":
                return np.asarray(torch.softmax(output, dim=1).numpy(), dtype=np.float64)
            return np.asarray((output * net.label[1] + net.label[0]).numpy(), dtype=np.float64)


def _epoch(net: Net, optimizer: AdamW, data: Any, params: TorchMLPLearner, task: Task, epoch: int) -> None:
    dense, codes, target = data
    net.train()
    order = torch.randperm(len(target))
    batches = torch.split(order, params.batch_size)
    for number, batch in enumerate(batches):
        done = (epoch + number / len(batches)) / params.epochs
        optimizer.clear()
        _loss(net(dense[batch], codes[batch]), target[batch], task).backward()
        optimizer.step(params.learning_rate * 0.5 * (1 + math.cos(math.pi * done)))


def _loss(output: Tensor, target: Tensor, task: Task) -> Tensor:
    if task == "binary":
        return nn.functional.binary_cross_entropy_with_logits(output, target)
    if task == "multiclass":
        return nn.functional.cross_entropy(output, target)
    return nn.functional.mse_loss(output, target)


def _measure(net: Net, data: Any, task: Task) -> float:
    """Mean loss in units of the label."""
    dense, codes, target = data
    wide = target if task == "multiclass" else target.double()
    with torch.no_grad():
        loss = float(_loss(_outputs(net, dense, codes).double(), wide, task))
    return loss * float(net.label[1]) ** 2 if task == "regression" else loss


def _outputs(net: Net, dense: Tensor, codes: Tensor) -> Tensor:
    net.eval()
    parts = zip(torch.split(dense, _ROWS_AT_ONCE), torch.split(codes, _ROWS_AT_ONCE), strict=True)
    return torch.cat([net(d, c) for d, c in parts])


def _target(net: Net, rows: Matrix, task: Task) -> Tensor:
    if task == "multiclass":
        return torch.from_numpy(rows.label).long()
    return ((torch.from_numpy(rows.label) - net.label[0]) / net.label[1]).float()


def _tensors(net: Net) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in net.state_dict().items()}


def _state(net: Net, optimizer: AdamW) -> bytes:
    """The network and the optimizer. Chance needs no state: each segment seeds it anew."""
    parts = {"net": _tensors(net), "optimizer": optimizer.state()}
    return bytes(save({f"{part}/{name}": value for part, tensors in parts.items() for name, value in tensors.items()}))


def _restore(net: Net, optimizer: AdamW, data: bytes) -> None:
    stored = load(data)

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}/"): value for key, value in stored.items() if key.startswith(f"{name}/")}

    net.load_state_dict(part("net"))
    optimizer.restore(part("optimizer"))


@contextmanager
def _deterministic(threads: int, seed: int) -> Iterator[None]:
    """Fixed threads, deterministic operations and own chance inside; everything as it was outside."""
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(threads)
            # Not use_deterministic_algorithms: it imports the compiler, which takes longer than a small training.
            torch.set_deterministic_debug_mode("error")
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.set_deterministic_debug_mode(before[1])
