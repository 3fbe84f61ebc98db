"""performance and drift: what was served is judged beside what was scored, and nothing twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.shop import OTHER, Served, read

from millrace.contract import Artifact, JobResult
from millrace.core.canonical import canonical_json, digest
from millrace.drift.sketch import make
from millrace.models.metrics import block_keys
from millrace.store import layout

DAY, NEXT, ASKED = "2024-03-04", "2024-03-05", "2024-03-06"
COUNT = 400
LATER = "2024-03-20T00:00:00+00:00"


def moment(number: int) -> datetime:
    return datetime(2024, 3, 4, tzinfo=UTC) + timedelta(minutes=6 * number)


class House(Served):
    """Two days of features, half of whose rows the champion scored and all of which it answered a day later."""

    def prepared(self) -> House:
        self.model = self.card(partitions=("2024-03-01",))
        rng = np.random.default_rng(3)
        self.late = rng.binomial(1, 0.3, COUNT)
        self.evaluation = {"model": self.model, "blocks": {f"2024-02-{d:02d}": [61 + d % 3, 100] for d in range(1, 25)}}
        return self

    def features(self, late: Any = None) -> pa.Table:
        times = pa.array([moment(n) for n in range(COUNT)], pa.timestamp("us", "UTC"))
        ids = [f"e{n}" for n in range(COUNT)]
        amount = np.arange(COUNT) / COUNT
        labels = self.late if late is None else late
        return pa.table({"id": ids, "event_timestamp": times, "amount": amount, "late": labels})

    def scored(self, count: int = COUNT // 2, model: str | None = None) -> pa.Table:
        rows = self.features().select(["id", "event_timestamp"]).slice(0, count)
        return (
            rows.append_column("prediction", pa.array([0.3] * count))
            .append_column("model_version", pa.array(["3"] * count))
            .append_column("model_digest", pa.array([model or self.model] * count))
            .append_column("in_training_window", pa.array([False] * count))
        )

    def answered(self, records: list[dict[str, Any]] | None = None) -> Artifact:
        if records is None:
            records = [self.answer(n) for n in range(COUNT)]
        self.ship(records)
        outcome = self.collect(ASKED).outcome
        assert outcome is not None
        return outcome.outputs["data"]

    def answer(self, n: int, prediction: float = 0.3, **fields: Any) -> dict[str, Any]:
        stamp = (datetime(2024, 3, 6, tzinfo=UTC) + timedelta(minutes=n)).isoformat()
        fields = {"model": self.model, **fields}
        return read(f"r{n}", stamp, f"e{n}", moment(n).isoformat(), prediction, **fields)

    def performance(self, *inputs: Any, features: pa.Table | None = None) -> JobResult:
        data = canonical_json(self.evaluation)
        made = Artifact(uri=f"evaluations/{digest(data)[7:]}.json", digest=digest(data), kind="evaluation")
        self.objects.put(made.uri, data)
        table = self.snapshot(self.features() if features is None else features, "features", DAY)
        given = [*inputs, ("features", table, DAY), ("evaluation", made, None)]
        result = self.send("performance", ASKED, given, {"as_of": LATER})
        assert result.error is None, result.error
        return result


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = Served.make(tmp_path)
    return House(made.root, made.store, made.spec).prepared()


def test_served_rows_stand_beside_scored_ones_and_none_counts_twice(house):
    predictions = ("predictions", house.snapshot(house.scored(), "predictions", DAY), DAY)
    alone = house.performance(predictions).outcome.facts
    both = house.performance(predictions, ("served", house.answered(), ASKED)).outcome.facts
    assert alone["labelled"] == COUNT // 2 and "served" not in alone
    assert both["labelled"] == COUNT and both["served"] == COUNT // 2
    whole = house.snapshot(house.scored(COUNT), "predictions", DAY)
    assert house.performance(("predictions", whole, DAY)).outcome.facts["blocks"] == both["blocks"]


def test_served_rows_alone_are_judged(house):
    facts = house.performance(("served", house.answered(), ASKED)).outcome.facts
    assert facts["labelled"] == facts["served"] == facts["rows"] == COUNT


def test_asked_a_hundred_times_is_one_outcome(house):
    records = [house.answer(n % 60, **{"id": f"q{n}"}) for n in range(600)]
    facts = house.performance(("served", house.answered(records), ASKED)).outcome.facts
    assert facts["labelled"] == 60


def test_only_the_champions_own_live_answers_count(house):
    records = [house.answer(n) for n in range(100)]
    records += [house.answer(n, role="shadow") for n in range(100, 200)]
    records += [house.answer(n, model=OTHER, version=2) for n in range(200, 300)]
    records += [house.answer(n, model=None, version=None, role="constant") for n in range(300, 350)]
    records += [house.answer(n, prediction=None) for n in range(350, 400)]
    facts = house.performance(("served", house.answered(records), ASKED)).outcome.facts
    assert facts["labelled"] == 100
    # as a challenger it answered, too
    more = [house.answer(n, role="challenger", **{"id": f"c{n}"}) for n in range(100, 150)]
    facts = house.performance(("served", house.answered(more), ASKED)).outcome.facts
    assert facts["labelled"] == 150


def test_rows_of_the_training_window_do_not_count(house):
    house.model = house.card(partitions=(DAY,))
    house.evaluation = {**house.evaluation, "model": house.model}
    facts = house.performance(("served", house.answered(), ASKED)).outcome.facts
    assert facts["labelled"] == COUNT - 240, "240 rows are of that day"


def test_outcomes_that_come_late_are_judged_when_they_are_there(house):
    served = ("served", house.answered(), ASKED)
    unknown = pa.array([None if n < 100 else int(v) for n, v in enumerate(house.late)], pa.int64())
    before = house.performance(served, features=house.features(unknown)).outcome.facts
    after = house.performance(served).outcome.facts
    assert before["labelled"] == COUNT - 100 and after["labelled"] == COUNT
    turned = house.performance(served, features=house.features(1 - house.late)).outcome.facts
    assert turned["mean_loss"] > after["mean_loss"]


def test_a_worse_answer_than_the_scored_one_shows(house):
    records = [house.answer(n, 0.999 if house.late[n] == 0 else 0.001) for n in range(COUNT)]
    facts = house.performance(("served", house.answered(records), ASKED)).outcome.facts
    assert facts["mean_loss"] > 5


def test_drift_sees_served_predictions(tmp_path):
    """Given answers unlike those of the reference, then the predictions drift, though what was scored did not."""
    made = Served.make(tmp_path, monitoring={"minimum_rows": 50, "sample": 5000})
    rng = np.random.default_rng(1)
    days, per_day = 40, 50
    times = pa.array([datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=n // per_day, minutes=n % per_day)
                      for n in range(days * per_day)], pa.timestamp("us", "UTC"))  # fmt: skip
    rows = pa.table({"amount": rng.normal(size=days * per_day), "late": rng.binomial(1, 0.3, days * per_day)})
    keys = block_keys(times, "day", "UTC")
    held = np.isin(keys, np.unique(keys)[::2])
    usual = rng.uniform(0.2, 0.4, days * per_day)
    sketch = make(rows, keys, block="day", features=["amount"], label="late", predictions=(usual[held], keys[held]),
                  importance={"amount": 1.0}, public=lambda column: True)  # fmt: skip
    text = canonical_json(sketch)
    model = made.card(reference=digest(text))
    made.objects.put(layout.model("shop", model) + layout.REFERENCE, text)
    window = pa.table({
        "id": [f"e{n}" for n in range(days * per_day)],
        "event_timestamp": pa.array([t + timedelta(days=90) for t in times.to_pylist()], times.type),
        "amount": rng.normal(size=days * per_day), "late": rows["late"],
    })  # fmt: skip
    current = made.snapshot(window, "features", "2024-04-01")
    scored = window.select(["id", "event_timestamp"]).append_column("prediction", pa.array(usual))
    scored = scored.append_column("model_digest", pa.array([model] * len(usual)))
    predictions = made.snapshot(scored.slice(0, 1000), "predictions", "2024-04-01")
    artifact = Artifact(uri=layout.model("shop", model), digest=model, kind="model")
    stamps = window["event_timestamp"].to_pylist()

    def drift(records: list[dict[str, Any]]) -> Any:
        more = []
        if records:
            made.ship(records)
            more = [("served", made.collect("2024-05-20").outcome.outputs["data"], "2024-05-20")]
        given = [("model", artifact, None), ("current", current, "2024-04-01"),
                 ("predictions", predictions, "2024-04-01"), *more]  # fmt: skip
        result = made.send("drift", "2024-04-01", given, {"as_of": LATER})
        assert result.error is None, result.error
        return result.outcome.facts["prediction"]

    def answers(first: int, last: int, prediction: float, name: str) -> list[dict[str, Any]]:
        return [read(f"{name}{n}", "2024-05-20 10:00", f"e{n}", stamps[n].isoformat(), prediction, model=model)
                for n in range(first, last)]  # fmt: skip

    assert drift([])["drifted"] is False
    assert drift(answers(0, 1000, 0.9, "again"))["drifted"] is False, "those were scored"
    assert drift(answers(1000, 2000, 0.9, "new"))["drifted"] is True
