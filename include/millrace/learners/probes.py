"""Probes: models as a retraining would make them now, each measured on blocks of the newest rows that it did not see.

The newest blocks are cut into runs, which two halves take in turn. A probe trains on the history and one half and is
measured on the other, so that all newest rows are measured once. In the sampled form all models train on a sample of
their rows and by the learner's `quick` parameters, and what they are compared with is a twin of the champion, trained
the same way on a sample of what the champion was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from millrace.core.errors import DataError
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.models.classes import Classes, classes_of
from millrace.models.encoding import Encoder, labels
from millrace.models.files import Model
from millrace.models.metrics import Floats, block_keys, block_sums, row_losses
from millrace.models.protocol import Code, Matrix, Settings
from millrace.models.recency import weights
from millrace.rules.gain import HALF_LIFE, RUNS
from millrace.spec import Partitioning
from millrace.spec.learner import OnnxModel

if TYPE_CHECKING:
    import pyarrow as pa

Form = Literal["sampled", "full"]
QUICK, SLOW = 0.1, 0.04
"""Share of rows of a sample where the learner has `quick` parameters, and where it has not."""
LEAST = 5_000
"""Rows of a sample, where there are as many: fewer teach too little to tell models apart."""
_SHOWN = 64  # rows that a learner measures as if held out


@dataclass(frozen=True)
class Probed:
    """Sums of losses and rows of each of the newest blocks: of the champion (or its twin), and of the probes in which
    all rows count alike and in which recent ones count for more. `rows`: how many each model was trained on."""

    champion: dict[str, tuple[float, int]]
    alike: dict[str, tuple[float, int]]
    recent: dict[str, tuple[float, int]]
    rows: dict[str, int]


@dataclass(frozen=True)
class Given:
    """Labelled rows: what the champion was trained on, what came since within a retraining's window, and the newest
    partition `last`; `history` is what of both a retraining would train on. Blocks held out are in none but `newest`.
    """

    trained: pa.Table
    history: pa.Table
    newest: pa.Table
    last: str


class Prober:
    """Fits models of one champion's kind. Raises DataError for one that only predicts."""

    def __init__(self, champion: Model, cut: Partitioning, form: Form, threads: int) -> None:
        self.champion, self.card, self.cut, self.sampled = champion, champion.card, cut, form == "sampled"
        self.threads = threads
        self.names = [feature.name for feature in self.card.encoder.features]
        if isinstance(champion.params, OnnxModel):
            raise DataError("the champion was trained elsewhere, and nothing here trains its like", given="onnx")
        quick = getattr(champion.params, "quick", None)
        self.params = quick() if self.sampled and quick else champion.params
        self.share = QUICK if quick else SLOW
        code = None if self.card.code is None else Code(self.card.code, "trainer.py of the champion")
        self.engine = learner_of(self.params, code)

    def probe(self, given: Given) -> Probed:
        """Fit and measure. Raises DataError where rows cannot be learned from or predicted."""
        card, newest = self.card, given.newest
        keys = block_keys(newest[card.event_time], card.holdout.block, card.holdout.timezone)
        turn = halves(keys)
        random = np.random.Generator(np.random.PCG64(card.seed))
        trained, history = (self._sample(table, random) for table in (given.trained, given.history))
        kept = self._mask(newest.num_rows, random, len(history) / max(given.history.num_rows, 1))
        if self.sampled:
            champion = self._fit(trained, newest, card.partitions[-1], card.half_life)
        else:
            champion = self._losses(newest, self.champion.predict(newest), card.classes)
        found = {}
        for name, half_life in (("alike", None), ("recent", HALF_LIFE)):
            losses = np.empty(len(keys))
            for side in (turn, ~turn):
                rows = _joined(history, newest.filter(_mask(side & kept)))
                losses[~side] = self._fit(rows, newest.filter(_mask(~side)), given.last, half_life)
            found[name] = block_sums(keys, losses)
        rows = {"champion": trained.num_rows, "history": history.num_rows, "newest": int(kept.sum())}
        return Probed(block_sums(keys, champion), found["alike"], found["recent"], rows)

    def _fit(self, rows: pa.Table, measured: pa.Table, last: str, half_life: float | None) -> Floats:
        """Losses of the `measured` rows under a model of the others, shape (rows,)."""
        card = self.card
        classes = classes_of(rows, card.label) if card.task == "multiclass" else ()
        encoder = Encoder.learn(rows, self.names)
        weight = np.empty(0) if half_life is None else weights(rows[card.event_time], self.cut, last, half_life)
        label = labels(rows, card.label, card.task, classes)
        train = Matrix(encoder.columns, encoder.encode(rows).values, label, weight)
        settings = Settings(card.task, card.seed, self.threads, len(classes))
        held = Matrix(train.columns, train.values[:_SHOWN], label[:_SHOWN])
        made = self.engine.fit(train, held, self.params, settings, Checkpoints(), lambda points: None)
        predict = self.engine.predictor(made.data, encoder.columns, self.params, settings)
        return self._losses(measured, predict(encoder.encode(measured)), classes)

    def _losses(self, rows: pa.Table, prediction: Floats, classes: Classes) -> Floats:
        label = labels(rows, self.card.label, self.card.task, classes)
        return row_losses(self.card.task, label, prediction)

    def _sample(self, table: pa.Table, random: np.random.Generator) -> pa.Table:
        if not self.sampled:
            return table
        return table.filter(_mask(self._mask(table.num_rows, random, max(self.share, LEAST / max(table.num_rows, 1)))))

    def _mask(self, rows: int, random: np.random.Generator, share: float) -> NDArray[np.bool_]:
        return np.asarray(random.random(rows) < share)


def halves(keys: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Which half each row is in, by its block's run."""
    names, index = np.unique(keys, return_inverse=True)
    return np.asarray(index.ravel() // max(1, len(names) // RUNS) % 2 == 0)


def _mask(rows: NDArray[np.bool_]) -> pa.Array:
    import pyarrow as pa

    return pa.array(rows)


def _joined(*tables: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(tables, promote_options="permissive").combine_chunks()
