"""The drift report: no cry of wolf, broken columns named, private and hostile values inert."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from millrace.drift.report import build, sample

EVIL = "<script>alert(1)</script>"


def stream(seed, rows=3000, *, shift=0.0, cities=("Rome", "Oslo", "Bern"), evil=False):
    rng = np.random.default_rng(seed)
    names = list(cities)
    return pa.table(
        {
            "amount": rng.normal(10 + shift, 2, rows),
            "count": rng.integers(0, 5, rows),
            "city": [EVIL if evil and n % 3 == 0 else names[n % len(names)] for n in rng.integers(0, 300, rows)],
        }
    )


def everything(column):
    return True


def test_a_still_stream_does_not_drift():
    for seed in range(5):
        found = build(stream(0, 20_000), stream(seed + 1, 1000), ["amount", "count", "city"], everything)
        assert found.share == 0, found.columns


def test_a_shift_is_seen_in_its_column_only():
    found = build(stream(0), stream(1, shift=1.0), ["amount", "count", "city"], everything)
    assert [c for c, v in found.columns.items() if v["drifted"]] == ["amount"]
    assert found.columns["amount"]["method"] == "wasserstein"


def test_new_categories_are_folded_and_seen():
    found = build(stream(0), stream(1, cities=("Riga", "Kyiv", "Bern")), ["city"], everything)
    assert found.columns["city"]["drifted"]


@pytest.mark.parametrize("values", [[None] * 3000, [1.0] * 3000])
def test_a_column_that_went_empty_or_stuck_is_broken(values):
    after = stream(1)
    after = after.set_column(0, "amount", pa.array(values, pa.float64()))
    assert build(stream(0), after, ["amount", "city"], everything).broken == ["amount"]


def test_a_column_that_was_empty_before_is_not_broken_now():
    empty = stream(0).set_column(0, "amount", pa.array([None] * 3000, pa.float64()))
    found = build(empty, empty, ["amount", "city"], everything)
    assert found.broken == [] and set(found.columns) == {"city"}


def test_the_page_loads_nothing_and_runs_no_value():
    found = build(stream(0, evil=True), stream(1, evil=True), ["amount", "city"], everything)
    assert EVIL not in found.page
    assert "default-src 'none'" in found.page
    assert 'src="http' not in found.page and "src='http" not in found.page


def test_a_hostile_column_name_is_inert():
    before, after = (stream(n).rename_columns([EVIL, "count", "city"]) for n in (0, 1))
    found = build(before, after, [EVIL], everything)
    assert EVIL in found.columns and EVIL not in found.page


def test_values_of_private_columns_are_codes():
    found = build(stream(0), stream(1), ["amount", "city"], lambda column: column != "city")
    assert "Rome" not in found.page and "category 1" in found.page
    assert "Rome" in build(stream(0), stream(1), ["city"], everything).page


def test_a_sample_is_the_same_every_time():
    table = stream(0)
    assert sample(table, 100, 7).equals(sample(table, 100, 7))
    assert not sample(table, 100, 7).equals(sample(table, 100, 8))
    assert sample(table, 5000, 7) is table
