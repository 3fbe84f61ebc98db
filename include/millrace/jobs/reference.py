"""The sketch that a model is stored with: what drift is judged by, so that a check never reads the training data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from millrace.canonical import canonical_json
from millrace.drift.sketch import make
from millrace.jobs.work import Work
from millrace.learners.importance import importance
from millrace.learners.protocol import Matrix
from millrace.learners.training import Prepared


def reference_of(work: Work, table: pa.Table, data: Prepared, predict: Callable[[Matrix], Any]) -> bytes:
    """The sketch that drift is judged by: the training set, and the predictions on what was held out."""
    held, keys = data.rule.mask(table[work.spec.features.event_time])
    return canonical_json(
        make(
            table,
            keys,
            block=data.rule.block,
            features=[feature.name for feature in data.encoder.features],
            label=data.label,
            predictions=(predict(data.holdout), keys[held]),
            importance=importance(predict, data.holdout, data.task, seed=work.request.identity.seed),
            public=lambda column: work.spec.classification(column) == "public",
        )
    )
