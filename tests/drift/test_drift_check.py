"""The check: no cry of wolf, what moved is named and weighed, what is broken is told from what drifted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from support.drift_streams import compare, days, sketch

from millrace.core.errors import DataError


@pytest.fixture(scope="module")
def reference():
    return sketch(*days(0, count=120))


def window(seed, **changes):
    return days(seed, **{"count": 30, **changes})


def moved(found):
    return [name for name in found.judged if found.drifted(name)]


def test_a_still_stream_does_not_drift(reference):
    alarms = [moved(compare(reference, *window(seed))) for seed in range(1, 41)]
    assert sum(map(bool, alarms)) <= 2, alarms  # one in a hundred windows; a test of rows alarms on every one


def test_fixed_thresholds_would_cry_wolf_on_the_same_windows(reference):
    """What the calibration is for: 0.1, Evidently's own, is passed by the days' own level again and again."""
    scores = [compare(reference, *window(seed)).judged["amount"][0].score for seed in range(1, 41)]
    assert sum(score >= 0.1 for score in scores) > 5


def test_a_shift_is_seen_in_its_column_and_in_the_prediction(reference):
    found = compare(reference, *window(1, shift=1.0))
    assert moved(found) == ["amount", "(prediction)"]
    assert found.share == 0.25
    cause = found.causes()[0]
    assert (cause["column"], cause["part"], cause["weight"]) == ("amount", 1.0, 0.25)
    assert cause["segments"][0]["after"] > cause["segments"][0]["before"]


def test_a_small_window_is_judged_at_its_own_size(reference):
    few = [moved(compare(reference, *window(seed, per_day=20))) for seed in range(1, 21)]
    assert sum(map(bool, few)) <= 2, few
    wide = compare(reference, *window(1, per_day=20)).judged["city"][0].threshold
    assert wide > compare(reference, *window(1, per_day=100)).judged["city"][0].threshold


def test_new_categories_are_seen_and_counted(reference):
    found = compare(reference, *window(1, cities=("Riga", "Kyiv", "Bern")))
    assert "city" in moved(found)
    assert found.columns()["city"]["new_categories"] == pytest.approx(2 / 3, abs=0.03)


def test_what_the_model_does_not_use_weighs_nothing():
    table, keys = days(0, count=120)
    made = sketch(table, keys, importance={"amount": 0.0, "count": 1.0, "city": 1.0, "vip": 0.0})
    found = compare(made, *window(1, shift=1.0))
    assert "amount" in moved(found) and found.share == 0.0


def test_causes_come_by_weight_times_distance():
    table, keys = days(0, count=120)
    made = sketch(table, keys, importance={"amount": 1.0, "count": 1.0, "city": 8.0, "vip": 0.0})
    found = compare(made, *window(1, shift=0.6, cities=("Rome", "Rome", "Oslo", "Bern")))
    assert [c["column"] for c in found.causes()] == ["city", "amount"]
    assert sum(c["part"] for c in found.causes()) == pytest.approx(1)
    assert found.causes()[0]["segments"][0]["segment"] == "Rome"


def test_segments_of_private_columns_show_no_value():
    table, keys = days(0, count=120)
    made = sketch(table, keys, public=lambda column: False)
    found = compare(made, *window(1, shift=1.0, cities=("Rome", "Rome", "Oslo")))
    text = str(found.causes())
    assert "category" in text and "part " in text and "Rome" not in text and "." not in text.split("segment")[1][:20]


def test_what_is_not_public_any_more_is_judged_alike_and_not_shown(reference):
    moved_window = window(1, shift=1.0, cities=("Rome", "Rome", "Oslo"))
    before = compare(reference, *moved_window)
    after = compare(reference.shown(lambda column: column != "city"), *moved_window)
    assert [j.facts() for j in after.judged["city"]] == [j.facts() for j in before.judged["city"]]
    assert "Rome" in str(before.causes()) and "Rome" not in str(after.causes())


def test_missing_values_that_were_not_there_drift(reference):
    found = compare(reference, *window(1, gaps=0.2))
    facts = found.columns()["amount"]
    assert facts["missing"] == pytest.approx(0.2, abs=0.02) and facts["missing_before"] == 0
    assert facts["missing_drift"]["drifted"] and facts["drifted"]


def test_out_of_range_numbers_are_counted(reference):
    found = compare(reference, *window(1, shift=2.0))
    assert 0 < found.columns()["amount"]["out_of_range"] < 0.5 and not found.broken


def outlying(made, far):
    """The same rows with one far value of `amount` among them."""
    table, keys = made
    values = table["amount"].to_numpy().copy()
    values[len(values) // 2] = far
    return table.set_column(0, "amount", pa.array(values)), keys


@pytest.mark.parametrize("far", [1e6, -1e6, 1e200, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["reference", "window", "both"])
def test_one_outlier_hides_no_shift_and_is_none(side, far):
    before, still, moving = days(0, count=120), window(1), window(1, shift=1.0)
    if side != "window":
        before = outlying(before, far)
    if side != "reference":
        still, moving = outlying(still, far), outlying(moving, far)
    made = sketch(*before, features=["amount"])
    assert moved(compare(made, *still, columns=["amount"])) == []
    assert moved(compare(made, *moving, columns=["amount"])) == ["amount"]


def test_one_outlier_among_few_values_hides_no_shift():
    # Given numbers of few values each, 0 to 4, and a glitch
    table, keys = days(0, count=120)
    values = table["count"].to_numpy().copy()
    values[7] = 1_000_000
    made = sketch(table.set_column(1, "count", pa.array(values)), keys)
    later, new = window(1)
    higher = np.minimum(later["count"].to_numpy() + 1, 4)
    assert moved(compare(made, later, new, columns=["count"])) == []
    assert moved(compare(made, later.set_column(1, "count", pa.array(higher)), new, columns=["count"])) == ["count"]


def test_rare_values_of_an_all_but_constant_column_keep_their_distance():
    table, keys = days(0, count=120)
    rare = np.where(np.arange(table.num_rows) % 250 == 0, 5.0, 0.0)
    column = sketch(table.set_column(0, "amount", pa.array(rare)), keys).find("amount")
    assert column.points == (0.0, 5.0)


def test_nan_is_a_missing_value(reference):
    table, keys = window(1, gaps=0.2)
    absent = table.set_column(0, "amount", pa.array(table["amount"].to_numpy()))  # NaN where null
    assert absent["amount"].null_count == 0 < table["amount"].null_count
    answers = [compare(reference, t, keys, columns=["amount"]).columns() for t in (table, absent)]
    assert answers[0] == answers[1] and answers[0]["amount"]["missing"] > 0.15
    trained, seen = days(0, count=120, gaps=0.1)
    gaps = trained.set_column(0, "amount", pa.array(trained["amount"].to_numpy()))
    assert sketch(gaps, seen).find("amount") == sketch(trained, seen).find("amount")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda v: pa.array([None] * len(v), pa.float64()), "empty"),
        (lambda v: pa.array([None] * len(v), pa.null()), "empty"),
        (lambda v: pa.array([9.5] * len(v)), "stuck at one value"),
        (lambda v: pa.array([9.5] * (len(v) - 1) + [np.nan]), "stuck at one value"),
        (lambda v: pa.array([np.nan] * len(v)), "empty"),
        (lambda v: pa.array([x if n % 3 else None for n, x in enumerate(v.to_pylist())]), None),
        (lambda v: pa.array([x if n % 3 == 0 else None for n, x in enumerate(v.to_pylist())]), "mostly missing"),
        (lambda v: pa.array(np.array(v) * 100), "almost only values that were never seen"),
    ],
    ids=["empty", "without a type", "stuck", "stuck but for a NaN", "NaN", "a third missing", "mostly missing",
         "another unit"],
)  # fmt: skip
def test_broken_columns_are_named(reference, change, why):
    table, keys = window(1)
    found = compare(reference, table.set_column(0, "amount", change(table["amount"])), keys, columns=["amount"])
    assert found.broken == ({"amount": why} if why else {})


def test_a_column_that_is_constant_now_and_then_is_not_broken():
    # Given a column that is zero in most weeks: rain
    table, keys = days(0, count=120)
    day = np.unique(keys, return_inverse=True)[1]
    rain = np.where(day % 60 == 0, np.random.default_rng(0).exponential(1, len(day)), 0.0)
    made = sketch(table.set_column(0, "amount", pa.array(rain)), keys)
    dry, later = window(1)
    found = compare(made, dry.set_column(0, "amount", pa.array([0.0] * dry.num_rows)), later, columns=["amount"])
    assert found.broken == {}


def test_a_column_that_was_empty_before_is_not_broken_now():
    table, keys = days(0)
    empty = table.set_column(0, "amount", pa.array([None] * table.num_rows, pa.float64()))
    found = compare(sketch(empty, keys), empty, keys, columns=["amount", "city"])
    assert found.broken == {} and set(found.columns()) == {"city"}


def test_a_column_that_changed_its_kind_is_refused(reference):
    table, keys = window(1)
    wrong = table.set_column(0, "amount", table["amount"].cast(pa.string()))
    with pytest.raises(DataError, match="'amount' was a number in the reference, is a category now"):
        compare(reference, wrong, keys, columns=["amount"])


def test_with_few_rows_or_blocks_nothing_is_judged(reference):
    few = compare(reference, *window(1, shift=3.0), minimum_rows=5000)
    assert not few.enough and few.drifted("amount") is None and few.share == 0
    short = compare(sketch(*days(0, count=9)), *window(1, shift=3.0))
    assert not short.enough and short.drifted("amount") is None


def test_a_window_of_one_day_is_judged_by_days(reference):
    alarms = [moved(compare(reference, *window(seed, count=1, per_day=600))) for seed in range(1, 31)]
    assert sum(map(bool, alarms)) <= 3, alarms
    assert "amount" in moved(compare(reference, *window(1, count=1, per_day=600, shift=3.0)))
