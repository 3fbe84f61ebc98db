"""The page: Evidently's own numbers are the check's, nothing is loaded or run, private values are not in it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from support.drift_streams import EVIL, compare, days, sketch

from millrace.drift.report import _name, evidently, page


@pytest.fixture(scope="module")
def reference():
    return sketch(*days(0, gaps=0.02))


@pytest.mark.parametrize("public", [lambda c: True, lambda c: False], ids=["public", "private"])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_evidently_computes_the_scores_that_were_judged(shift, public):
    # Given numbers of every scale: tiny ones are below the deviation that Evidently divides by at least
    def scaled(seed, **more):
        table, keys = days(seed, gaps=0.02, **more)
        return table.append_column("tiny", pa.array(table["count"].to_numpy() * 1e-6)), keys

    table, keys = scaled(0)
    made = sketch(table, keys, features=["amount", "count", "city", "vip", "tiny"], public=public)
    found = compare(made, *scaled(1, count=30, shift=shift))
    judged = {_name(j): j for items in found.judged.values() for j in items}
    seen = {m["config"]["column"]: m for m in evidently(judged).dict()["metrics"]}
    assert seen.keys() == judged.keys() and len(seen) == 8  # one more for amount's gaps
    for name, one in judged.items():
        assert float(seen[name]["value"]) == pytest.approx(one.score, abs=1e-9), name
        assert seen[name]["config"]["method"] == one.item.method
        assert seen[name]["config"]["threshold"] == one.threshold


@pytest.mark.parametrize("far", [1e200, np.inf])
def test_a_page_with_an_outlier_on_both_sides_shows_the_score_that_was_judged(far):
    def outlying(seed, **more):
        table, keys = days(seed, **more)
        values = table["amount"].to_numpy().copy()
        values[:2] = far, -far
        return table.set_column(0, "amount", pa.array(values)), keys

    found = compare(sketch(*outlying(0)), *outlying(1, count=30, shift=1.0), columns=["amount"])
    assert found.drifted("amount")
    (metric,) = evidently({"amount": found.judged["amount"][0]}).dict()["metrics"]
    assert float(metric["value"]) == pytest.approx(found.judged["amount"][0].score, abs=1e-9)


def test_the_page_says_what_the_check_says(reference):
    text = page(compare(reference, *days(1, count=30, shift=1.0, gaps=0.02)), "shop: 2024-03")
    assert "shop: 2024-03" in text and "What moved" in text
    # Evidently's words for each of the six columns, and for the gaps of one
    assert text.count("Data drift detected") == 2 and text.count("Data drift not detected") == 5
    still = page(compare(reference, *days(2, count=30, gaps=0.02)), "shop")
    assert "Data drift detected" not in still and "What moved" not in still


def test_the_page_loads_nothing_and_runs_no_value():
    def evil(seed):
        table, keys = days(seed, cities=(EVIL, "Rome"))
        return table, keys

    text = page(compare(sketch(*evil(0)), *evil(1)), EVIL)
    assert EVIL not in text
    assert "default-src 'none'" in text
    assert 'src="http' not in text and "src='http" not in text


def test_a_hostile_column_name_is_inert():
    tables = [days(n) for n in (0, 1)]
    renamed = [(t.rename_columns([EVIL, *t.column_names[1:]]), k) for t, k in tables]
    found = compare(sketch(*renamed[0], features=[EVIL]), *renamed[1], columns=[EVIL])
    assert EVIL in found.judged and EVIL not in page(found, "x")


def test_values_of_private_columns_are_not_shown():
    table, keys = days(0)
    moved = days(1, shift=1.0, cities=("Rome", "Rome", "Oslo"))
    private = page(compare(sketch(table, keys, public=lambda c: False), *moved), "x")
    assert "Rome" not in private and "category 1" in private
    points = [f"{p:.6g}" for p in sketch(table, keys).find("amount").points]
    assert not any(point in private for point in points if len(point) > 5)
    assert "Rome" in page(compare(sketch(table, keys), *moved), "x")


def test_a_window_with_nothing_to_compare_has_a_page():
    table, keys = days(0)
    empty = table.set_column(0, "amount", pa.array([None] * table.num_rows, pa.float64()))
    text = page(compare(sketch(empty, keys), empty, keys, columns=["amount"]), "x")
    assert "No column could be compared" in text and "default-src 'none'" in text
