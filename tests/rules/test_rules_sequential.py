"""Evidence that may be looked at at any time keeps its rate of false stops, and stops soon where there is harm."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from millrace.rules.sequential import TIMES, Bets, Tally, excess, lack, shift, shown

ALPHA = 0.005
RUNS, EVENTS = 2000, 400
TALLIES = st.lists(st.builds(Tally, st.floats(0.01, 0.99), st.integers(0, 40), st.integers(0, 400)), max_size=6)


def stopped(sides: Any, shares: Any, kind: Any = excess) -> Any:
    """Of runs of events (rows; True: it met what is new), each at a share of its own: whether one was ever stopped.
    Every look is taken. The sum over events is that of the module; that it is, another test says."""
    found = []
    for times in TIMES if kind is excess else [1 / t for t in TIMES]:
        said = shares * times / (shares * times + 1 - shares)
        found.append(np.cumsum(np.where(sides, np.log(said / shares), np.log((1 - said) / (1 - shares))), axis=1))
    logs = np.logaddexp.reduce(np.array(found), axis=0) - math.log(len(TIMES))
    return (logs >= math.log(1 / ALPHA)).any(axis=1)


@pytest.mark.parametrize("kind", [excess, lack])
def test_where_nothing_differs_hardly_a_run_is_ever_stopped(kind):
    """However the share grows step by step; how often events come does not even enter."""
    rng = np.random.default_rng(1)
    shares = np.repeat([0.01, 0.05, 0.1, 0.5], EVENTS // 4)
    sides = rng.random((RUNS, EVENTS)) < shares

    false = int(stopped(sides, shares, kind).sum())

    upper = stats.beta.ppf(0.95, false + 1, RUNS - false)  # Clopper and Pearson
    assert upper < 0.01, f"{false} of {RUNS}"


def test_what_the_simulations_add_up_is_what_is_decided_by():
    sides, shares = np.array([[True, False, True, True]]), np.array([0.1, 0.1, 0.5, 0.5])
    tallies = [Tally(0.1, 1, 1), Tally(0.5, 2, 0)]
    times = [sum(math.log(s * t / (s * t + 1 - s) / s) if new else math.log((1 - s * t / (s * t + 1 - s)) / (1 - s))
                 for new, s in zip(sides[0], shares, strict=True)) for t in TIMES]  # fmt: skip
    assert excess(tallies) == pytest.approx(np.logaddexp.reduce(times) - math.log(len(TIMES)))


@pytest.mark.parametrize("ratio", [1.0, 1.5])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_at_the_edge_of_harm_the_evidence_is_a_fair_bet(ratio, share):
    """Its mean over all that eight events can be is one, and less where what is new does better."""
    for truth, fair in ((ratio, True), (ratio * 0.7, False)):
        chance = share * truth / (share * truth + 1 - share)
        mean = sum(
            math.prod(chance if side else 1 - chance for side in sides)
            * math.exp(excess([Tally(share, sum(sides), 8 - sum(sides))], ratio))
            for sides in product((0, 1), repeat=8)
        )
        assert mean == pytest.approx(1) if fair else mean < 1


@given(TALLIES)
def test_tallies_of_servers_and_steps_add_up_in_any_order(tallies):
    apart = [part for each in tallies for part in (Tally(each.share, each.new, 0), Tally(each.share, 0, each.old))]
    for kind in (excess, lack, shift):
        assert kind(apart[::-1]) == pytest.approx(kind(tallies), abs=1e-6)


@pytest.mark.parametrize(
    ("new", "old", "share", "most"),
    [(1.0, 0.005, 0.1, 70), (0.05, 0.005, 0.1, 1700), (0.05, 0.005, 0.5, 800)],
    ids=["dead", "ten times the errors", "ten times the errors at half"],
)
def test_harm_is_stopped_soon(new, old, share, most):
    """Requests until the stop, on average."""
    rng, runs, length = np.random.default_rng(2), 200, 20_000
    taken = []
    for _ in range(runs):
        side = rng.random(length) < share
        failed = np.flatnonzero(rng.random(length) < np.where(side, new, old))
        sides = side[failed][None, :1000]
        met = np.cumsum(sides[0])
        event = next(
            n for n, seen in enumerate(met) if shown(excess([Tally(share, int(seen), n + 1 - int(seen))]), ALPHA)
        )
        taken.append(failed[event] + 1)
    assert np.mean(taken) <= most


def test_an_outage_of_both_sides_is_no_harm_of_the_new_one():
    assert not shown(excess([Tally(0.1, 100, 900)]), ALPHA)
    assert shown(excess([Tally(0.1, 300, 900)]), ALPHA)


def test_within_a_ratio_is_shown_to_be_no_harm():
    few, many = [Tally(0.5, 4, 4)], [Tally(0.5, 400, 400)]
    assert not shown(lack(few, ratio=2), ALPHA) and shown(lack(many, ratio=2), ALPHA)
    assert not shown(lack(many), ALPHA)


def test_units_that_were_split_otherwise_than_planned_are_found_on_either_side():
    assert not shown(shift([Tally(0.1, 1000, 9000)]), ALPHA)
    assert shown(shift([Tally(0.1, 1200, 8800)]), ALPHA) and shown(shift([Tally(0.1, 800, 9200)]), ALPHA)


def test_requests_of_one_unit_counted_one_by_one_would_ring_false_alarms():
    """Why the events are those of units: each failing unit here fails twenty times."""
    rng = np.random.default_rng(3)
    units = rng.random((300, 20)) < 0.1
    false = stopped(np.repeat(units, 20, axis=1), np.full(400, 0.1)).mean()
    assert false > 0.2 and stopped(units, np.full(20, 0.1)).mean() < 0.03


@pytest.mark.parametrize(("share", "new", "old"), [(0, 1, 1), (1, 1, 1), (0.5, -1, 1), (math.nan, 1, 1)])
def test_tallies_that_cannot_be_are_refused(share, new, old):
    with pytest.raises(ValueError, match=r"lies between|cannot be"):
        Tally(share, new, old)


DRAWS = {
    "normal": lambda rng, n: rng.normal(0.03, 0.08, n).clip(-1, 1),
    "rare and large": lambda rng, n: np.where(rng.random(n) < 0.05, 0.6, 0.0),
    "two values": lambda rng, n: np.where(rng.random(n) < 0.5, -1.0, 1.0),
    "one value": lambda rng, n: np.full(n, 0.25),
}
MEANS = {"normal": 0.03, "rare and large": 0.03, "two values": 0.0, "one value": 0.25}


@pytest.mark.parametrize("kind", DRAWS)
def test_a_mean_lies_within_its_bounds_at_all_times(kind):
    missed, runs = 0, 60
    for run in range(runs):
        bets = Bets(0.05)
        for value in DRAWS[kind](np.random.default_rng(run), 60):
            low, high = bets.add([float(value)]).interval
            if not low <= MEANS[kind] <= high:
                missed += 1
                break
    assert missed <= stats.binom.ppf(0.999, runs, 0.05)


def test_bounds_close_in_and_never_open_again():
    bets, before = Bets(0.05), 2.0
    for value in DRAWS["normal"](np.random.default_rng(5), 300):
        low, high = bets.add([float(value)]).interval
        assert high - low <= before + 1e-12
        before = high - low
    assert low > -0.01 and before < 0.1 and bets.seen == 300


@pytest.mark.parametrize("value", [1.01, -1.01, math.nan, math.inf])
def test_a_value_that_cannot_be_is_refused(value):
    with pytest.raises(ValueError, match="does not lie in"):
        Bets(0.05).add([value])
