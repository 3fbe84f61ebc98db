"""The sketch: what it keeps, how large it gets, and what it does not say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from support.drift_streams import FEATURES, days, everything, sketch

from millrace.core.canonical import canonical_json
from millrace.drift.blocks import BLOCKS, sample
from millrace.drift.sketch import BINS, PREDICTION, Sketch, make


def test_counts_of_every_block_add_up_to_its_rows():
    table, keys = days(0, count=30, gaps=0.1)
    made = sketch(table, keys)
    for name in [*FEATURES, "late"]:
        column = made.find(name)
        assert column.table().sum(axis=1).tolist() == [100 - m for m in column.missing]
    assert made.parts[0].blocks == tuple(sorted(set(keys))) and made.rows == 3000
    assert sum(made.find("amount").missing) == table["amount"].null_count > 0


def test_the_same_training_gives_the_same_bytes_and_they_come_back():
    first, second = (canonical_json(sketch(*days(0))) for _ in range(2))
    assert first == second
    assert canonical_json(Sketch.model_validate_json(first)) == first


def test_few_values_are_bins_of_their_own_and_many_are_quantiles():
    made = sketch(*days(0))
    assert made.find("count").points == (0, 1, 2, 3, 4)
    amount = made.find("amount")
    assert len(amount.points) == BINS and max(np.abs(amount.table().sum(axis=0)[:-1] - 6000 / BINS)) < 2


def test_a_value_that_half_of_the_rows_have_is_one_bin():
    table, keys = days(0)
    values = np.where(np.arange(table.num_rows) % 2, 0.0, np.random.default_rng(1).exponential(1, table.num_rows))
    made = sketch(table.set_column(0, "amount", pa.array(values)), keys).find("amount")
    assert made.table().sum(axis=0).max() >= table.num_rows / 2
    assert list(made.edges) == sorted(set(made.edges))


def test_values_of_private_columns_are_not_in_it():
    table, keys = days(0)
    text = canonical_json(sketch(table, keys, public=lambda column: column != "city")).decode()
    assert "Rome" not in text
    assert "Rome" in canonical_json(sketch(table, keys)).decode()


@pytest.mark.parametrize(("count", "block"), [(400, "day"), (401, "week"), (3000, "week")])
def test_a_long_reference_is_kept_by_weeks_and_at_last_by_the_newest(count, block):
    table, keys = days(0, count=count, per_day=2)
    made = sketch(table, keys)
    assert made.block == block and len(made.parts[0].blocks) <= BLOCKS
    assert made.parts[0].blocks[-1] >= max(keys)[:7]


def test_rare_categories_are_folded_but_known():
    table, keys = days(0)
    cities = [f"village {n}" if n < 200 else "Rome" for n in range(table.num_rows)]
    column = sketch(table.set_column(2, "city", pa.array(cities)), keys).find("city")
    assert column.categories == ("Rome",) and len(column.known) == 201
    assert column.table()[:, -1].sum() == 200


def test_a_year_of_a_wide_table_stays_small():
    rng = np.random.default_rng(0)
    keys = np.repeat([f"2023-{d:03d}" for d in range(365)], 20)
    table = pa.table({f"c{n}": rng.normal(size=len(keys)) for n in range(20)})
    made = make(table, keys, block="day", features=table.column_names[:-1], label="c19",
                predictions=(rng.random(400), keys[:400]), importance={}, public=everything)  # fmt: skip
    assert len(canonical_json(made)) < 1_000_000
    assert made.find(PREDICTION) is not None


def test_importance_is_shares_and_never_negative():
    made = sketch(*days(0), importance={"amount": 3.0, "count": 1.0, "city": -0.5, "vip": 0.0})
    assert made.importance == {"amount": 0.75, "count": 0.25, "city": 0.0, "vip": 0.0}


def test_a_sample_is_the_same_every_time():
    table = days(0)[0]
    assert sample(table, 100, 7).equals(sample(table, 100, 7))
    assert not sample(table, 100, 7).equals(sample(table, 100, 8))
    assert sample(table, 10_000, 7) is table
