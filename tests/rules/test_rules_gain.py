"""What a retraining would win: the measure, and when it is worth its cost."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.rules.gain import BELIEVED, STRICT, WINDOWS, Gain, gain, surely_better, worth

GAINS = st.builds(
    Gain,
    st.floats(-0.2, 0.2),
    st.floats(1e-4, 0.1),
    st.floats(3, 60),
    st.booleans(),
)


def blocks(losses, rows=100):
    return {f"2024-01-{day:02d}": (loss * rows, rows) for day, loss in enumerate(losses, start=1)}


def test_a_gain_is_paired_and_a_share_of_the_loss():
    # given days that differ far more among themselves than champion and probe do
    days = [0.2 + 0.1 * (day % 7) for day in range(30)]
    less = [0.02 + 0.001 * (day % 2) for day in range(30)]
    found = gain(blocks(days), blocks([d - x for d, x in zip(days, less, strict=True)]), 0.5)
    assert found.mean == pytest.approx(statistics.fmean(less) / 0.5)
    assert 0 < found.error < 0.001
    assert found == gain(blocks(days), blocks([d - x for d, x in zip(days, less, strict=True)]), 0.5)


def test_a_block_counts_by_its_rows():
    champion = {**blocks([0.5] * 6), "2024-01-07": (0.0, 0)}
    probe = {**blocks([0.4] * 6), "2024-01-07": (0.0, 0)}
    assert gain({**champion, "2024-01-07": (500.0, 1000)}, {**probe, "2024-01-07": (500.0, 1000)}, 1.0).mean == (
        pytest.approx(6 * 100 * 0.1 / 1600)
    )


def test_too_few_blocks_or_no_loss_to_measure_by_say_nothing():
    assert gain(blocks([0.5] * 4), blocks([0.4] * 4), 0.5) is None
    for unit in (0.0, -1.0, math.nan):
        assert gain(blocks([0.5] * 9), blocks([0.4] * 9), unit) is None


def test_blocks_that_remember_are_less_sure():
    random = np.random.default_rng(1)
    loose = random.normal(0.1, 0.02, 30)
    known = np.sort(loose)  # neighbours alike, mean and spread the same
    calm, stuck = (gain(blocks([1.0] * 30), blocks(list(1.0 - x)), 1.0) for x in (loose, known))
    assert calm.mean == pytest.approx(stuck.mean)
    assert stuck.error > 1.5 * calm.error


def test_better_weights_must_be_better_by_two_standard_errors():
    base = [0.5 + 0.01 * (day % 3) for day in range(30)]
    assert surely_better(blocks([b - 0.01 - 0.001 * (n % 2) for n, b in enumerate(base)]), blocks(base))
    assert not surely_better(blocks([b - 0.001 * (-1) ** (n // 4) for n, b in enumerate(base)]), blocks(base))
    assert not surely_better(blocks(base), blocks(base))


def test_a_large_gain_is_taken_at_once_and_a_small_one_once_it_has_cost_as_much():
    small = Gain(0.002, 0.0001, 20)
    assert worth([Gain(0.05, 0.01, 20)], [], 0.005).due
    due = [worth([small] * count, [], 0.005).due for count in (1, 2, 3)]
    assert due == [False, False, True]


def test_only_the_last_windows_of_some_number_are_added():
    # given a champion that was right for long and then was not: the good months are no credit
    found = worth([Gain(-0.02, 0.005, 20)] * 10 + [Gain(0.06, 0.01, 20)], [], 0.005)
    assert (found.due, found.windows) == (True, 1)
    assert found.total == pytest.approx(0.06)


def test_a_pipeline_that_has_gained_is_believed_sooner_and_not_for_ever():
    now = [Gain(0.03, 0.01, 20)]
    assert worth(now, [], 0.005).rate == STRICT
    assert not worth(now, [], 0.005).due
    proven = [Gain(0.05, 0.01, 20)]
    found = worth(now, proven * 2, 0.005)
    assert (found.rate, found.due) == (BELIEVED, True)
    assert worth(now, [*proven * 2, *[Gain(0.0, 0.01, 20)] * WINDOWS], 0.005).rate == STRICT
    # nor by one window among others, however large
    assert worth(now, [Gain(9.0, 0.01, 20), *[Gain(0.0, 0.01, 20)] * 3], 0.005).rate == STRICT


def test_windows_without_a_difference_have_no_error_and_are_no_gain():
    same = Gain(0.0, 0.0, 20)
    assert not worth([same] * 5, [same] * 5, 0.005).due
    assert worth([Gain(0.01, 0.0, 20)], [], 0.005).due


@settings(max_examples=200, deadline=None)
@given(st.lists(GAINS, min_size=1, max_size=12), st.lists(GAINS, max_size=12), st.floats(0.0, 0.05))
def test_a_dearer_retraining_is_never_due_sooner_on_the_same_belief(gains, before, cost):
    found, dearer = worth(gains, before, cost), worth(gains, before, cost + 0.01)
    assert found.due == (found.bound > cost)
    assert found.bound <= found.total + 1e-12
    assert 1 <= found.windows <= len(gains)
    assert not (dearer.due and not found.due)


@settings(max_examples=200, deadline=None)
@given(st.lists(GAINS, min_size=1, max_size=8), st.floats(0.001, 0.1))
def test_more_gain_in_the_newest_window_is_never_less_reason(gains, more):
    raised = [*gains[:-1], Gain(gains[-1].mean + more, gains[-1].error, gains[-1].freedom)]
    assert worth(raised, [], 0.005).bound >= worth(gains, [], 0.005).bound
