"""Outcomes say that a version is no worse, worse, or nothing yet."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.rules.outcomes import paired as judge_paired
from millrace.rules.paired import Loss
from millrace.spec.serving import Outcomes

NEW, OLD = 2, 1


def days(values) -> dict[str, float]:
    return {f"2024-{n // 28 + 1:02d}-{n % 28 + 1:02d}": float(value) for n, value in enumerate(values)}


def of(new: dict[str, float], old: dict[str, float]) -> list[Loss]:
    """A request a day that both versions answered."""
    return [
        Loss(request=(day, 0), version=version, block=day, value=value)
        for version, values in ((NEW, new), (OLD, old))
        for day, value in values.items()
    ]


def paired(new, old, rule):
    return judge_paired(of(new, old), NEW, OLD, rule)


def noisy(seed: int, count: int, level: float, spread: float = 0.02) -> dict[str, float]:
    return days(np.clip(np.random.default_rng(seed).normal(level, spread, count), 0, 1))


def test_too_few_blocks_say_nothing():
    verdict = paired(days([0.1] * 4), days([0.2] * 4), Outcomes())
    assert verdict.better is None and "4 of at least 5 blocks of time have outcomes" in verdict.words
    assert paired({}, {}, Outcomes()).better is None
    assert paired(days([0.1] * 9), {}, Outcomes()).better is None, "only blocks that both have"


def test_a_version_that_loses_less_is_no_worse_and_one_that_loses_more_is():
    old = noisy(1, 60, 0.3)
    assert paired(noisy(2, 60, 0.15), old, Outcomes()).better is True
    assert paired(noisy(2, 60, 0.6), old, Outcomes()).better is False


def test_equals_are_no_worse_once_there_is_much_of_them_and_never_worse():
    verdicts = [paired(noisy(n, 30, 0.3), noisy(1000 + n, 30, 0.3), Outcomes()).better for n in range(50)]
    assert verdicts.count(False) == 0
    same = noisy(3, 400, 0.3)
    assert paired(same, same, Outcomes(tolerance=0.1)).better is True


def test_losses_of_nothing_are_equal_and_those_that_are_no_numbers_refused():
    nothing = days([0.0] * 300)
    assert paired(nothing, nothing, Outcomes(tolerance=0.1)).better is True
    with pytest.raises(ValueError, match="cannot be compared"):
        paired(days([float("nan")]), days([0.1]), Outcomes())
