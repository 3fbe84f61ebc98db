"""What trains a model: parameters of each learner, and the union that others can extend.

`engine` names what trains, `predicts` what predicts, as `module:class`: who serves a model imports no training. Where
`quick` is there, it gives parameters that learn nearly as much in a quarter of the steps, for a probe.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from millrace.spec.base import Model
from millrace.spec.extension import Extensible


class XGBoostLearner(Model):
    """Gradient-boosted trees, saved as UBJ."""

    kind: Literal["xgboost"] = "xgboost"
    rounds: int = Field(default=200, ge=1, le=100_000, description="Trees.")
    max_depth: int = Field(default=6, ge=1, le=20, description="Depth of a tree.")
    learning_rate: float = Field(default=0.1, gt=0, le=1, description="What a tree counts for.")
    min_child_weight: float = Field(default=1, ge=0, description="Least weight of rows in a leaf, as in XGBoost.")
    subsample: float = Field(default=1, gt=0, le=1, description="Share of rows that a tree sees.")
    colsample_bytree: float = Field(default=1, gt=0, le=1, description="Share of columns that a tree sees.")
    reg_lambda: float = Field(default=1, ge=0, description="L2 penalty on leaves.")
    segments: int = Field(default=4, ge=1, description="Checkpoints per training; part of what the bytes depend on.")
    engine: ClassVar[str] = "millrace.learners.xgboost:XGBoost"
    predicts: ClassVar[str] = "millrace.models.xgboost:Trees"

    def quick(self) -> XGBoostLearner:
        """A quarter of the trees, each of which counts for up to four times as much."""
        rate = max(self.learning_rate, min(4 * self.learning_rate, 0.3))
        return self.model_copy(update={"rounds": -(-self.rounds // 4), "learning_rate": rate, "segments": 1})


class TorchMLPLearner(Model):
    """A multilayer perceptron, saved as safetensors."""

    kind: Literal["torch_mlp"] = "torch_mlp"
    hidden: tuple[int, ...] = Field(default=(64, 32), description="Width of each hidden layer.")
    epochs: int = Field(default=20, ge=1, le=10_000, description="Passes over the rows.")
    batch_size: int = Field(default=1024, ge=1, description="Rows of a step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Of AdamW.")
    weight_decay: float = Field(default=1e-5, ge=0, description="Of AdamW.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of a layer's values that a step leaves out.")
    segments: int = Field(default=4, ge=1, description="Checkpoints per training; part of what the bytes depend on.")
    engine: ClassVar[str] = "millrace.learners.torch.mlp:TorchMLP"
    predicts: ClassVar[str] = "millrace.models.torch.mlp:MLP"

    def quick(self) -> TorchMLPLearner:
        """A quarter of the passes."""
        return self.model_copy(update={"epochs": -(-self.epochs // 4), "segments": 1})


class CustomLearner(Model):
    """The pipeline's own code, include/pipelines/<name>/trainer.py, whose weights are saved as safetensors."""

    # No field holds code: these parameters also come from the training form, which starts runs and must not write code.
    kind: Literal["custom"] = "custom"
    params: dict[str, JsonValue] = Field(default_factory=dict, description="Given to the code as they stand.")
    engine: ClassVar[str] = "millrace.learners.custom:Custom"
    predicts: ClassVar[str] = "millrace.models.custom:CustomCode"


class OnnxModel(Model):
    """A graph that was trained elsewhere and came by `millrace import`: it predicts, and nothing here trains it."""

    kind: Literal["onnx"] = "onnx"
    predicts: ClassVar[str] = "millrace.models.onnx:Onnx"


_GROUP, _TRAINED = "millrace.learners", (XGBoostLearner, TorchMLPLearner, CustomLearner)
LEARNERS = Extensible(_GROUP, *_TRAINED, apart={"onnx": "only predicts, and comes by `millrace import`"})
"""What a pipeline may choose."""
KINDS = Extensible(_GROUP, *_TRAINED, OnnxModel)
"""What a model may be of."""
Learner = Annotated[Any, LEARNERS]
