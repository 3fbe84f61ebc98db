"""Outcomes of served predictions: by request or by entity and event time, late or corrected, never counted twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from support.shop import MODEL, OTHER, spec

from millrace.evaluation.outcomes import joined, losses, unscored
from millrace.rules.paired import paired_losses
from millrace.spec import PipelineSpec

SPEC = PipelineSpec.model_validate(spec())
DAY = datetime(2024, 3, 4, tzinfo=UTC)
UTC_US = pa.timestamp("us", "UTC")


def served(*rows: dict[str, Any]) -> pa.Table:
    fields: list[tuple[str, Any, Any]] = [
        ("request_id", pa.string(), "r"), ("row", pa.int64(), 0), ("asked", UTC_US, DAY + timedelta(days=1)),
        ("version", pa.int64(), 3), ("model_digest", pa.string(), MODEL), ("role", pa.string(), "champion"),
        ("unit", pa.string(), None), ("prediction", pa.float64(), 0.5), ("id", pa.string(), None),
        ("time.shop", UTC_US, None),
    ]  # fmt: skip
    return pa.table({name: pa.array([row.get(name, value) for row in rows], kind) for name, kind, value in fields})


def features(rows: list[tuple[Any, ...]], kind: pa.DataType = UTC_US, **more: list[Any]) -> pa.Table:
    ids, times, late = zip(*rows, strict=True)
    return pa.table(
        {"id": list(ids), "event_timestamp": pa.array(times, kind), "late": pa.array(late, pa.int64()), **more}
    )


@pytest.mark.parametrize("kind", [UTC_US, pa.timestamp("us"), pa.timestamp("ms", "Europe/Berlin"), pa.timestamp("ns")])
def test_by_entity_and_event_time(kind):
    asked = served({"id": "a", "time.shop": DAY}, {"id": "b", "time.shop": DAY}, {"id": "a", "time.shop": None}, {})
    known = features([("a", DAY, 1), ("a", DAY - timedelta(days=1), 0), ("c", DAY, 1)], kind)
    found = joined(SPEC, asked, [known])
    assert found.select(["id", "event_timestamp", "late"]).to_pylist() == [
        {"id": "a", "event_timestamp": DAY, "late": 1}
    ]


def test_by_request_before_entity():
    asked = served({"request_id": "r1", "id": "a", "time.shop": DAY}, {"request_id": "r2", "id": "a", "time.shop": DAY})
    known = features([("a", DAY, 0), ("z", DAY, 1)], request_id=[None, "r1"])
    assert joined(SPEC, asked, [known])["late"].to_pylist() == [1, 0]
    assert joined(SPEC, asked, [known])["id"].to_pylist() == ["z", "a"]


def test_rows_of_a_request_are_told_apart_only_by_their_number():
    asked = served({"request_id": "r1"}, {"request_id": "r1", "row": 1}, {"request_id": "r2"})
    known = features([("a", DAY, 1), ("b", DAY, 0)], request_id=["r1", "r2"])
    assert joined(SPEC, asked, [known])["request_id"].to_pylist() == ["r2"]
    numbered = features([("a", DAY, 1), ("b", DAY, 0)], request_id=["r1", "r1"], row=[1, 0])
    assert joined(SPEC, asked, [numbered])["late"].to_pylist() == [0, 1]


def test_late_and_corrected_outcomes_are_those_that_features_have_now():
    asked = served({"id": "a", "time.shop": DAY})
    for label in (None, 0, 1):
        (row,) = joined(SPEC, asked, [features([("a", DAY, label)])]).to_pylist()
        assert row["late"] == label
    assert joined(SPEC, asked, [features([("b", DAY, 1)])]).num_rows == 0


def test_the_latest_row_of_several_feature_views_counts():
    asked = served({"id": "a", "time.shop": DAY}).append_column(
        "time.weather", pa.array([DAY - timedelta(days=1)], UTC_US)
    )
    known = features([("a", DAY - timedelta(days=1), 0), ("a", DAY, 1)])
    assert joined(SPEC, asked, [known])["late"].to_pylist() == [1]


def test_what_was_scored_and_what_was_asked_before_is_not_counted_again():
    rows = [{"id": i, "time.shop": DAY, "request_id": str(n), "asked": DAY + timedelta(hours=9 - n), "prediction": n}
            for n, i in enumerate("abbc")]  # fmt: skip
    found = joined(SPEC, served(*rows), [features([(i, DAY, 1) for i in "abc"])])
    left = unscored(found, features([("c", DAY, 0)]).select(["id", "event_timestamp"]), ["id", "event_timestamp"])
    assert [(row["id"], row["prediction"]) for row in left.to_pylist()] == [("b", 2.0), ("a", 0.0)]


def test_losses_are_paired_by_request_in_blocks_of_outcomes():
    rows = []
    for n in range(4):
        for version, model, guess in ((3, MODEL, 0.5), (4, OTHER, 0.9)):
            rows.append({"request_id": f"r{n}", "id": f"e{n}", "time.shop": DAY + timedelta(days=n // 2),
                         "version": version, "model_digest": model, "prediction": guess})  # fmt: skip
    rows.append({"request_id": "r9", "id": "e0", "time.shop": DAY, "prediction": None})
    known = features([(f"e{n}", DAY + timedelta(days=n // 2), 1 if n < 3 else None) for n in range(4)])
    made = losses(SPEC, joined(SPEC, served(*rows), [known]), {})
    found = paired_losses(made, new=4, old=3)
    differences = {block: round(each.difference, 4) for block, each in found.items()}
    assert differences == {"2024-03-04": -0.5878, "2024-03-05": -0.5878}
    assert len(made) == 6, "neither a null prediction nor an unknown outcome is a loss"
    assert len(losses(SPEC, joined(SPEC, served(*rows), [known]), {}, as_of=DAY)) == 4
