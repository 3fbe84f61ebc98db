"""Guards see harm soon, hardly ever where there is none, and count each unit once whoever else counted it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from millrace.rules import guards as module
from millrace.rules.guards import Counts, Generation, Side, judge, merge, sampled
from millrace.rules.sequential import above, shown
from millrace.rules.traffic import name, point
from millrace.spec.serving import Guards

OLD, NEW = 1, 2
ALPHA = 0.005


def units(*numbers: int) -> tuple[str, ...]:
    return tuple(f"u{n}" for n in numbers)


def counted(generation: int = 1, share: float = 0.1, **sides: Side) -> Counts:
    return Counts(generation=generation, share=share, sides={int(v[1:]): side for v, side in sides.items()})


def test_a_unit_that_failed_on_two_servers_and_under_two_generations_failed_once():
    one, two = Side(answered=3, errors=units(1, 2)), Side(answered=2, errors=units(2, 3))

    found = merge([counted(1, v2=one), counted(1, v2=two), counted(2, v2=two)])

    assert [g.of(NEW).errors for g in found] == [set(units(1, 2, 3)), set(units(2, 3))]
    assert [g.of(NEW).answered for g in found] == [5, 2]
    assert judge(found, NEW, OLD, Guards())[0].events == 3


def test_counts_survive_their_way_through_json():
    given = counted(3, v1=Side(predictions={"u1": 4}), v2=Side(slow=units(1), dropped=2))

    assert Counts.model_validate_json(given.model_dump_json()) == given


@pytest.mark.parametrize(("name", "which"), [("errors", "errors"), ("slow", "slow")])
def test_a_new_version_that_fails_its_first_units_is_stopped(name: str, which: str):
    failing = counted(v1=Side(), v2=Side(**{which: units(*range(6))}))

    assert {f.guard for f in judge(merge([failing]), NEW, OLD, Guards()) if f.harm} == {name}


def test_what_both_versions_do_is_nobodys_harm():
    outage = counted(share=0.1, v1=Side(errors=units(*range(180))), v2=Side(errors=units(*range(200, 220))))

    assert not any(f.harm for f in judge(merge([outage]), NEW, OLD, Guards()))


def test_predictions_that_went_elsewhere_are_found_in_canary_and_in_shadow():
    rng = np.random.default_rng(1)
    old = {f"o{n}": int(b) for n, b in enumerate(rng.integers(0, 10, 900))}
    new = {f"n{n}": 9 for n in range(100)}
    assert _harm(counted(v1=Side(predictions=old), v2=Side(predictions=new)))

    both = {f"o{n}": 9 for n in range(100)}
    assert _harm(counted(share=0.0, v1=Side(predictions=old), v2=Side(predictions=both)))


def test_equal_predictions_are_no_harm_in_canary_and_in_shadow():
    rng = np.random.default_rng(1)
    old = {f"o{n}": int(b) for n, b in enumerate(rng.integers(0, 10, 3600))}
    new = {f"n{n}": int(b) for n, b in enumerate(rng.integers(0, 10, 400))}
    assert not _harm(counted(v1=Side(predictions=old), v2=Side(predictions=new)))
    assert not _harm(counted(share=0.0, v1=Side(predictions=old), v2=Side(predictions=old)))


def _harm(counts: Counts) -> bool:
    return any(f.harm for f in judge(merge([counts]), NEW, OLD, Guards()))


def test_a_shadow_and_a_champion_alone_are_held_to_a_rate():
    seen = {f"u{n}": 0 for n in range(200)}
    few = counted(share=0.0, v2=Side(errors=units(1, 2), predictions=seen))
    many = counted(share=1.0, v2=Side(errors=units(*range(30)), predictions=seen))

    assert not _harm(few) and _harm(many)


def test_guards_that_are_off_say_nothing():
    failing = counted(v2=Side(errors=units(*range(100))))

    assert judge(merge([failing]), NEW, OLD, Guards(errors=False, slow_ms=None, predictions=False)) == []


def test_a_rate_is_hardly_ever_found_exceeded_where_it_is_not():
    rng = np.random.default_rng(1)
    runs, false = 400, 0
    for _ in range(runs):
        events = np.cumsum(rng.random(600) < 0.02)
        false += any(shown(above(int(events[n]), n + 1, 0.02), ALPHA) for n in range(0, 600, 5))
    assert stats.beta.ppf(0.95, false + 1, runs - false) < 0.025, f"{false} of {runs}"
    assert shown(above(12, 60, 0.02), ALPHA)


def test_equal_versions_are_hardly_ever_stopped_by_all_guards_together():
    """Every tenth unit is looked at, over three steps; errors, slow answers and predictions alike."""
    rng = np.random.default_rng(7)
    runs, false = 150, 0
    for _ in range(runs):
        done: list[Generation] = []
        stopped = False
        for number, share in enumerate((0.05, 0.25, 0.5), 1):
            side = rng.random(300) < share
            error, slow, where = rng.random(300) < 0.02, rng.random(300) < 0.05, rng.integers(0, 10, 300)
            for seen in (100, 200, 300):
                sides = {}
                for version, met in ((OLD, ~side), (NEW, side)):
                    at = [n for n in range(seen) if met[n]]
                    sides[version] = Side(
                        errors=tuple(f"{number}-{n}" for n in at if error[n]),
                        slow=tuple(f"{number}-{n}" for n in at if slow[n]),
                        predictions={f"{number}-{n}": int(where[n]) for n in at},
                    )
                now = merge([Counts(generation=number, share=share, sides=sides)])
                stopped = stopped or any(f.harm for f in judge([*done, *now], NEW, OLD, Guards()))
            done += now
        false += stopped
    assert stats.beta.ppf(0.95, false + 1, runs - false) < 0.05, f"{false} of {runs}"


def test_the_chance_of_a_false_stop_is_shared():
    given = merge([counted(v1=Side(), v2=Side(errors=units(1)))])
    all_on = judge(given, NEW, OLD, Guards())[0].needed
    alone = judge(given, NEW, OLD, Guards(slow_ms=None, predictions=False))[0].needed

    assert all_on == pytest.approx(math.log(5 / ALPHA)) and alone == pytest.approx(math.log(2 / ALPHA))


def steps(fails: set[str], fleet: list[str], other: set[str] | None = None) -> list[Counts]:
    """Three steps of a canary in which each unit of a fleet comes again under each, and the same ones always fail."""
    found = []
    for number, share in enumerate((0.05, 0.25, 0.5), 1):
        new = [unit for unit in fleet if point("salt", unit) < share]
        old = [unit for unit in fleet if point("salt", unit) >= share]
        sides = {}
        for version, met, bad in ((OLD, old, fails), (NEW, new, fails if other is None else other)):
            hit = tuple(u for u in met if u in bad)
            binned = {u: int(10 * point("bin", u)) for u in met if u not in bad}
            sides[version] = Side(errors=hit, slow=hit, predictions=binned)
        found.append(Counts(generation=number, share=share, sides=sides))
    return found


@pytest.mark.parametrize("same", [True, False])
def test_units_that_come_again_under_each_step_are_no_harm(same: bool):
    fleet = [f"v{n}" for n in range(1000)]
    fails, other = set(fleet[::40]), set(fleet[5::40])

    assert not any(f.harm for f in judge(merge(steps(fails, fleet, None if same else other)), NEW, OLD, Guards()))


def test_harm_that_begins_at_a_later_step_is_seen_on_units_that_came_before():
    fleet = [f"v{n}" for n in range(1000)]
    good, bad = steps(set(), fleet), steps(set(), fleet, set(fleet))

    assert any(f.harm for f in judge(merge([*good[:1], bad[1]]), NEW, OLD, Guards()))
    assert any(f.harm for f in judge(merge([good[0], bad[0]]), NEW, OLD, Guards())), "or under the same"


def test_the_sample_of_a_level_is_part_of_the_one_before_and_half_of_it():
    names = [name("salt", f"u{n}") for n in range(4000)]
    one, two = ({unit for unit in names if sampled(unit, level)} for level in (1, 2))
    assert two < one and 1800 < len(one) < 2200 and 850 < len(two) < 1150
    merged = merge([Counts(generation=1, share=0.5, level=2, sides={NEW: Side(errors=tuple(names))}),
                    Counts(generation=1, share=0.5, sides={OLD: Side(errors=tuple(names))})])  # fmt: skip
    assert merged[0].of(NEW).errors == merged[0].of(OLD).errors == two


def test_what_a_shadow_does_well_does_not_speak_for_it_once_it_answers():
    before = counted(1, share=0.0, v1=Side(predictions={f"u{n}": 1 for n in range(3000)}),
                     v2=Side(predictions={f"u{n}": 1 for n in range(3000)}))  # fmt: skip
    after = counted(2, share=0.0, v2=Side(errors=units(*range(8))))

    assert any(f.harm for f in judge(merge([before, after]), NEW, OLD, Guards()))


def test_predictions_in_shadow_are_held_to_the_stated_ratio():
    def paired(moved: int, count: int = 3000) -> bool:
        """A share of units, in thousandths, goes from other bins to the top one."""
        old = {f"u{n}": n % 10 for n in range(count)}
        new = {unit: 9 if n // 10 % 1000 < moved else where for n, (unit, where) in enumerate(old.items())}
        return _harm(counted(share=0.0, v1=Side(predictions=old), v2=Side(predictions=new)))

    assert module.BINS == 10
    assert not paired(10) and paired(100)
