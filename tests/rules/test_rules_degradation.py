"""The degradation test keeps its stated false-alarm rate on synthetic streams, and sees what is there to be seen.

The streams have the shape of a monthly window: some thirty days of unequal size whose mean losses depend on the day
before (AR(1)), against a reference of days held out here and there. They fix the default policy; no real data do.
"""

from __future__ import annotations

import numpy as np
import pytest

from millrace.rules.degradation import MINIMUM_BLOCKS, degradation, student

RATE = 0.01
STREAMS = 1500


def days(rng, count, *, mean=0.5, spread=0.08, memory=0.4, drift=0.0):
    """Blocks of `count` days: AR(1) day effects around `mean`, 600 to 1,200 rows each."""
    effect, blocks = rng.normal() * spread, {}
    for day in range(count):
        effect = memory * effect + np.sqrt(1 - memory**2) * rng.normal() * spread
        rows = int(rng.integers(600, 1200))
        loss = mean + effect + drift * day / count + rng.normal() * 0.6 / np.sqrt(rows)
        blocks[f"{day:03d}"] = (loss * rows, rows)
    return blocks


def alarms(seed, memory, worse=0.0, drift=0.0):
    rng, count = np.random.default_rng(seed), 0
    for _ in range(STREAMS):
        reference = days(rng, 60, memory=memory * 0.2)  # scattered days hardly know each other
        count += bool(
            degradation(days(rng, 30, memory=memory, mean=0.5 + worse, drift=drift), reference, RATE).degraded
        )
    return count / STREAMS


@pytest.mark.parametrize("memory", [0.0, 0.3, 0.5])
def test_false_alarms_on_a_still_stream_stay_at_the_stated_rate(memory):
    # Given windows no worse than the reference; twice the rate is the tolerance for thirty dependent days
    assert alarms(1, memory) <= 2 * RATE


def test_a_test_over_rows_would_cry_wolf():
    """What the blocks are for: a row-wise interval on the same still streams alarms far above its rate."""
    rng, count = np.random.default_rng(2), 0
    for _ in range(300):
        window, reference = days(rng, 30), days(rng, 60, memory=0.1)
        rows_a, rows_b = (sum(b[1] for b in blocks.values()) for blocks in (window, reference))
        mean_a = sum(b[0] for b in window.values()) / rows_a
        mean_b = sum(b[0] for b in reference.values()) / rows_b
        count += (mean_a - mean_b) / (0.6 * np.sqrt(1 / rows_a + 1 / rows_b)) > 2.33
    assert count / 300 > 0.2


def test_a_sudden_degradation_is_found():
    assert alarms(3, 0.3, worse=0.10) > 0.9


def test_a_gradual_degradation_is_found_within_three_windows():
    # Given losses that creep up by a tenth of the usual loss each month
    rng, found = np.random.default_rng(4), 0
    for _ in range(300):
        reference = days(rng, 60, memory=0.1)
        windows = [days(rng, 30, memory=0.3, mean=0.5 + 0.05 * month, drift=0.05) for month in range(3)]
        found += any(degradation(window, reference, RATE).degraded for window in windows)
    assert found / 300 > 0.9


def test_an_improvement_is_no_degradation():
    assert alarms(5, 0.3, worse=-0.05) == 0


def test_too_few_blocks_give_no_answer():
    rng = np.random.default_rng(6)
    found = degradation(days(rng, MINIMUM_BLOCKS - 1, mean=5), days(rng, 60), RATE)
    assert found.degraded is None and found.bound is None and found.excess > 4


def test_equal_losses_everywhere_are_no_degradation():
    still = {f"{d:02d}": (50.0, 100) for d in range(20)}
    assert degradation(still, still, RATE).degraded is False
    worse = {f"{d:02d}": (60.0, 100) for d in range(20)}
    assert degradation(worse, still, RATE).degraded is True


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [(0.99, 4, 3.747), (0.99, 10, 2.764), (0.99, 30, 2.457), (0.95, 20, 1.725), (0.99, 1e9, 2.326)],
)
def test_students_quantile_agrees_with_the_tables(probability, freedom, expected):
    assert student(probability, freedom) == pytest.approx(expected, rel=0.02)
