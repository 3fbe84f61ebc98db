"""The network of the torch MLP: embeddings, standardised numbers with missing indicators, dense layers."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from millrace.models.protocol import Column, Matrix, Settings
from millrace.rules.labels import Task
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
        """Numbers with their indicators (rows, 2 x numbers) float32, and codes (rows, categories) int64, on the
        network's device, where they are also computed, piece by piece."""
        where, count = self.mean.device, len(rows)
        dense = torch.empty((count, 2 * len(self.numbers)), dtype=torch.float32, device=where)
        codes = torch.empty((count, len(self.categories)), dtype=torch.int64, device=where)
        for first in range(0, count, _ROWS_AT_ONCE):
            piece = slice(first, first + _ROWS_AT_ONCE)
            numbers = torch.from_numpy(rows.values[piece][:, self.numbers]).to(where)
            missing = torch.isnan(numbers)
            scaled = ((numbers - self.mean) / self.scale).clamp(-_FAR, _FAR).masked_fill(missing, 0.0)
            dense[piece] = torch.cat([scaled, missing * self.gaps], dim=1)
            codes[piece] = torch.from_numpy(rows.values[piece][:, self.categories]).to(where)
        return dense, codes

    def target(self, rows: Matrix, task: Task) -> Tensor:
        """The label as the loss wants it: the class's place int64, or float32, in standard deviations."""
        label = torch.from_numpy(rows.label).to(self.label.device)
        return label.long() if task == "multiclass" else ((label - self.label[0]) / self.label[1]).float()

    def forward(self, dense: Tensor, codes: Tensor) -> Tensor:
        """Output of each row, shape (rows,) or (rows, classes)."""
        parts = [dense, *(embed(codes[:, i]) for i, embed in enumerate(self.embeddings))]
        return self.dense(torch.cat(parts, dim=1)).squeeze(1)  # which leaves several classes as they are

    def tensors(self) -> dict[str, Tensor]:
        """What is stored of it, on the CPU."""
        return {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}


def outputs(net: Net, dense: Tensor, codes: Tensor) -> Tensor:
    """Output of each row in float32, piece by piece, nothing dropped out."""
    net.eval()
    parts = zip(torch.split(dense, _ROWS_AT_ONCE), torch.split(codes, _ROWS_AT_ONCE), strict=True)
    return torch.cat([net(d, c) for d, c in parts])


def loss_of(output: Tensor, target: Tensor, task: Task) -> Tensor:
    """Mean loss in the network's own units."""
    if task == "binary":
        return nn.functional.binary_cross_entropy_with_logits(output, target)
    if task == "multiclass":
        return nn.functional.cross_entropy(output, target)
    return nn.functional.mse_loss(output, target)
