"""Torch MLP: embeddings, standardised numbers with missing indicators, dense layers; kept as safetensors."""

from __future__ import annotations

import os
from typing import ClassVar

# As in learners/xgboost.py; torch brings its own libgomp.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Without a workspace of its own cuBLAS adds in whatever order is quickest; read when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch
from safetensors.torch import load

from millrace.core.errors import MillraceError
from millrace.learners.torch import ranks, training
from millrace.learners.torch.net import Net, outputs
from millrace.models.checkpoints import Checkpoints
from millrace.models.device import Device, NoGPU
from millrace.models.metrics import Floats
from millrace.models.protocol import Column, Matrix, Predictor, Report, Settings, Weights
from millrace.spec.learner import TorchMLPLearner


class TorchMLP:
    """Trained by AdamW with a cosine schedule. A segment draws all its chance from `seed + segment`.

    On a GPU the data lie there whole and batches are taken by index; several GPUs share every batch, a process each.
    """

    file: ClassVar[str] = "weights.safetensors"
    media_type: ClassVar[str] = "application/vnd.safetensors"
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

    def predictor(
        self, weights: bytes, columns: tuple[Column, ...], params: TorchMLPLearner, settings: Settings
    ) -> Predictor:
        """See `Learner.predictor`."""
        where = torch.device("cpu")
        with training.deterministic(settings, where):
            net = Net(columns, params, settings)
            net.load_state_dict(load(weights))

        def predict(rows: Matrix) -> Floats:
            with training.deterministic(settings, where), torch.no_grad():
                output = outputs(net, *net.inputs(rows)).double()
                if settings.task == "binary":
                    return np.asarray(torch.sigmoid(output).numpy(), dtype=np.float64)
                if settings.task == "multiclass":
                    return np.asarray(torch.softmax(output, dim=1).numpy(), dtype=np.float64)
                return np.asarray((output * net.label[1] + net.label[0]).numpy(), dtype=np.float64)

        return predict
