"""What trains a model: parameters of each learner, and the union that others can extend."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from millrace.spec.base import Model
from millrace.spec.extension import Extensible


class XGBoostLearner(Model):
    """Gradient-boosted trees, saved as UBJ."""

    kind: Literal["xgboost"] = "xgboost"
    rounds: int = Field(default=200, ge=1, le=100_000)
    max_depth: int = Field(default=6, ge=1, le=20)
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    min_child_weight: float = Field(default=1, ge=0)
    subsample: float = Field(default=1, gt=0, le=1)
    colsample_bytree: float = Field(default=1, gt=0, le=1)
    reg_lambda: float = Field(default=1, ge=0)
    segments: int = Field(default=4, ge=1, description="Checkpoints per training; part of what the bytes depend on.")
    engine: ClassVar[str] = "millrace.learners.xgboost:XGBoost"


class TorchMLPLearner(Model):
    """A multilayer perceptron, saved as safetensors."""

    kind: Literal["torch_mlp"] = "torch_mlp"
    hidden: tuple[int, ...] = (64, 32)
    epochs: int = Field(default=20, ge=1, le=10_000)
    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    segments: int = Field(default=4, ge=1, description="Checkpoints per training; part of what the bytes depend on.")
    engine: ClassVar[str] = "millrace.learners.torch.mlp:TorchMLP"


class CustomLearner(Model):
    """The pipeline's own code, include/pipelines/<name>/trainer.py, whose weights are saved as safetensors."""

    # No field holds code: these parameters also come from the training form, which starts runs and must not write code.
    kind: Literal["custom"] = "custom"
    params: dict[str, JsonValue] = Field(default_factory=dict, description="Given to the code as they stand.")
    engine: ClassVar[str] = "millrace.learners.custom:Custom"


LEARNERS = Extensible("millrace.learners", XGBoostLearner, TorchMLPLearner, CustomLearner)
Learner = Annotated[Any, LEARNERS]
