from __future__ import annotations

import math

import numpy as np
import pytest

from millrace.rules.duel import duel, resample_counts

DAYS = np.repeat([f"2013-01-{d:02}" for d in range(1, 21)], 50)


def test_a_better_challenger_passes_and_a_worse_one_does_not() -> None:
    champion = np.random.default_rng(0).gamma(1, 0.5, 1000)

    better = duel(champion - 0.01, champion, DAYS, tolerance=0, seed=1)
    worse = duel(champion + 0.01, champion, DAYS, tolerance=0, seed=1)

    assert (better.passed, worse.passed) == (True, False)
    assert better.difference == pytest.approx(-0.01)
    assert worse.rows == 1000


def test_tolerance_is_the_largest_difference_that_passes() -> None:
    champion = np.zeros(1000)
    assert duel(champion + 0.25, champion, DAYS, tolerance=0.25, seed=1).passed
    assert not duel(champion + 0.25, champion, DAYS, tolerance=0.2499, seed=1).passed
    assert duel(champion, champion, DAYS, tolerance=0, seed=1).passed


def test_pairing_takes_out_what_a_day_did_to_both() -> None:
    # given days that differ a hundred times more than the models do
    random = np.random.default_rng(1)
    champion = np.repeat(random.uniform(0, 1, 20), 50)
    challenger = champion + 0.005 + random.normal(0, 0.002, 1000)

    result = duel(challenger, champion, DAYS, tolerance=0, seed=1)

    # then the interval of the difference is narrow and does not hold zero
    assert result.low is not None and result.high is not None
    assert 0 < result.low < result.difference < result.high < 0.01


def test_a_loss_that_is_not_a_number_never_passes() -> None:
    champion = np.zeros(1000)
    challenger = champion - 1
    challenger[3] = np.nan
    result = duel(challenger, champion, DAYS, tolerance=10, seed=1)
    assert math.isnan(result.difference)
    assert not result.passed
    assert not duel(champion - np.inf, champion, DAYS, tolerance=10, seed=1).passed
    assert not duel(champion, champion - np.inf, DAYS, tolerance=10, seed=1).passed


def test_one_block_has_a_difference_and_no_interval() -> None:
    result = duel(np.ones(3), np.zeros(3), np.array(["d"] * 3), tolerance=2, seed=1)
    assert (result.difference, result.low, result.high) == (1.0, None, None)


@pytest.mark.parametrize(("a", "b", "c"), [(0, 0, 0), (2, 3, 3), (3, 3, 2)])
def test_rows_must_be_the_same_for_both(a: int, b: int, c: int) -> None:
    with pytest.raises(ValueError, match="same rows"):
        duel(np.ones(a), np.ones(b), np.array(["d"] * c), tolerance=0, seed=1)


def test_resamples_draw_as_many_blocks_as_there_are_and_depend_on_the_seed() -> None:
    counts = resample_counts(7, seed=3, samples=50)
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert (counts == resample_counts(7, seed=3, samples=50)).all()
    assert (counts != resample_counts(7, seed=4, samples=50)).any()
