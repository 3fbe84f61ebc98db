"""fairness: groups are compared as Fairlearn does, and a gap that is too large keeps a model from being registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.judged import Judging, blocked, grouped_rows, passing
from support.learning import rows

from millrace.models.files import load
from millrace.spec.model_checks import FAIRNESS


def asked(**keys: Any) -> dict[str, Any]:
    return {"type": "fairness", "columns": ["carrier"], "metric": "selection_rate", "decision": 0.5, "minimum_rows": 30,
            **keys}  # fmt: skip


def held(judging: Judging) -> tuple[pa.Table, np.ndarray]:
    """The held out rows and their predictions, found again by hand."""
    model = load(judging.world.objects, judging.model.uri, judging.model.digest)
    mask, _ = model.card.holdout.mask(judging.table["event_timestamp"])
    part = judging.table.filter(pa.array(mask))
    return part, model.predict(part)


def test_a_gap_between_groups_blocks_the_model_and_says_which(tmp_path: Path) -> None:
    judging = Judging(tmp_path, asked(max_difference=0.1, min_ratio=0.8), table=grouped_rows())
    outcome = blocked(
        judging, "fairness", "difference of selection_rate between groups of carrier is", "it must be at most 0.1",
        "ratio of selection_rate between groups of carrier is", "it must be at least 0.8",
    )  # fmt: skip
    (fact,) = outcome.facts["fairness"]
    assert judging.document(outcome)["fairness"] == [fact]
    # and the numbers are those of the rows
    part, prediction = held(judging)
    carriers = np.array(part["carrier"].to_pylist())
    rates = {name: float((prediction[carriers == name] >= 0.5).mean()) for name in ("AA", "B6", "UA", "WN")}
    assert {g["group"]: g["value"] for g in fact["groups"]["carrier"]} == pytest.approx(rates)
    difference, ratio = fact["figures"]
    assert difference["value"] == pytest.approx(max(rates.values()) - min(rates.values()))
    assert ratio["value"] == pytest.approx(min(rates.values()) / max(rates.values()))
    assert difference["low"] < difference["value"] < difference["high"] and difference["max"] == 0.1


def test_groups_that_are_alike_pass(tmp_path: Path) -> None:
    _, said = passing(Judging(tmp_path, asked(max_difference=0.3), table=grouped_rows(gap=0)), "fairness")
    assert len(said) == 1


def test_a_small_group_is_named_and_not_compared(tmp_path: Path) -> None:
    # given twelve rows of a carrier that is always late
    table = grouped_rows(gap=0)
    carrier = np.array(table["carrier"].to_pylist(), dtype=object)
    carrier[::250] = "ZZ"
    table = table.set_column(table.column_names.index("carrier"), "carrier", pa.array(carrier.tolist()))
    outcome, _ = passing(Judging(tmp_path, asked(max_difference=0.3), table=table), "fairness")
    small = [group for group in outcome.facts["fairness"][0]["groups"]["carrier"] if not group["compared"]]
    assert [(group["group"], group["value"]) for group in small] == [("ZZ", None)]


def test_groups_are_numbered_where_the_column_is_not_public(tmp_path: Path) -> None:
    judging = Judging(tmp_path, asked(max_difference=0.01), table=grouped_rows(), columns={"carrier": "internal"})
    outcome = blocked(judging, "fairness", "groups of carrier")
    text = outcome.model_dump_json()
    assert "group 1" in text and '"UA"' not in text


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"minimum_rows": 100_000, "max_difference": 1}, "fewer than two groups of 'carrier'"),
        ({"columns": ["gone"], "max_difference": 1}, "the training set has no column 'gone'"),
    ],
)
def test_a_comparison_that_cannot_be_made_fails(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    outcome = blocked(Judging(tmp_path, asked(**keys)), "fairness", "fairness could not be computed", words)
    assert words in outcome.facts["fairness"][0]["error"]


def test_predictions_that_are_not_numbers_cannot_be_fair(tmp_path: Path) -> None:
    from millrace.core.errors import DataError
    from millrace.evaluation.checks import Subject, fairness
    from millrace.evaluation.measure import measure
    from millrace.spec.model_checks import FairnessCheck

    judging = Judging(tmp_path)
    model = load(judging.world.objects, judging.model.uri, judging.model.digest)
    measured = measure(model, judging.table, seed=7)
    measured.prediction[3] = np.nan
    with pytest.raises(DataError, match="not all numbers"):
        fairness.run(FairnessCheck(**asked(max_difference=1)), Subject(model, measured, None, 7))


@pytest.mark.parametrize(
    ("task", "metric"), [(task, metric) for task, metrics in FAIRNESS.items() for metric in metrics]
)
def test_fairlearns_groups_are_those_that_intervals_are_made_of(tmp_path: Path, task: str, metric: str) -> None:
    """MetricFrame gives the value, sums of blocks the interval: both speak of the same numbers."""
    from millrace.evaluation.checks import Subject, fairness
    from millrace.evaluation.groups import groups_of
    from millrace.evaluation.measure import measure
    from millrace.spec.model_checks import FairnessCheck

    judging = Judging(tmp_path, task=task, table=rows(1500, task=task))
    model = load(judging.world.objects, judging.model.uri, judging.model.digest)
    measured = measure(model, judging.table, seed=7)
    check = FairnessCheck(**asked(metric=metric, max_difference=9, minimum_rows=2))
    subject = Subject(model, measured, None, 7, public=lambda column: True)
    judged = fairness.run(check, subject)
    groups = groups_of(measured.rows, "carrier", subject.public)
    made = fairness._measured(check, subject)
    ratios = made.ratio(*(np.bincount(groups.index, weights=part) for part in (made.above, made.below)))
    values = [group["value"] for group in judged.facts["fairness"]["groups"]["carrier"]]
    assert values == pytest.approx(ratios.tolist(), rel=1e-6)
    assert judged.facts["fairness"]["figures"][0]["value"] == pytest.approx(np.ptp(ratios), rel=1e-6)


def test_groups_may_be_of_a_column_that_no_model_learns_from(tmp_path: Path) -> None:
    # given a column beside the features, as build_training_set keeps it
    table = grouped_rows()
    origin = pa.array(np.where(np.array(table["carrier"].to_pylist()) == "UA", "EWR", "JFK").tolist())
    table = table.append_column("group__origin", origin)
    judging = Judging(tmp_path, asked(columns=["origin"], max_difference=0.1), table=table)
    card = load(judging.world.objects, judging.model.uri, judging.model.digest).card
    assert "group__origin" not in [feature.name for feature in card.encoder.features]
    blocked(judging, "fairness", "groups of origin")
