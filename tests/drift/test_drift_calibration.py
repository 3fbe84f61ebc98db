"""Thresholds keep their rate on streams whose days remember, and Evidently's distances are reproduced."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon as scipy_jensenshannon
from scipy.stats import wasserstein_distance
from support.drift_streams import compare, days, sketch

from bench.drift_sizes import rates
from millrace.drift.calibration import FLOOR, STILL, draw, effective, resampled, thresholds
from millrace.drift.distances import jensenshannon, norm_of, wasserstein, whole
from millrace.drift.items import Item


@pytest.mark.parametrize("memory", [0.0, 0.4])
def test_false_alarms_over_all_columns_stay_near_the_rate(memory):
    # Given references of their own, so that one that lies apart by chance counts once
    alarms, windows = 0, 0
    for seed in range(14):
        reference = sketch(*days(seed, count=90, per_day=60, memory=memory))
        for later in range(2):
            found = compare(reference, *days(1000 + 2 * seed + later, count=30, per_day=60, memory=memory))
            alarms, windows = alarms + any(found.drifted(n) for n in found.judged), windows + 1
    assert windows == 28 and alarms <= 3  # at one in a hundred, two to three where days remember


@pytest.mark.parametrize(("sizes", "level", "shift"), [((500, 20), 0.0, 0.2), ((20, 500), 0.0, 0.4),
                                                       ((500, 20), 0.3, 1.0), ((20, 500), 0.3, 1.0)])  # fmt: skip
def test_a_window_with_other_numbers_of_rows_a_day_keeps_rate_and_power(sizes, level, shift):
    alarms, found = rates(sizes, 30, level, shift, references=8, each=2)
    assert alarms <= 2 / 16 and found >= 13 / 16  # a reference that lies apart by chance counts twice


def test_noise_of_fewer_rows_is_that_of_a_multinomial():
    # Given a reference whose blocks do not differ, and a window of few rows
    shares, after = np.array([0.5, 0.3, 0.15, 0.05]), np.array([20.0, 12.0, 6.0, 2.0])
    points = np.array([0.0, 1.0, 2.0, 9.0])
    item = Item(column=None, what="values", blocks=np.tile(shares * 1e6, (50, 1)), after=after, points=points)
    ours = resampled(item, draw(50, 5, 7, seed=1), seed=1)
    drawn = np.random.default_rng(1).multinomial(40, shares, size=20_000) / 40
    real = item.distance(shares, drawn, norm_of(shares, points))
    assert np.quantile(ours, [0.5, 0.95, 0.99]) == pytest.approx(np.quantile(real, [0.5, 0.95, 0.99]), rel=0.1)


def test_the_rate_is_that_of_all_columns_together():
    reference, window = sketch(*days(0, count=90)), days(1, count=30)
    one = compare(reference, *window, columns=["amount"]).judged["amount"][0].threshold
    among = compare(reference, *window).judged["amount"][0].threshold
    assert among > one
    assert compare(reference, *window, rate=0.2).judged["amount"][0].threshold < among


def test_factors_have_variance_one_and_neighbours_share_them():
    drawn = draw(100, 30, 7, seed=1)
    for side in (drawn.window, drawn.reference):
        assert side.var() == pytest.approx(1 / (1 - 7 / 100), rel=0.05)
        apart = [np.mean(side[:, lag:] * side[:, :-lag]) * (1 - 7 / 100) for lag in (1, 3, 7)]
        assert apart == pytest.approx([6 / 7, 4 / 7, 0], abs=0.03)
    assert draw(100, 1, 7, seed=1).window[:, :-1].ravel() @ draw(100, 1, 7, seed=1).window[:, 1:].ravel() < 6000


def test_the_draw_is_the_same_every_time():
    assert np.array_equal(draw(50, 10, 7, seed=3).window, draw(50, 10, 7, seed=3).window)


def test_no_threshold_lies_below_what_matters():
    rng = np.random.default_rng(0)
    assert thresholds([np.abs(rng.normal(size=2000)) * 1e-4, np.zeros(2000)], 0.01) == [FLOOR, STILL]


def test_distances_are_those_of_scipy():
    rng = np.random.default_rng(0)
    points, a, b = np.sort(rng.normal(size=20)), rng.integers(1, 50, 20), rng.integers(1, 50, 20)
    before, after = a / a.sum(), b / b.sum()
    assert wasserstein(before, after, points, 2.0) == pytest.approx(wasserstein_distance(points, points, a, b) / 2)
    assert jensenshannon(before, after) == pytest.approx(scipy_jensenshannon(before, after))
    assert jensenshannon(before, before) == 0


def test_counts_are_scaled_to_whole_rows():
    counts = np.array([3.0, 1e6, 0.0, 5e5])
    scaled = whole(counts, 20_000)
    assert scaled.sum() == 20_000 and (scaled == np.round(scaled)).all() and scaled[2] == 0
    assert whole(counts, 10_000_000) is counts


def test_neighbours_that_are_alike_count_as_fewer():
    rng = np.random.default_rng(0)
    alike = np.cumsum(rng.normal(size=30))
    assert effective(30, rng.normal(size=30)) > 15 > effective(30, alike) > 3
