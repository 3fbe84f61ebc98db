"""Holdout: whole blocks of time kept from training, the same for every model of a pipeline.

A block is held out when a hash of seed and block falls below the share, so that it does not matter which other blocks
a window holds: what one model was judged on, no other model of the pipeline was trained on.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from millrace.core.errors import DataError
from millrace.models.metrics import Block, block_keys
from millrace.spec import PipelineSpec

if TYPE_CHECKING:
    import pyarrow as pa


class Holdout(BaseModel):
    """Which rows are held out: the rule, as a model carries it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float
    block: Block
    seed: int
    timezone: str

    @classmethod
    def of(cls, spec: PipelineSpec) -> Holdout:
        """The rule that a spec states."""
        assert spec.training is not None
        rule = spec.training.holdout
        return cls(share=rule.share, block=rule.block, seed=spec.training.seed, timezone=spec.partition.timezone)

    def holds(self, block: str) -> bool:
        """Whether a block is held out."""
        hashed = hashlib.sha256(f"{self.seed}:{block}".encode()).digest()
        return int.from_bytes(hashed[:8], "big") / 2**64 < self.share

    def mask(self, event_time: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.bool_], NDArray[np.str_]]:
        """True for held out rows, and each row's block key. Raises DataError for a null event time."""
        keys = block_keys(event_time, self.block, self.timezone)
        names, index = np.unique(keys, return_inverse=True)
        held: NDArray[Any] = np.array([self.holds(str(name)) for name in names], dtype=bool)
        return held[index.ravel()], keys

    def divide(self, event_time: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.bool_], NDArray[np.str_]]:
        """As `mask`, for a training set. Raises DataError where all blocks fall on one side."""
        held, keys = self.mask(event_time)
        if not len(held) or held.all() or not held.any():
            raise DataError(
                f"the training set cannot be divided: of its {len(np.unique(keys))} {self.block} blocks "
                f"{len(np.unique(keys[held]))} are held out",
                given=f"share {self.share}",
                next_step="Choose a longer training window or a shorter holdout block",
            )
        return held, keys
