"""drift and performance: what the governor is told, and what it must not be told."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from support.requests import request

from millrace.contract import Artifact
from millrace.core.canonical import canonical_json, digest
from millrace.jobs.runner import run
from millrace.spec import Bundle
from millrace.store import SnapshotStore, bundles, open_store

MODEL = "sha256:" + "1" * 64
START = datetime(2024, 1, 1, tzinfo=UTC)


def spec(label=None, **monitoring):
    task = (label or {}).get("task", "binary")
    return {
        "version": 1,
        "name": "shop",
        "owner": "me",
        "description": "test",
        "partition": {"grain": "month", "timezone": "UTC", "start": "2024-01"},
        "sources": {"sales": {"kind": "files", "location": "{year}-{month}", "gate": "s.yaml", "columns": ["id"]}},
        "features": {"entity": ["id"], "service": "shop"},
        "columns": {"amount": "public"},
        "label": {"column": "late", "task": task, "known_after": "P1D", **(label or {})},
        "training": {
            "learner": {"kind": "xgboost", "rounds": 20, "max_depth": 3, "segments": 2},
            "window": "P1M",
        },
        "evaluation": {"thresholds": {"rmse" if task == "regression" else "log_loss": {"max": 1}}},
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
        .add_column(2, "prediction", pa.array(np.broadcast_to(probability, rows)))
        .append_column("in_training_window", pa.array([n < training for n in range(rows)]))
        .append_column("model_digest", pa.array([digest] * rows))
    )


@pytest.fixture
def send(tmp_path):
    """Run a job on tables, Artifacts and documents by role; a role's second table is of the second partition."""
    store = open_store(tmp_path / "store")
    snapshots = SnapshotStore(store)

    def _send(name, inputs, params=None, **monitoring):
        bundle = Bundle(spec=spec(**monitoring), sql="", suites={})
        bundles.keep(store, bundle)
        sent, seen = [], Counter()
        for role, value in inputs:
            seen[role] += 1
            partition = f"2024-{seen[role]:02d}"
            if isinstance(value, dict):
                data = canonical_json(value)
                made = Artifact(uri=f"evaluations/{digest(data)[7:]}.json", digest=digest(data), kind="evaluation")
                store.put(made.uri, data)
            elif isinstance(value, Artifact):
                made = value
            else:
                made = snapshots.write(value, pipeline="shop", dataset=role, partition=partition)
            sent.append((role, made, partition))
        return run(
            request(name, store=store.root, spec_digest=bundle.digest, scope=["2024-01"], inputs=sent, params=params)
        )

    return _send


@pytest.fixture
def job(send):
    def _job(name, inputs, params=None, **monitoring):
        result = send(name, inputs, params, **monitoring)
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


def labelled(table, values):
    return table.set_column(table.column_names.index("late"), "late", values)


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()], ids=str)
def test_a_label_of_nan_is_a_label_of_null(job, kind):
    """Given a third of the labels NaN, then they count neither as outcome 0 nor at all, as with nulls."""
    table = features(1)
    gaps = np.arange(table.num_rows) % 3 == 0
    given = np.array(table["late"], dtype=float)
    nan = pa.array(np.where(gaps, np.nan, given)).cast(kind)
    null = pa.array(given, mask=gaps).cast(kind)
    seen = [performance(job, labelled(table, late), predictions(table, 0.3), 0.6) for late in (nan, null)]
    assert seen[0].facts == seen[1].facts and seen[0].metrics == seen[1].metrics
    assert seen[0].facts["labelled"] == 2000
    share = given[~gaps].mean()
    expected = -(share * np.log(0.3) + (1 - share) * np.log(0.7))
    assert seen[0].metrics["log_loss"].value == pytest.approx(expected, rel=1e-9)


def test_a_label_of_nan_says_nothing_in_a_regression(job):
    table = features(1)
    exact = np.array(table["amount"])
    late = pa.array(np.where(np.arange(len(exact)) == 7, np.nan, exact))
    label = {"task": "regression"}
    scored = predictions(table, exact + 2.0)
    seen = performance(job, labelled(table, late), scored, 4.0, label=label)
    assert seen.facts["labelled"] == 2999
    assert seen.metrics["rmse"].value == pytest.approx(2.0) and seen.metrics["mae"].value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("task", "wrong", "words"),
    [
        ("binary", 2, "label 'late' of a binary task (int64) is something else in 1 of 3000 rows"),
        ("binary", -1, "of a binary task (int64) is something else in 1 of 3000 rows"),
        ("binary", 0.5, "of a binary task (double) is something else in 1 of 3000 rows"),
        ("binary", "1", "of a binary task is string"),
        ("regression", 1e308, "of a regression task (double) is something else in 1 of 3000 rows"),
        ("regression", float("-inf"), "of a regression task (double) is something else in 1 of 3000 rows"),
        ("regression", True, "of a regression task is bool"),
    ],
)
def test_a_label_that_the_task_cannot_have_is_an_error_in_words(send, task, wrong, words):
    table = features(1)
    kind = type(wrong)
    late = pa.array([kind(v) if n else wrong for n, v in enumerate(table["late"].to_pylist())])
    given = [("predictions", predictions(table, 0.3)), ("features", labelled(table, late)), ("evaluation", holdout(1))]
    result = send("performance", given, {"as_of": "2024-02-02T00:00:00+00:00"}, label={"task": task})
    assert result.outcome is None
    assert (result.error.type, result.error.retry) == ("DataError", "never")
    assert words in result.error.message and "allowed: " in result.error.message


