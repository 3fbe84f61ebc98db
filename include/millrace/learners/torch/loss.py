"""What a training of the network needs beside it: the scales of its columns, its targets, and its loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from millrace.models.protocol import Matrix
from millrace.models.torch.net import Net
from millrace.rules.labels import Task


def learn_scales(net: Net, train: Matrix, task: Task) -> None:
    """Take means and deviations from the training rows, and which numbers are ever missing there."""
    if net.numbers:
        numbers = train.values[:, net.numbers]
        there = np.isfinite(numbers)
        count = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, numbers, 0).sum(axis=0) / count
        scale = np.sqrt((np.where(there, numbers - mean, 0) ** 2).sum(axis=0) / count)
        net.mean.copy_(torch.from_numpy(mean))
        net.scale.copy_(torch.from_numpy(np.where(scale > 0, scale, 1.0)))
        # An indicator that never fired was not learned; the factor 0 keeps it silent later too.
        net.gaps.copy_(torch.from_numpy((~there).any(axis=0).astype(np.float64)))
    if task == "regression":
        scale = float(train.label.std())
        net.label.copy_(torch.tensor([float(train.label.mean()), scale if scale > 0 else 1.0]))


def target_of(net: Net, rows: Matrix, task: Task) -> Tensor:
    """The label as the loss wants it: the class's place int64, or float32, in standard deviations."""
    label = torch.from_numpy(rows.label).to(net.label.device)
    return label.long() if task == "multiclass" else ((label - net.label[0]) / net.label[1]).float()


def loss_of(output: Tensor, target: Tensor, task: Task, weight: Tensor | None = None) -> Tensor:
    """Mean loss in the network's own units; with weights of mean 1 the mean of weighted losses."""
    losses = {
        "binary": nn.functional.binary_cross_entropy_with_logits,
        "multiclass": nn.functional.cross_entropy,
        "regression": nn.functional.mse_loss,
    }
    if weight is None:
        return losses[task](output, target)
    return (losses[task](output, target, reduction="none") * weight).mean()
