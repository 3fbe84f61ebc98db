"""The Duel keeps its stated rates, over blocks and over how much they remember, and its invariants for any losses."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.duel import BLOCKS, DUELS, MEMORIES, TERMS, duels, slices, within_reach
from millrace.rules.blocks import resample_counts, student, summed, tail
from millrace.rules.duel import FEWEST, Terms, duel, judge, regressions

DOC = Path(__file__).parents[2] / "docs" / "duel.md"
DAYS = np.repeat([f"2013-01-{d:02}" for d in range(1, 21)], 50)
STRICT = Terms()
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without shrinking, which takes minutes on lists of floats."""


def blocks(differences: Any, rows: int = 100) -> dict[str, tuple[float, int]]:
    return {f"{n:03d}": (float(each) * rows, rows) for n, each in enumerate(differences)}


def noisy(mean: float, spread: float, count: int = 20) -> dict[str, tuple[float, int]]:
    """Blocks with this mean and standard deviation, to the digit."""
    drawn = np.random.default_rng(3).normal(size=count)
    return blocks(mean + spread * (drawn - drawn.mean()) / drawn.std(ddof=1))


def stated() -> dict[tuple[str, int, float], list[float | None]]:
    """The tables of the docs: (head, blocks, memory) -> the numbers of the cell."""
    found: dict[tuple[str, int, float], list[float | None]] = {}
    head = ""
    for line in DOC.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "remember 0.0" in line:
            head = cells[0]
        elif head and len(cells) == 1 + len(MEMORIES) and cells[0].isdigit():
            for memory, cell in zip(MEMORIES, cells[1:], strict=True):
                numbers = [None if n == "-" else float(n) / 100 for n in re.findall(r"([0-9.]+(?=%)|-)", cell)]
                found[head, int(cells[0]), memory] = numbers
    return found


def test_the_stated_tables_are_whole_and_keep_the_rates() -> None:
    found = stated()
    heads = ("worse by the tolerance", "better by the difference")
    assert set(found) == {(head, n, m) for head in heads for n in BLOCKS for m in MEMORIES}
    assert min(BLOCKS) == FEWEST and DUELS >= 4000
    for (head, _, _), (rate, *_) in found.items():
        if head == "worse by the tolerance":
            assert rate is not None and rate <= 0.05
        elif rate is not None:
            assert rate >= 0.8


@pytest.mark.parametrize(("count", "memory"), [(FEWEST, 0.6), (12, 0.4), (20, 0.6), (40, 0.0)])
def test_a_model_worse_by_the_tolerance_passes_as_rarely_as_stated(count: int, memory: float) -> None:
    # Given other duels than those of the table, fewer: 5 % of 600 has a standard error of 0.9 %
    rate = duels(count, memory, TERMS.tolerance, count=600, seed=2)["passed"] / 600
    assert rate == pytest.approx(stated()["worse by the tolerance", count, memory][0], abs=0.025)


@pytest.mark.parametrize(("count", "memory"), [(FEWEST, 0.2), (12, 0.4), (40, 0.0)])
def test_a_model_better_by_the_difference_passes_where_the_duel_can_see_so_much(count: int, memory: float) -> None:
    terms = within_reach(count)
    found = duels(count, memory, -(terms.difference or 0), terms, count=400, seed=2)
    assert found["able"] > 60
    assert found["able and passed"] / found["able"] >= 0.8


def test_a_test_over_rows_would_let_a_worse_model_pass() -> None:
    """What blocks are for: on the same duels a row-wise interval passes far more than its 2.5 %."""
    rng, passed = np.random.default_rng(4), 0
    for _ in range(200):
        level = rng.normal(size=12) + TERMS.tolerance
        rows = np.repeat(level, 100) + rng.normal(size=1200)
        passed += rows.mean() + 1.96 * rows.std(ddof=1) / math.sqrt(1200) <= TERMS.tolerance
    assert passed / 200 > 0.3


def test_slices_that_are_sound_rarely_seem_to_regress_and_one_that_does_is_found() -> None:
    wrong, found = slices(16, 40, 0.2, 1.0, duels=120, seed=2)
    assert wrong <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 120)
    assert found > 0.8


def test_without_the_correction_slices_would_seem_to_regress() -> None:
    rng, uncorrected, corrected = np.random.default_rng(5), 0, 0
    for _ in range(60):
        given = {str(n): blocks(rng.normal(size=40)) for n in range(32)}
        uncorrected += any(
            each.regressed for name in given for each in regressions({name: given[name]}, 0, minimum_rows=1).values()
        )
        corrected += any(each.regressed for each in regressions(given, 0, minimum_rows=1).values())
    assert (uncorrected > 15, corrected <= 8) == (True, True)