def test_predictions_that_are_no_numbers_are_not_measured(send):
    table = features(1)
    for wrong in (np.nan, np.inf, 1e200):
        guess = np.where(np.arange(table.num_rows) < 5, wrong, 0.3)
        given = [("predictions", predictions(table, guess)), ("features", table), ("evaluation", holdout(1))]
        result = send("performance", given, {"as_of": "2024-02-02T00:00:00+00:00"})
        assert result.error.type == "DataError" and "5 of 3000 predictions are no numbers" in result.error.message


def test_a_month_end_is_known_when_the_training_set_would_know_it(job):
    """Given labels a month later, seen on the last of February: those of 29 to 31 January's midnight are known."""
    table = features(1, days=60)
    month = {"known_after": "P1M"}
    seen = performance(job, table, predictions(table, 0.3), 0.6, as_of="2024-02-29T00:00:00+00:00", label=month)
    # 29 January's first minute and all days before; and the first minute of 30 and of 31 January
    assert seen.facts["labelled"] == 28 * 100 + 3


def test_labels_whose_type_changed_between_partitions_are_one_label(job, send):
    first, second = features(1), features(2, begin=datetime(2024, 2, 1, tzinfo=UTC))
    scored = [("predictions", predictions(t, 0.3)) for t in (first, second)]
    june = {"as_of": "2024-06-01T00:00:00+00:00"}
    floats = labelled(second, second["late"].cast(pa.float64()))
    given = [*scored, ("features", first), ("features", floats), ("evaluation", holdout(0.6))]
    assert job("performance", given, june).outcome.facts["labelled"] == 6000

    texts = labelled(second, second["late"].cast(pa.string()))
    given = [*scored, ("features", first), ("features", texts), ("evaluation", holdout(0.6))]
    result = send("performance", given, june)
    assert result.error.type == "DataError" and "late has incompatible types: int64 vs string" in result.error.message


def test_a_former_model_of_another_task_is_left_out_and_no_hindrance(job):
    first, second = features(1), features(2, begin=datetime(2024, 2, 1, tzinfo=UTC))
    other = predictions(first, 0.3, digest="sha256:" + "2" * 64)
    other = other.set_column(2, "prediction", pa.array(["late"] * 3000))
    given = [("predictions", other), ("predictions", predictions(second, 0.3)), ("features", first),
             ("features", second), ("evaluation", holdout(0.6))]  # fmt: skip
    facts = job("performance", given, {"as_of": "2024-06-01T00:00:00+00:00"}).outcome.facts
    assert (facts["rows"], facts["left_out"], facts["labelled"]) == (6000, 3000, 3000)


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


def test_drift_knows_labels_of_a_month_end_when_performance_does(job, champion):
    """Given labels a month later, then those of 31 January are known on 29 February, which no month before it says."""
    table = features(2, base=0.8, begin=datetime(2024, 1, 31, tzinfo=UTC), days=1, per_day=600)
    table = table.set_column(1, "event_timestamp", pa.array([datetime(2024, 1, 31)] * 600, pa.timestamp("us", "UTC")))
    given = [("model", champion), ("current", table)]
    for as_of, judged in (("2024-02-29T00:00:00+00:00", True), ("2024-02-28T23:59:59+00:00", False)):
        facts = job("drift", given, {"as_of": as_of}, label={"known_after": "P1M"}).outcome.facts
        assert ("label" in facts) is judged


def test_labels_that_are_not_yet_known_are_not_judged(job, champion):
    table = features(2, base=0.8, begin=LATER)
    early = {"as_of": "2024-03-01T00:00:00+00:00"}
    facts = job("drift", [("model", champion), ("current", table)], early).outcome.facts
    assert "label" not in facts


def test_a_column_that_went_empty_is_broken(job, champion):
    table = features(2, begin=LATER)
    table = table.set_column(2, "amount", pa.array([None] * table.num_rows, pa.float64()))
    assert drift(job, champion, table).outcome.facts["broken"] == {"amount": "empty"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.set_column(2, "amount", t["amount"].cast(pa.string())), "was a number in the reference, is a cat"),
        (lambda t: t.drop_columns(["amount"]), "the window lacks a watched column"),
        (lambda t: t.rename_columns(["Amount" if n == "amount" else n for n in t.column_names]), "the window lacks a"),
    ],
    ids=["type", "gone", "renamed"],
)
def test_a_changed_schema_ends_the_check_and_is_no_drift(send, job, champion, change, words):
    """Whoever decides finds no outcome, so nothing can retrain on it."""
    window = change(features(2, begin=LATER, shift=3.0))

    result = send("drift", [("model", champion), ("current", window)], AS_OF)

    assert (result.outcome, result.error.type, result.error.retry) == (None, "DataError", "never")
    assert words in result.error.message


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
