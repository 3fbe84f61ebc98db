"""AdamW, as `torch.optim.AdamW` computes it: on the CPU tensor by tensor, on a GPU all tensors in one kernel.

Making an optimizer of torch 2.13 imports `torch._dynamo` and sympy: 4.7 s in every process that trains, more than a
small training takes. This one has state that goes straight into safetensors, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2)."""

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.steps = torch.zeros((), dtype=torch.int64)
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every parameter that has a gradient, at this learning rate."""
        self.steps += 1
        if self.parameters[0].is_cuda:
            self.step_at_once(rate)
            return
        done = int(self.steps)
        first, second = 1 - _BETA1**done, math.sqrt(1 - _BETA2**done)
        for parameter, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            parameter.mul_(1 - rate * self.weight_decay)
            mean.lerp_(gradient, 1 - _BETA1)
            square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
            parameter.addcdiv_(mean, square.sqrt().div_(second).add_(_EPSILON), value=-rate / first)

    @torch.no_grad()
    def step_at_once(self, rate: float) -> None:
        """One step by torch's fused kernel, which rounds a little differently."""
        at = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        parameters, means, squares = ([of[i] for i in at] for of in (self.parameters, self.means, self.squares))
        steps = self.steps.float().to(parameters[0].device)
        torch._fused_adamw_(
            parameters,
            [parameter.grad for parameter in parameters],
            means,
            squares,
            [],
            [steps] * len(parameters),
            lr=rate,
            beta1=_BETA1,
            beta2=_BETA2,
            weight_decay=self.weight_decay,
            eps=_EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on, beside the parameters, on the CPU."""
        moments = {f"{kind}.{i}": value.cpu() for kind, values in self._moments() for i, value in enumerate(values)}
        return {"steps": self.steps, **moments}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state`."""
        self.steps = state["steps"].clone()
        for kind, values in self._moments():
            for i, value in enumerate(values):
                value.copy_(state[f"{kind}.{i}"])

    def _moments(self) -> list[tuple[str, list[Tensor]]]:
        return [("mean", self.means), ("square", self.squares)]