def test_the_interval_decides_and_not_the_mean() -> None:
    # Given a challenger that is better by the mean, on days that say very different things
    wide = judge(noisy(-0.01, 0.2), Terms(tolerance=0.05))
    assert wide.difference < 0 and wide.high is not None and wide.high > 0.05
    assert (wide.passed, wide.result) == (False, "undecided")
    # and one that is worse by the mean, surely by less than the tolerance
    narrow = judge(noisy(0.01, 0.02), Terms(tolerance=0.05))
    assert narrow.passed and narrow.difference > 0


def test_better_asks_for_less_than_zero() -> None:
    equal, better = noisy(0.0, 0.02), noisy(-0.03, 0.02)
    for terms, expected in ((Terms(0.05), (True, True)), (Terms(0.05, better=True), (False, True))):
        assert (judge(equal, terms).passed, judge(better, terms).passed) == expected
    still = blocks(np.zeros(20))
    assert judge(still, STRICT).passed and not judge(still, Terms(better=True)).passed


def test_too_few_blocks_for_the_power_say_what_they_could_have_seen() -> None:
    asked = Terms(tolerance=0.0, difference=0.02)
    few = judge(noisy(-0.01, 0.1, 8), asked)
    assert (few.result, few.passed) == ("no power", False)
    assert few.seen is not None and few.seen > 0.02
    # and what is shown needs no power
    assert judge(noisy(-0.5, 0.1, 8), asked).passed
    assert judge(noisy(0.5, 0.1, 8), asked).result == "worse"
    assert judge(noisy(-0.01, 0.1, 8), STRICT).result == "undecided"


def test_the_gain_that_is_seen_shrinks_with_blocks_and_with_the_tolerance() -> None:
    seen = [judge(noisy(0, 0.1, n), STRICT).seen for n in (8, 20, 60)]
    assert None not in seen and seen == sorted(seen, reverse=True)  # type: ignore[type-var]
    wider = judge(noisy(0, 0.1), Terms(tolerance=0.03)).seen
    assert wider == pytest.approx((judge(noisy(0, 0.1), STRICT).seen or 0) - 0.03)


def test_fewer_blocks_than_are_judged_never_pass() -> None:
    found = judge(blocks(np.full(FEWEST - 1, -9.0)), Terms(tolerance=1))
    assert (found.result, found.passed, found.low, found.seen) == ("few blocks", False, None, None)
    assert judge(blocks(np.full(FEWEST, -9.0)), Terms(tolerance=1)).passed


def test_pairing_takes_out_what_a_day_did_to_both() -> None:
    # given days that differ a hundred times more than the models do
    random = np.random.default_rng(1)
    champion = np.repeat(random.uniform(0, 1, 20), 50)
    challenger = champion + 0.005 + random.normal(0, 0.002, 1000)

    result = duel(challenger, champion, DAYS, STRICT)

    # then the interval of the difference is narrow and does not hold zero
    assert result.low is not None and result.high is not None
    assert 0 < result.low < result.difference < result.high < 0.01
    assert result.result == "worse"


LOSSES = st.lists(st.floats(0, 1e6), min_size=40, max_size=40)


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(LOSSES, LOSSES, st.randoms(use_true_random=False), st.floats(0, 10))
def test_the_order_of_rows_changes_nothing(mine: list[float], theirs: list[float], random: Any, bar: float) -> None:
    keys = np.repeat([f"d{n}" for n in range(8)], 5)
    a, b = np.array(mine), np.array(theirs)
    order = list(range(40))
    random.shuffle(order)
    assert duel(a, b, keys, Terms(bar)) == duel(a[order], b[order], keys[order], Terms(bar))


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(LOSSES, LOSSES)
def test_swapped_roles_flip_the_sign(mine: list[float], theirs: list[float]) -> None:
    keys = np.repeat([f"d{n}" for n in range(8)], 5)
    one = duel(np.array(mine), np.array(theirs), keys, STRICT)
    other = duel(np.array(theirs), np.array(mine), keys, STRICT)
    assert one.low is not None and one.high is not None
    assert (other.difference, other.low, other.high) == (-one.difference, -one.high, -one.low)
    # and of two models at most one is better than the other
    assert not (judge_better(mine, theirs, keys) and judge_better(theirs, mine, keys))


