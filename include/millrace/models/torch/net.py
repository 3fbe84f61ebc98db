"""The network of the torch MLP: embeddings, standardised numbers with missing indicators, dense layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from millrace.models.protocol import Column, Matrix, Settings
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


@contextmanager
def deterministic(settings: Settings, where: torch.device) -> Iterator[None]:
    """Fixed threads, deterministic operations and own chance inside; everything as it was outside."""
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    devices: list[Any] = [where] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            torch.set_num_threads(settings.threads)
            # Not use_deterministic_algorithms: it imports the compiler, which takes longer than a small training.
            # On a GPU an operation without a deterministic form is said, and done.
            torch.set_deterministic_debug_mode("warn" if devices else "error")
            torch.manual_seed(settings.seed)
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.set_deterministic_debug_mode(before[1])
