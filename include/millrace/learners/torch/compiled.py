"""Forward: how a batch goes through the network: as written on the CPU; in bfloat16, and compiled where that measures
faster, on a GPU."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from millrace.learners.torch.loss import loss_of
from millrace.models.protocol import Settings
from millrace.models.torch.net import Net
from millrace.spec.learner import TorchMLPLearner

QUICK_ON = ("cuda",)
"""Devices on which batches go through in bfloat16 and the compiler may be tried."""
WORTH = 120.0
"""Seconds of training below which the compiler is not tried: it takes about half a minute itself."""
GAIN = 0.95
"""A compiled step must take at most this share of an eager one."""
_WARM, _TIMED = 10, 30  # steps

log = logging.getLogger(__name__)


class Forward:
    """Takes a batch's numbers and codes, gives outputs in float32. `compiled` says how, once it was chosen."""

    def __init__(self, net: Net, data: tuple[Tensor, Tensor, Tensor], params: TorchMLPLearner, settings: Settings):
        self.net, self.data, self.params, self.settings = net, data, params, settings
        self.where = net.mean.device
        self.mixed = self.where.type in QUICK_ON
        self.compiled: bool | None = None
        self._quick: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, dense: Tensor, codes: Tensor) -> Tensor:
        """Outputs of a batch, shape (rows,) or (rows, classes)."""
        # A compiled network is compiled for one size: the last, smaller batch goes the other way.
        quick = self._quick if self._quick is not None and len(dense) == self.params.batch_size else self.net
        with torch.autocast(self.where.type, torch.bfloat16) if self.mixed else nullcontext():
            output = quick(dense, codes)
        return output.float()

    def choose(self, steps: int) -> None:
        """Decide whether to compile, by time, for a training of `steps` batches an epoch; a resumed one does as before.

        Without a C compiler, or where compiling fails, the network stays as it is.
        """
        if self.where.type not in QUICK_ON or self.compiled is False or not has_compiler():
            self.compiled = False
            return
        decided = self.compiled is not None
        self.compiled = False
        if len(self.data[2]) < self.params.batch_size:
            return
        if not decided:
            eager = self.seconds()
            if eager * steps * self.params.epochs < WORTH:
                return
        try:
            # reduce-overhead: a small network's time goes into starting kernels, which a CUDA graph does at once
            self._quick = torch.compile(self.net, mode="reduce-overhead", dynamic=False)
            quick = self.seconds()
        except Exception as err:  # the compiler raises whatever its many parts raise
            log.warning("torch.compile failed, training goes on without it: %s", str(err).splitlines()[0][:200])
            self._quick = None
            return
        if decided or quick <= GAIN * eager:
            self.compiled = True
        else:
            self._quick = None

    def seconds(self) -> float:
        """Seconds of one batch forward and backward. Chance and gradients are as before."""
        dense, codes, target = (part[: self.params.batch_size] for part in self.data)
        self.net.train()
        with torch.random.fork_rng(devices=[self.where] if self.where.type == "cuda" else []):
            for step in range(_WARM + _TIMED):
                if step == _WARM:
                    began = self._now()
                self.net.zero_grad(set_to_none=True)
                loss_of(self(dense, codes), target, self.settings.task).backward()
            seconds = (self._now() - began) / _TIMED
        self.net.zero_grad(set_to_none=True)
        return seconds

    def _now(self) -> float:
        if self.where.type == "cuda":
            torch.cuda.synchronize(self.where)
        return time.perf_counter()


def has_compiler() -> bool:
    """Whether a C compiler is here, which torch.compile and Triton call."""
    return any(shutil.which(name) for name in (os.environ.get("CC", ""), "gcc", "cc", "clang") if name)
