"""drift and performance: what the governor is told, and what it must not be told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from millrace.canonical import canonical_json, digest
from millrace.contract import Artifact, Identity, Input, JobRequest, Place
from millrace.jobs.runner import run
from millrace.spec import Bundle
from millrace.store import SnapshotStore, open_store

MODEL = "sha256:" + "1" * 64
START = datetime(2024, 1, 1, tzinfo=UTC)


def spec(**monitoring):
    return {
        "version": 1,
        "name": "shop",
        "owner": "me",
        "description": "test",
        "partition": {"grain": "month", "timezone": "UTC", "start": "2024-01"},
        "sources": {"sales": {"kind": "files", "location": "{year}-{month}", "gate": "s.yaml", "columns": ["id"]}},
        "features": {"entity": ["id"], "service": "shop"},
        "columns": {"amount": "public"},
        "label": {"column": "late", "task": "binary", "known_after": "P1D"},
        "training": {
            "learner": {"kind": "xgboost", "rounds": 20, "max_depth": 3, "segments": 2},
            "window": "P1M",
        },
        "evaluation": {"thresholds": {"log_loss": {"max": 1}}},
        "monitoring": {"minimum_rows": 500, **monitoring},
    }


def features(seed, days=30, per_day=100, base=0.3, shift=0.0, begin=START):
    rng = np.random.default_rng(seed)
    rows = days * per_day
    times = [begin + timedelta(days=n // per_day, minutes=n % per_day) for n in range(rows)]
    return pa.table(
        {
            "id": [f"{n:06d}" for n in range(rows)],
            "event_timestamp": pa.array(times, pa.timestamp("us", "UTC")),
            "amount": rng.normal(shift, 1, rows),
            "late": rng.binomial(1, base, rows),
        }
    )


def predictions(table, probability, training=0, digest=MODEL):
    rows = table.num_rows
    return (
        table.select(["id", "event_timestamp"])
        .add_column(2, "prediction", pa.array(np.full(rows, probability)))
        .append_column("in_training_window", pa.array([n < training for n in range(rows)]))
        .append_column("model_digest", pa.array([digest] * rows))
    )


@pytest.fixture
def job(tmp_path):
    store = open_store(tmp_path / "store")
    snapshots = SnapshotStore(store)

    def _job(name, inputs, params=None, **monitoring):
        bundle = Bundle(spec=spec(**monitoring), sql="", suites={})
        store.put(bundle.key, bundle.to_bytes())
        sent, place = [], {}
        for role, value in inputs:
            if isinstance(value, Artifact):
                key, kind, found = value.uri, value.kind, value.digest
            elif isinstance(value, dict):
                data = canonical_json(value)
                key, kind, found = f"evaluations/{digest(data)[7:]}.json", "evaluation", digest(data)
                store.put(key, data)
            else:
                made = snapshots.write(value, pipeline="shop", dataset=role, partition="2024-01")
                key, kind, found = made.uri, "snapshot", made.digest
            sent.append(Input(role=role, kind=kind, digest=found, partition="2024-01"))
            place[found] = key
        identity = Identity(
            job=name,
            params=params or {},
            inputs=tuple(sent),
            scope=("2024-01",),
            spec_digest=bundle.digest,
            code_digest=bundle.digest,
        )
        result = run(JobRequest(identity=identity, place=Place(store=store.root, inputs=place)))
        assert result.error is None, result.error
        return result

    return _job


def holdout(loss):
    return {"model": MODEL, "blocks": {f"2023-12-{d:02d}": [loss * 100 + (d % 3 - 1), 100] for d in range(1, 29)}}


def performance(job, table, scored, loss, as_of="2024-02-02T00:00:00+00:00", **monitoring):
    inputs = [("predictions", scored), ("features", table), ("evaluation", holdout(loss))]
    return job("performance", inputs, {"as_of": as_of}, **monitoring).outcome


def test_a_champion_as_good_as_ever_is_not_degraded(job):
    table = features(1)
    usual = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    seen = performance(job, table, predictions(table, 0.3), usual)
    assert seen.facts["degraded"] is False
    assert seen.facts["labelled"] == 3000
    assert seen.metrics["log_loss"].low < seen.metrics["log_loss"].value < seen.metrics["log_loss"].high


def test_a_champion_that_got_worse_is_degraded(job):
    table = features(1, base=0.6)
    usual = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    seen = performance(job, table, predictions(table, 0.3), usual)
    assert seen.facts["degraded"] is True and seen.facts["excess"] > seen.facts["bound"] > 0


def test_rows_the_model_was_trained_on_do_not_count(job):
    table = features(1)
    seen = performance(job, table, predictions(table, 0.3, training=1000), 0.6)
    assert seen.facts["left_out"] == 1000 and seen.facts["labelled"] == 2000


def test_labels_not_yet_known_do_not_count(job):
    table = features(1)
    seen = performance(job, table, predictions(table, 0.3), 0.6, as_of="2024-01-16T00:00:00+00:00")
    # known_after one day: fourteen whole days and the first minute of the fifteenth
    assert seen.facts["labelled"] == 1401


def test_too_few_outcomes_say_nothing(job):
    table = features(1)
    seen = performance(job, table, predictions(table, 0.3), 0.6, minimum_rows=5000)
    assert seen.facts["degraded"] is None and seen.metrics == {}


AS_OF = {"as_of": "2024-04-02T00:00:00+00:00"}
LATER = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
def champion(job):
    """A model of sixty days, with the sketch of what it was trained on."""
    rng = np.random.default_rng(0)
    table = features(1, days=60)
    late = (np.array(table["amount"]) + rng.normal(0, 1, table.num_rows) > 0.5).astype(int)
    table = table.set_column(3, "late", pa.array(late))
    return job("train", [("training_set", table)], {"learner": None}).outcome.outputs["model"]


def drift(job, champion, table, scored=None, **monitoring):
    inputs = [("model", champion), ("current", table)]
    if scored is not None:
        inputs.append(("predictions", scored))
    return job("drift", inputs, AS_OF, **monitoring)


def test_drift_says_what_it_saw_and_nothing_with_too_few_rows(job, champion):
    after = features(2, shift=1.0, begin=LATER)
    result = drift(job, champion, after)
    facts = result.outcome.facts
    assert facts["drifted"] is True and facts["share"] == 1.0
    assert set(facts["columns"]) == {"amount"}  # no key, no time, no label
    assert facts["causes"][0]["column"] == "amount" and facts["causes"][0]["weight"] == 1.0
    assert result.observed.links["report"].endswith("drift.html")
    assert drift(job, champion, after, minimum_rows=5000).outcome.facts["drifted"] is None
    assert json.loads(result.outcome.model_dump_json())["facts"]["rows"] == 3000


def test_a_window_like_the_training_does_not_drift(job, champion):
    table = features(2, begin=LATER)
    facts = drift(job, champion, table).outcome.facts
    assert facts["drifted"] is False and facts["broken"] == {} and facts["causes"] == []


def test_labels_and_predictions_are_judged_too(job, champion):
    table = features(2, base=0.8, begin=LATER)
    facts = drift(job, champion, table, predictions(table, 0.9, digest=champion.digest)).outcome.facts
    assert facts["label"]["drifted"] is True and facts["prediction"]["drifted"] is True
    assert facts["drifted"] is False  # the features alone decide


def test_what_another_model_predicted_is_no_prediction_drift(job, champion):
    table = features(2, begin=LATER)
    facts = drift(job, champion, table, predictions(table, 0.9)).outcome.facts
    assert "prediction" not in facts


def test_labels_that_are_not_yet_known_are_not_judged(job, champion):
    table = features(2, base=0.8, begin=LATER)
    early = {"as_of": "2024-03-01T00:00:00+00:00"}
    facts = job("drift", [("model", champion), ("current", table)], early).outcome.facts
    assert "label" not in facts


def test_a_column_that_went_empty_is_broken(job, champion):
    table = features(2, begin=LATER)
    table = table.set_column(2, "amount", pa.array([None] * table.num_rows, pa.float64()))
    assert drift(job, champion, table).outcome.facts["broken"] == {"amount": "empty"}


def test_a_model_without_a_sketch_gets_no_drift_verdict(job, champion, tmp_path):
    store = open_store(tmp_path / "store")
    card = json.loads(store.get(champion.uri + "model.json")) | {"reference": None}
    store.put("models/shop/old/model.json", canonical_json(card))
    old = Artifact(uri="models/shop/old/", digest=digest(card), kind="model")
    assert drift(job, old, features(2, begin=LATER)).outcome.facts["drifted"] is None


def test_the_outcome_of_drift_is_the_same_every_time(job, champion):
    table = features(2, begin=LATER)
    first, second = (drift(job, champion, table) for _ in range(2))
    assert first.outcome_digest == second.outcome_digest


def test_what_another_model_scored_does_not_count(job):
    table = features(1)
    seen = performance(job, table, predictions(table, 0.3, digest="sha256:" + "2" * 64), 0.6)
    assert seen.facts["labelled"] == 0 and seen.facts["degraded"] is None
