"""Torch MLP: trains the network of `millrace.models.torch`."""

from __future__ import annotations

import os
from typing import ClassVar

# Without a workspace of its own cuBLAS adds in whatever order is quickest; read when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

from millrace.core.errors import MillraceError
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import Report, Weights
from millrace.learners.torch import ranks, training
from millrace.models.device import Device, NoGPU
from millrace.models.protocol import Matrix, Settings
from millrace.models.torch.mlp import MLP
from millrace.spec.learner import TorchMLPLearner


class TorchMLP(MLP):
    """Trained by AdamW with a cosine schedule. A segment draws all its chance from `seed + segment`.

    On a GPU the data lie there whole and batches are taken by index; several GPUs share every batch, a process each.
    """

    devices: ClassVar[tuple[Device, ...]] = ("cpu", "cuda")
    several: ClassVar[bool] = True

    def fit(
        self,
        train: Matrix,
        holdout: Matrix,
        params: TorchMLPLearner,
        settings: Settings,
        checkpoints: Checkpoints,
        report: Report,
    ) -> Weights:
        """Train; see `Learner.fit`. The bytes depend on the number of threads, which belongs to the request.

        Raises MillraceError for a GPU with a build of torch that knows none, NoGPU where torch finds none.
        """
        if settings.task == "multiclass":
            holdout = holdout.of_known_class()
        if settings.device == "cuda" and not torch.backends.cuda.is_built():
            raise MillraceError(
                "this build of torch knows no GPU", next_step="Use an image whose torch was built for CUDA"
            )
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise NoGPU("torch finds no GPU that it can use", next_step="Does the node's driver fit the image's CUDA?")
        if settings.gpus > 1:
            return ranks.fit(train, holdout, params, settings, checkpoints, report, ranks=settings.gpus)
        try:
            return training.fit(train, holdout, params, settings, checkpoints, report)
        except torch.OutOfMemoryError as err:
            raise MemoryError("the rows do not fit into the GPU's memory") from err
