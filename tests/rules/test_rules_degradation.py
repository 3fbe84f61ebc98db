"""The degradation test keeps its stated false-alarm rate on synthetic streams, and sees what is there to be seen.

The streams are those of bench/drift_memory.py: days of unequal size whose mean losses remember the day before, against
a reference of days held out here and there. They fix the default policy; no real data do.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench.drift_memory import BLOCKS, MEMORIES, RATE, alarms, blocks, streams
from millrace.rules.blocks import MINIMUM_BLOCKS, remembering, student
from millrace.rules.degradation import degradation

DOC = Path(__file__).parents[2] / "docs" / "drift.md"


def days(rng, count, *, memory=0.4, worse=0.0, drift=0.0):
    """A stream of `count` days whose mean loss is `worse` and grows by `drift` until its end."""
    stream = streams(rng, 1, count, memory)
    stream[0] += stream[1] * (worse + drift * np.arange(count) / count)
    return blocks(stream[:, 0])


def stated():
    """The table of the docs: (days, memory) -> rate without cause, share found."""
    table = {}
    for line in DOC.read_text().splitlines():
        cells = re.findall(r"([0-9.]+)% \(([0-9]+)%\)", line)
        if len(cells) == len(MEMORIES):
            row = int(line.split("|")[1])
            table |= {(row, m): (float(a) / 100, float(b) / 100) for m, (a, b) in zip(MEMORIES, cells, strict=True)}
    return table


def test_the_stated_table_is_whole_and_keeps_the_rate_up_to_the_memory_that_is_assumed():
    table = stated()
    assert set(table) == {(d, m) for d in BLOCKS for m in MEMORIES} and min(BLOCKS) == MINIMUM_BLOCKS
    assert all(rate <= 1.5 * RATE for (_, memory), (rate, _) in table.items() if memory <= 0.6)


@pytest.mark.parametrize(("count", "memory"), [(5, 0.6), (7, 0.0), (7, 0.6), (14, 0.6), (30, 0.3), (30, 0.6)])
def test_alarms_without_cause_are_as_rare_as_stated(count, memory):
    # Given fewer streams than the table has: at 2,000 the rate of 1 % has a standard error of 0.2 %
    assert alarms(count, memory, 2000, seed=2) == pytest.approx(stated()[count, memory][0], abs=0.006)


@pytest.mark.parametrize(("count", "memory"), [(7, 0.0), (7, 0.6), (14, 0.6)])
def test_a_degradation_is_found_as_often_as_stated(count, memory):
    assert alarms(count, memory, 500, worse=0.2, seed=2) == pytest.approx(stated()[count, memory][1], abs=0.07)


def test_a_test_over_rows_would_cry_wolf():
    """What the blocks are for: a row-wise interval on the same still streams alarms far above its rate."""
    rng = np.random.default_rng(2)
    (loss_a, rows_a), (loss_b, rows_b) = (streams(rng, 300, n, 0.4).sum(axis=2) for n in (30, 60))
    away = (loss_a / rows_a - loss_b / rows_b) / (0.6 * np.sqrt(1 / rows_a + 1 / rows_b))
    assert (away > 2.33).mean() > 0.2


def test_a_sudden_degradation_of_a_fifth_of_the_loss_is_found_within_a_month():
    assert alarms(30, 0.3, 500, worse=0.10, seed=3) > 0.85


def test_a_gradual_degradation_is_found_within_three_windows():
    # Given losses that creep up by a tenth of the usual loss each month
    rng, found = np.random.default_rng(4), 0
    for _ in range(200):
        reference = days(rng, 60, memory=0.1)
        windows = [days(rng, 30, memory=0.3, worse=0.05 * month, drift=0.05) for month in range(3)]
        found += any(degradation(window, reference, RATE).degraded for window in windows)
    assert found / 200 > 0.9


def test_an_improvement_is_no_degradation():
    assert alarms(30, 0.3, 500, worse=-0.05, seed=5) == 0


def test_too_few_blocks_on_either_side_give_no_answer():
    rng = np.random.default_rng(6)
    few, many = days(rng, MINIMUM_BLOCKS - 1, worse=5), days(rng, 60)
    found = degradation(few, many, RATE)
    assert found.degraded is None and found.bound is None and found.excess > 4
    assert degradation(many, few, RATE).degraded is None
    assert degradation(days(rng, MINIMUM_BLOCKS, worse=5), many, RATE).degraded is True


def test_equal_losses_everywhere_are_no_degradation():
    still = {f"{d:02d}": (50.0, 100) for d in range(20)}
    assert degradation(still, still, RATE).degraded is False
    worse = {f"{d:02d}": (60.0, 100) for d in range(20)}
    assert degradation(worse, still, RATE).degraded is True


@pytest.mark.parametrize("freedom", [2.3, 4, 10, 30, 1e9])
def test_students_quantile_is_that_of_scipy(freedom):
    for probability in (0.6, 0.95, 0.99, 0.999):
        assert student(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-3)


@pytest.mark.parametrize(("count", "memory"), [(5, 0.0), (7, 0.6), (30, 0.3), (30, 0.9)])
def test_widening_and_freedom_are_those_of_an_autoregression(count, memory):
    # Given many streams, the usual variance of their means, and how much their means really vary
    made = np.random.default_rng(7).normal(size=(20_000, count))
    for day in range(1, count):
        made[:, day] = memory * made[:, day - 1] + np.sqrt(1 - memory**2) * made[:, day]
    usual = made.var(axis=1, ddof=1) / count
    widening, freedom = remembering(count, memory)
    assert widening == pytest.approx(made.mean(axis=1).var() / usual.mean(), rel=0.05)
    assert freedom == pytest.approx(2 * usual.mean() ** 2 / usual.var(), rel=0.05)
