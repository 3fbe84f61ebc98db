"""Group: the processes that train one network together; each has all rows and computes its share of every batch.

Raises ConnectionError where one of them is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from millrace.core import interruption

_LOOK = 16
"""Batches between two looks at whether somebody was asked to leave: each look waits for the device."""


@dataclass
class Group:
    """One process among `size`. Sums run over all of them, so that they stay alike; alone nothing is exchanged."""

    rank: int = 0
    size: int = 1
    asked: Tensor | None = field(default=None, repr=False)

    def share(self, batch: Tensor) -> Tensor:
        """This process's rows of a batch."""
        return batch if self.size == 1 else batch[self.rank :: self.size]

    def part(self, rows: int) -> slice:
        """This process's rows of all."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def add_gradients(self, parameters: list[Tensor]) -> None:
        """Sum the gradients of all processes, in one exchange, which also tells who was asked to leave."""
        if self.size == 1:
            return
        flat = [(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in parameters]
        total = torch.cat([*flat, flat[0].new_full((1,), float(interruption.asked()))])
        _exchange(torch.distributed.all_reduce, total)
        *parts, self.asked = total.split([*(len(f) for f in flat), 1])
        for parameter, summed in zip(parameters, parts, strict=True):
            parameter.grad = summed.view_as(parameter)

    def leaves(self, number: int) -> bool:
        """Whether all leave before batch `number`: the same answer in every process."""
        if self.size == 1:
            return interruption.asked()
        return number % _LOOK == 0 and self.asked is not None and bool(self.asked.item())

    def mean(self, value: float, rows: int, where: torch.device) -> float:
        """Mean over all rows of what each process has the mean of its own of."""
        if self.size == 1:
            return value
        total = torch.tensor([value * rows if rows else 0.0, float(rows)], dtype=torch.float64, device=where)
        _exchange(torch.distributed.all_reduce, total)
        return float(total[0] / total[1])

    def gather(self, state: Tensor, where: torch.device) -> Tensor:
        """The bytes of all processes, shape (size, bytes), on the CPU."""
        if self.size == 1:
            return state[None]
        mine = state.to(where)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        _exchange(torch.distributed.all_gather, found, mine)
        return torch.stack(found).cpu()

    def wait(self) -> None:
        """Wait until all are here."""
        if self.size > 1:
            _exchange(torch.distributed.barrier)


def _exchange(what: Callable[..., Any], *tensors: Any) -> None:
    """Exchange with the others. Raises ConnectionError where one of them is gone: each backend has its own error."""
    try:
        what(*tensors)
    except RuntimeError as err:
        raise ConnectionError(f"another rank does not answer: {str(err).splitlines()[0][:200]}") from err


ALONE = Group()
