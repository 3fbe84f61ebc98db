"""Two versions side by side: pairs by request, arms by unit, one figure a block, judged at any time."""

from __future__ import annotations

import random

import pytest

from millrace.rules.paired import Arms, Loss, Pair, arm_outcomes, paired_losses
from millrace.rules.sequential import Bets


def loss(request: str, version: int | None, value: float, block: str = "2024-01-01", unit: str | None = None) -> Loss:
    return Loss((request, 0), version, block, value, unit)


def test_only_requests_that_both_answered_count_and_each_once():
    seen = [
        loss("a", 1, 0.5), loss("a", 2, 0.25), loss("b", 1, 1.0), loss("b", 2, 1.25),
        loss("c", 1, 100.0), loss("d", 2, 100.0), loss("a", 3, 7.0), loss("a", None, 7.0),
        loss("a", 2, 0.25), loss("e", 1, 3.0, "2024-01-02"), loss("e", 2, 2.0, "2024-01-03"),
    ]  # fmt: skip
    assert paired_losses(seen, new=2, old=1) == {"2024-01-01": Pair(0.75, 0.75)}
    assert paired_losses(seen[::-1], new=1, old=2) == {"2024-01-01": Pair(0.75, 0.75)}


def test_blocks_come_in_times_order_and_differences_are_new_less_old():
    seen = [loss("b", v, 1.0 * v, "2024-01-02") for v in (1, 2)] + [loss("a", v, 3.0 * v) for v in (1, 2)]
    found = paired_losses(seen, new=2, old=1)
    assert [(block, each.difference) for block, each in found.items()] == [("2024-01-01", 3.0), ("2024-01-02", 1.0)]


def test_rows_of_a_request_are_pairs_of_their_own():
    seen = [Loss(("a", row), v, "d", 1.0 + row * v) for row in range(3) for v in (1, 2)]
    assert paired_losses(seen, new=2, old=1) == {"d": Pair(3.0, 2.0)}


def test_a_unit_counts_once_however_often_it_asks():
    seen = [loss(f"n{n}", 2, 1.0, unit="often") for n in range(98)]
    seen += [loss("x", 2, 0.0, unit="once"), loss("y", 1, 0.5, unit="other"), loss("z", 1, 0.25)]
    assert arm_outcomes(seen, new=2, old=1) == {"2024-01-01": Arms(0.5, 0.375, 1 + 1, 2)}
    assert arm_outcomes(seen, new=2, old=1)["2024-01-01"].difference == 0.125


def test_a_unit_that_met_both_counts_in_neither_arm():
    seen = [loss("a", 1, 1.0, unit="both"), loss("b", 2, 0.0, unit="both")]
    assert arm_outcomes(seen, new=2, old=1) == {}
    seen += [loss("c", 1, 0.25, unit="one"), loss("d", 2, 0.75, unit="two")]
    assert arm_outcomes(seen, new=2, old=1) == {"2024-01-01": Arms(0.75, 0.25, 1, 1)}


def test_a_version_is_not_compared_with_itself():
    for function in (paired_losses, arm_outcomes):
        with pytest.raises(ValueError, match="with itself"):
            function([], new=1, old=1)


def test_equals_are_not_told_apart_and_a_worse_one_is():
    """Given 60 days of pairs, then Bets on the days' figures hold 0 where versions are alike, and not where one is
    worse by more than days differ."""
    chance = random.Random(5)
    for worse, told in ((0.0, False), (0.3, True)):
        seen = []
        for day in range(60):
            level = chance.gauss(0, 0.1)
            for n in range(20):
                base = min(max(0.5 + level + chance.gauss(0, 0.1), 0), 1)
                seen += [loss(f"{day}-{n}", 1, base, f"{day:03d}"),
                         loss(f"{day}-{n}", 2, base + worse + chance.gauss(0, 0.05), f"{day:03d}")]  # fmt: skip
        found = paired_losses(seen, new=2, old=1).values()
        low, high = Bets(0.05).add(each.difference for each in found).interval
        assert (low > 0) is told and high > 0
