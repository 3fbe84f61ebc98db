"""What predicts by a multilayer perceptron: torch, kept as safetensors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from millrace.core.errors import DataError
from millrace.models.metrics import Floats
from millrace.models.protocol import Column, Matrix, Predictor, Settings
from millrace.models.torch.blocks import AT_ONCE, Blocks
from millrace.models.torch.net import Net, deterministic
from millrace.spec.learner import TorchMLPLearner


class MLP:
    """Predicts by the network."""

    file: ClassVar[str] = "weights.safetensors"
    media_type: ClassVar[str] = "application/vnd.safetensors"

    def predictor(
        self, weights: bytes, columns: tuple[Column, ...], params: TorchMLPLearner, settings: Settings
    ) -> Predictor:
        """See `Engine.predictor`."""
        where = torch.device("cpu")
        with deterministic(settings, where):
            net = Net(columns, params, settings)
            try:
                net.load_state_dict(load(weights))
            except (RuntimeError, SafetensorError) as err:
                raise DataError("these weights are not of the network that model.json describes", given=self.file,
                                next_step="Train the model again") from err  # fmt: skip
        blocks = Blocks(net)

        def some(values: Floats) -> Tensor:
            output = blocks(*net.inputs(Matrix(columns, values)))
            if settings.task == "binary":
                output = torch.sigmoid(output)
            elif settings.task == "multiclass":
                output = torch.softmax(output, dim=1)
            else:
                output = output * net.label[1] + net.label[0]
            return output[: len(values)]

        def predict(rows: Matrix) -> Floats:
            with deterministic(settings, where), torch.no_grad():
                parts = [some(rows.values[at : at + AT_ONCE]) for at in range(0, max(len(rows), 1), AT_ONCE)]
                return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)

        return predict
