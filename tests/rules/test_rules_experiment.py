"""An experiment's report: its figures by hand, what follows from them, and the power that it promises."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from millrace.core.canonical import canonical_json
from millrace.rules.experiment import Report, days_needed, report, told
from millrace.rules.paired import Loss
from millrace.rules.rollout import Standing, Verdict, decide
from millrace.rules.sequential import Bets
from millrace.spec.serving import ABRollout, ServingSpec

NEW, OLD = 2, 1
BEGAN = datetime(2024, 1, 1, tzinfo=UTC)


def rule(**changes: Any) -> ABRollout:
    return ABRollout.model_validate({"strategy": "ab", "metric": "bought", "minimum_effect": 0.1, **changes})


def one(day: int, version: int, unit: str, value: float, request: str = "") -> Loss:
    block = (BEGAN + timedelta(days=day)).date().isoformat()
    return Loss(request=(request or f"{day} {unit}", 0), version=version, block=block, value=value, unit=unit)


def noisy(days: int, new: float, old: float, units: int = 4, seed: int = 0, **skewed: int) -> list[Loss]:
    """Each day as many new units of each version, whose metric lies about a level."""
    chance = np.random.default_rng(seed)
    return [
        one(day, version, f"{version} {day} {n}", float(np.clip(chance.normal(level, 0.02), 0, 1)))
        for day in range(days)
        for version, level, count in ((NEW, new, skewed.get("new_units", units)), (OLD, old, units))
        for n in range(count)
    ]


def of(outcomes: list[Loss], past: float = 10, **changes: Any) -> Report:
    return report(outcomes, NEW, OLD, rule(**changes), began=BEGAN, now=BEGAN + timedelta(days=past))


def test_an_experiment_is_won_not_worth_it_or_unknown():
    won = of(noisy(100, 0.5, 0.2)).verdict
    assert won.better is True and won.words.startswith("better: bought more than the champion's by +0.3")
    lost = of(noisy(300, 0.2, 0.2)).verdict
    assert lost.better is False and "worth promoting for from 0.1" in lost.words
    assert of(noisy(3, 0.3, 0.2)).verdict.better is None
    nothing = of([])
    assert nothing.verdict == Verdict(None, "bought more than the champion's is unknown: no day has outcomes of both "
                                      "versions", nothing.model_dump(mode="json"))  # fmt: skip


def test_figures_by_hand():
    found = of(
        [
            one(0, NEW, "a", 1.0, "r1"), one(0, NEW, "a", 0.0, "r2"), one(0, NEW, "b", 1.0), one(0, OLD, "c", 0.0),
            one(1, NEW, "a", 1.0), one(1, OLD, "c", 1.0), one(1, OLD, "d", 0.0),
            one(2, NEW, "e", 1.0),  # a day without the champion
            one(1, NEW, "f", 1.0, "r3"), one(1, OLD, "f", 0.0, "r4"),  # a unit that met both
            one(1, 7, "g", 0.0),  # of a version that is no part of it
        ]
    )  # fmt: skip
    assert (found.new.units, found.old.units, found.days, found.values) == (3, 2, 2, 10)
    assert (found.new.mean, found.old.mean) == ((0.75 + 1.0) / 2, (0.0 + 0.5) / 2)
    assert found.difference == found.new.mean - found.old.mean == 0.625
    assert found.spread == pytest.approx(0.25 / math.sqrt(2)) and found.units_a_day == 3.0
    assert found.interval == Bets(0.05, -1, 1).add([0.75, 0.5]).interval
    assert found.new.interval == Bets(0.05, 0, 1).add([0.75, 1.0]).interval
    assert found.days_allowed == 28 and found.days_past == 10


def test_values_outside_the_bounds_count_as_the_nearer_one_and_are_told():
    outcomes = noisy(40, 0.3, 0.3)
    wild = [*outcomes[:-1], one(39, OLD, "wild", -1e6), one(39, NEW, "wilder", 1e9)]
    found = of(wild)
    assert found.outside == 2 and found.verdict.better is None and abs(found.difference) < 0.02
    assert f"WARNING: 2 of {len(wild)} values lie outside low to high" in told({"experiment": found.model_dump()})[-1]
    assert not any("WARNING" in line for line in told({"experiment": of(outcomes).model_dump()}))
    assert of(wild, low=-2e6, high=2e9).outside == 0
    with pytest.raises(ValueError, match="no numbers"):
        of([one(0, NEW, "a", math.nan)])


def test_nothing_is_decided_by_units_that_are_not_split_as_planned():
    found = of(noisy(100, 0.5, 0.2, units=6, new_units=2))
    assert found.interval[0] > 0 and not found.split and found.verdict.better is None
    lines = told({"experiment": found.model_dump(mode="json")})
    assert any("25.0% of 800 units met the new version, 50.0% planned; NOT AS PLANNED" in line for line in lines)
    assert any("not applied, since the split is not as planned" in line for line in lines)
    planned = of(noisy(100, 0.5, 0.2, units=6, new_units=2), share=0.25)
    assert planned.split and planned.verdict.better is True
    assert of(noisy(300, 0.2, 0.2, units=6, new_units=2)).verdict.better is None, "nor that it is not worth it"


def test_a_split_by_chance_is_as_planned():
    counts = np.random.default_rng(3).binomial(400, 0.3, 300)
    wrong = sum(
        not of([one(0, NEW if n < count else OLD, f"u{n}", 0.5) for n in range(400)], share=0.3).split
        for count in counts[:60]
    )
    assert wrong == 0


@pytest.mark.parametrize("effect", [0.2, 0.5, 0.9])
def test_without_noise_it_takes_exactly_as_many_days(effect: float):
    needed = days_needed(rule(minimum_effect=effect), 0.0)
    assert needed is not None
    bets = Bets(0.05, -1, 1).add([effect] * (needed - 1))
    assert bets.interval[0] <= 0 and bets.add([effect]).interval[0] > 0


def test_effects_that_are_never_seen():
    assert days_needed(rule(minimum_effect=0.002), 0.0) is None
    assert days_needed(rule(minimum_effect=0.01), 1.0) is None
    assert days_needed(rule(minimum_effect=0.1, high=0.2), 0.0) < days_needed(rule(minimum_effect=0.1), 0.0)
    powers = [days_needed(rule(power=power), 0.3) for power in (0.6, 0.8, 0.95)]
    assert powers == sorted(set(powers))


def test_the_power_that_is_promised_is_kept_and_half_the_days_do_not_have_it():
    effect, spread, runs = 0.4, 0.35, 200
    needed = days_needed(rule(minimum_effect=effect), spread)
    assert needed is not None
    chance, day = np.random.default_rng(11), []
    for _ in range(runs):
        bets, won = Bets(0.05, -1, 1), math.inf
        for number, value in enumerate(np.clip(chance.normal(effect, spread, needed), -1, 1), 1):
            if bets.add([value]).interval[0] > 0:
                won = number
                break
        day.append(won)
    assert 0.8 <= sum(each <= needed for each in day) / runs <= 0.97
    assert sum(each <= needed / 2 for each in day) / runs < 0.3


def test_what_is_left_is_told_and_that_it_is_too_long():
    short = told({"experiment": of(noisy(10, 0.4, 0.2), minimum_effect=0.2).model_dump()})
    said = next(line for line in short if line.startswith("power: "))
    assert "80% to see 0.2 at a daily spread of 0.0" in said and "10 are there, about 30 more at 8 units a day" in said
    assert said.endswith("LONGER THAN 'longest' ALLOWS")
    longer = told({"experiment": of(noisy(10, 0.4, 0.2), minimum_effect=0.2, longest="P60D").model_dump()})
    assert not any("LONGER" in line for line in longer)
    assert any("neither yet; after 60 days, 10.0 of which have passed, it stays too" in line for line in longer)
    few = told({"experiment": of(noisy(1, 0.4, 0.2)).model_dump()})
    assert "power: not known before two days have outcomes" in few


def test_the_report_is_kept_with_the_numbers_that_a_rollout_is_moved_on():
    serving = ServingSpec(rollout=rule())
    verdict = of(noisy(100, 0.5, 0.2)).verdict
    standing = Standing(version=NEW, former=OLD, stage=1, planned=3, began=BEGAN)
    answer = decide(serving, standing, [], outcomes=verdict, now=BEGAN + timedelta(days=2))
    assert answer.action == "go"
    kept = canonical_json(dict(answer.seen))
    assert Report.model_validate_json(canonical_json(answer.seen["experiment"])) == of(noisy(100, 0.5, 0.2))
    assert b'"spread"' in kept and told(answer.seen)[0] in answer.seen["outcomes"]
    assert "rule: the interval lies above 0: promoted" in told(answer.seen)
    assert told({}) == []