def judge_better(mine: list[float], theirs: list[float], keys: Any) -> bool:
    return duel(np.array(mine), np.array(theirs), keys, Terms(better=True)).passed


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(LOSSES, st.integers(0, 39), st.sampled_from([math.nan, math.inf, -math.inf]), st.booleans())
def test_a_loss_that_is_not_a_number_never_passes(mine: list[float], row: int, value: float, champions: bool) -> None:
    keys = np.repeat([f"d{n}" for n in range(8)], 5)
    sides = [np.array(mine) - 1e9, np.array(mine)]
    sides[champions][row] = value
    found = duel(sides[0], sides[1], keys, Terms(tolerance=1e12))
    assert math.isnan(found.difference) and (found.result, found.passed) == ("not finite", False)


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(st.lists(st.floats(-5, 5), min_size=FEWEST, max_size=30), st.floats(0, 3), st.floats(0.001, 3))
def test_what_passes_with_a_tolerance_passes_with_a_wider_one(paired: list[float], bar: float, more: float) -> None:
    given = blocks(paired)
    if judge(given, Terms(bar)).passed:
        assert judge(given, replace(Terms(bar), tolerance=bar + more)).passed
    if judge(given, Terms(bar, better=True)).passed:
        assert judge(given, Terms(bar)).passed


def test_a_slice_that_is_too_small_is_shown_and_not_judged() -> None:
    found = regressions(
        {"bad": noisy(1, 0.1), "few rows": blocks(np.ones(20), 5), "few blocks": blocks(np.ones(7), 999)}, 0.1,
        minimum_rows=200,
    )  # fmt: skip
    assert {name: each.regressed for name, each in found.items()} == {
        "bad": True, "few rows": None, "few blocks": None,
    }  # fmt: skip
    assert found["few rows"].difference == 1 and found["few rows"].low is None


def test_a_regression_below_its_tolerance_is_none() -> None:
    given = {"a": noisy(0.1, 0.01), "b": blocks(np.full(20, 0.1))}
    assert all(each.regressed for each in regressions(given, 0.05, minimum_rows=1).values())
    assert not any(each.regressed for each in regressions(given, 0.2, minimum_rows=1).values())


@pytest.mark.parametrize(("a", "b", "c"), [(0, 0, 0), (2, 3, 3), (3, 3, 2)])
def test_rows_must_be_the_same_for_both(a: int, b: int, c: int) -> None:
    with pytest.raises(ValueError, match="same rows"):
        duel(np.ones(a), np.ones(b), np.array(["d"] * c), STRICT)


@pytest.mark.parametrize("freedom", [2.5, 5, 30, 500])
def test_the_tail_is_that_of_scipy(freedom: float) -> None:
    for deviation in (-2.0, 0.01, 0.7, 2.0, 5.0):
        assert tail(deviation, freedom) == pytest.approx(stats.t.sf(deviation, freedom), rel=2e-3, abs=1e-11)
    assert student(1 - tail(2.0, freedom), freedom) == pytest.approx(2.0, rel=1e-6)


def test_an_interval_reaches_further_where_few_blocks_lie_far_out() -> None:
    # Given a challenger that is a little better, but for one block
    bad = np.full(20, -0.01)
    bad[7] = 0.3
    one, other = (judge(blocks(each), STRICT) for each in (bad, -bad))
    assert one.low is not None and one.high is not None
    assert one.high - one.difference > 1.5 * (one.difference - one.low)
    assert (other.low, other.high) == (-one.high, -one.low)


def test_skewed_blocks_let_no_more_pass_than_is_said() -> None:
    even, skewed = stated()["worse by the tolerance", 20, 0.2]
    rate = duels(20, 0.2, TERMS.tolerance, count=600, seed=2, skewed=True)["passed"] / 600
    assert even is not None and rate == pytest.approx(skewed, abs=0.025)


def test_sums_of_blocks_are_exact() -> None:
    keys = np.array(["b", "a", "b", "a", "b"])
    assert summed(keys, np.array([1e16, 1.0, 1.0, 2.0, -1e16])) == {"a": (3.0, 2), "b": (1.0, 3)}


def test_resamples_draw_as_many_blocks_as_there_are_and_depend_on_the_seed() -> None:
    counts = resample_counts(7, seed=3, samples=50)
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert (counts == resample_counts(7, seed=3, samples=50)).all()
    assert (counts != resample_counts(7, seed=4, samples=50)).any()
