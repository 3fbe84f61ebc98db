"""Dense layers computed in blocks of one fixed size, so that a row has the same prediction alone and in any batch.

A matrix product rounds by the kernel that it takes for a size, and at the edges of the matrices by another one. Blocks
have one number of rows, the last one filled with zeros, and widths are filled with zeros to whole kernels: then no row
lies at an edge. Zeros add nothing to a sum, so the values are the network's own. A sigmoid, too, rounds otherwise in
what is left over after whole registers, so that rows are cut off after it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from millrace.models.torch.net import Net

ROWS = 512
"""Rows of a block: a single row costs as much as that many, a partition in smaller ones costs more."""
AT_ONCE = 16_384
"""Most rows in a call: with more, torch would share a sigmoid out to threads, and leave something over in each."""
_WIDTH = 16
"""Widths are multiples of it: 64 bytes of float32, a whole register of every processor."""


class Blocks:
    """The dense layers of a network whose weights do not change any more."""

    def __init__(self, net: Net) -> None:
        self.embeddings = net.embeddings.eval()
        self.layers = [_filled(layer) for layer in net.dense if isinstance(layer, nn.Linear)]
        self.outputs = next(layer.out_features for layer in reversed(net.dense) if isinstance(layer, nn.Linear))

    def __call__(self, dense: Tensor, codes: Tensor) -> Tensor:
        """Output of each row as of the network itself, float64, and of what fills the last block, which is to be cut
        off: shape (blocks * ROWS,) or (blocks * ROWS, classes)."""
        rows = len(dense)
        parts = [dense, *(embed(codes[:, i]) for i, embed in enumerate(self.embeddings))]
        blocks = -(-rows // ROWS)
        values = torch.zeros((blocks * ROWS, self.layers[0][0].shape[1]))
        values[:rows, : sum(part.shape[1] for part in parts)] = torch.cat(parts, dim=1)
        found = torch.empty((blocks * ROWS, self.layers[-1][0].shape[0]))
        for first in range(0, blocks * ROWS, ROWS):
            block = values[first : first + ROWS]
            for weight, bias in self.layers[:-1]:
                block = torch.addmm(bias, block, weight.t()).relu_()
            weight, bias = self.layers[-1]
            torch.addmm(bias, block, weight.t(), out=found[first : first + ROWS])
        return found[:, : self.outputs].squeeze(1).double().contiguous()  # squeeze leaves several classes as they are


def _filled(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer, with zeros up to whole widths."""
    wide, high = (-(-size // _WIDTH) * _WIDTH for size in (layer.in_features, layer.out_features))
    weight, bias = torch.zeros((high, wide)), torch.zeros(high)
    weight[: layer.out_features, : layer.in_features] = layer.weight.detach()
    bias[: layer.out_features] = layer.bias.detach()
    return weight, bias
