"""The sampled form of a probe against the full one: cost, and whether both decide alike, with XGBoost.

`python -m bench.retraining_forms [STREAMS]` prints the table of docs/drift.md, on the streams of `drift_streams`.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from bench.drift_streams import CUT, DAYS, KINDS, Stream, hash_of, month_key
from millrace.core.canonical import digest
from millrace.learners import probes
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.probes import Given, Prober
from millrace.learners.xgboost import XGBoost
from millrace.models.encoding import Encoder, labels
from millrace.models.files import Card, Model, WeightsFile
from millrace.models.holdout import Holdout
from millrace.models.protocol import Matrix, Settings
from millrace.rules.blocks import student
from millrace.rules.gain import BELIEVED, STRICT, Gain, gain, surely_better
from millrace.spec.learner import XGBoostLearner

CHAMPIONS, LATER = (5, 11, 17), (1, 3, 5)
"""Last months of the champions, and how many months later they are probed."""
COST, SHARE = 0.005, 0.2
LEARNER = XGBoostLearner(rounds=100, max_depth=4, learning_rate=0.1, segments=1)
Form = Literal["sampled", "full"]


class Timed(XGBoost):
    """Counts the CPU seconds of its fits."""

    spent = 0.0

    def fit(self, *given: Any) -> Any:
        """Train."""
        began = time.process_time()
        made = super().fit(*given)
        Timed.spent += time.process_time() - began
        return made


class World:
    """One stream as tables with times of day."""

    def __init__(self, kind: str, seed: int) -> None:
        table, keys, self.month = Stream(kind, seed).data
        times = keys.astype("datetime64[us]") + np.timedelta64(12, "h")
        self.table = table.append_column("at", pa.array(times, pa.timestamp("us", "UTC")))
        self.keys = keys
        self.held = np.array([hash_of(k) < SHARE for k in np.unique(keys)])[np.unique(keys, return_inverse=True)[1]]

    def rows(self, first: int, last: int, *, held: bool | None = None) -> pa.Table:
        """Rows of months, all or only those held out or not."""
        here = (self.month >= first) & (self.month <= last)
        return self.table.filter(pa.array(here if held is None else here & (self.held == held)))

    def champion(self, until: int) -> tuple[Model, float, float]:
        """The model of up to twelve months, its loss on held out days, and the CPU seconds of its fit."""
        first = max(0, until - 11)
        seen, out = self.rows(first, until, held=False), self.rows(first, until, held=True)
        names = [n for n in self.table.column_names if n not in ("late", "at")]
        encoder, settings = Encoder.learn(seen, names), Settings("binary", 7, 1)
        train = Matrix(encoder.columns, encoder.encode(seen).values, labels(seen, "late", "binary"))
        engine, before = Timed(), Timed.spent
        made = engine.fit(train, train.take(np.arange(9)), LEARNER, settings, Checkpoints(), lambda points: None)
        spent = Timed.spent - before
        card = Card(
            pipeline="bench", learner=LEARNER.model_dump(), task="binary", label="late", encoder=encoder, entity=(),
            event_time="at", feature_service="bench", partitions=tuple(month_key(m) for m in range(first, until + 1)),
            holdout=Holdout(share=SHARE, block="day", seed=7, timezone="UTC"), training_set="", spec_digest="", seed=7,
            threads=1, weights=WeightsFile(file="weights.ubj", digest=digest(made.data), media_type=""),
        )  # fmt: skip
        model = Model(card, card.digest, made.data, LEARNER, engine)
        guess = np.clip(model.predict(out), 1e-7, 1 - 1e-7)
        late = out["late"].to_numpy()
        return model, float(-np.where(late > 0.5, np.log(guess), np.log1p(-guess)).mean()), spent

    def given(self, until: int, month: int) -> Given:
        """What a probe of the champion of `until` gets after `month`."""
        trained = self.rows(max(0, until - 11), until, held=False)
        return Given(trained, self.rows(max(0, month - 11), month - 1, held=False), self.rows(month, month),
                     month_key(month))  # fmt: skip


def probed(model: Model, given: Given, unit: float, form: Form) -> tuple[Gain, float]:
    """The gain, and the CPU seconds of all fits."""
    before = Timed.spent
    found = Prober(model, CUT, form, 1).probe(given)
    recent = surely_better(found.recent, found.alike)
    won = gain(found.champion, found.recent if recent else found.alike, unit, recent=recent)
    assert won is not None
    return won, Timed.spent - before


def due(won: Gain, rate: float) -> bool:
    """Whether this window alone retrains."""
    return won.mean - student(1 - rate, won.freedom) * won.error > COST


def main(words: list[str]) -> int:
    """Print a line per kind and one of all."""
    began, streams = time.monotonic(), int(words[0]) if words else 2
    probes.learner_of = lambda params, code: Timed()  # type: ignore[assignment]
    print("| stream | gain: full, sampled | error: full, sampled | decide alike: 1 in 500, 1 in 10 | "
          "same weights | fits, in trainings: full, sampled |\n|---|---|---|---|---|---|")  # fmt: skip
    every: list[list[float]] = []
    for kind in KINDS:
        lines = []
        for seed in range(100, 100 + streams):
            world = World(kind, seed)
            for until in CHAMPIONS:
                model, unit, training = world.champion(until)
                for month in (until + m for m in LATER):
                    given = world.given(until, month)
                    (full, costly), (some, cheap) = (probed(model, given, unit, f) for f in ("full", "sampled"))
                    alike = [float(due(full, rate) == due(some, rate)) for rate in (STRICT, BELIEVED)]
                    lines.append([full.mean, some.mean, full.error, some.error, *alike,
                                  float(full.recent == some.recent), costly / training, cheap / training])  # fmt: skip
        every += lines
        print(line(kind, lines), flush=True)
    print(line(f"all ({len(every)} probes of {DAYS} days)", every))
    pairs = np.array(every)
    print(f"correlation of gains {np.corrcoef(pairs[:, 0], pairs[:, 1])[0, 1]:.3f} ({time.monotonic() - began:.0f} s)")
    return 0


def line(name: str, lines: list[list[float]]) -> str:
    """A row of the table."""
    g, h, e, f, strict, believed, weights, full, some = np.mean(lines, axis=0)
    return (f"| {name} | {g:.1%}, {h:.1%} | {e:.1%}, {f:.1%} | {strict:.0%}, {believed:.0%} | {weights:.0%} | "
            f"{full:.1f}, {some:.2f} |")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
