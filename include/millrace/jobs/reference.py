"""The sketch that a model is stored with: what drift is judged by, so that a check never reads the training data."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from millrace.core.canonical import canonical_json
from millrace.drift.sketch import make
from millrace.evaluation.importance import importance
from millrace.jobs.work import Work
from millrace.learners.training import Prepared
from millrace.models.classes import likeliest
from millrace.models.protocol import Predictor


def reference_of(work: Work, table: pa.Table, data: Prepared, predict: Predictor) -> bytes:
    """The sketch that drift is judged by: the training set, and the predictions on what was held out.

    Classes are categories, integers too: that 9 lies far from 1 means nothing.
    """
    held, keys = data.rule.mask(table[work.spec.features.event_time])
    guesses = predict(data.holdout)
    if data.task == "multiclass":
        table = table.set_column(table.column_names.index(data.label), data.label, table[data.label].cast(pa.string()))
        guesses = np.array(likeliest(guesses, data.classes).cast(pa.string()))
    return canonical_json(
        make(
            table,
            keys,
            block=data.rule.block,
            features=[feature.name for feature in data.encoder.features],
            label=data.label,
            predictions=(guesses, keys[held]),
            importance=importance(predict, data.holdout, data.task, seed=work.request.identity.seed),
            public=lambda column: work.spec.classification(column) == "public",
        )
    )
