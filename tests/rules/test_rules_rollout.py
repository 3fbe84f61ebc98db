"""A rollout goes on once enough was seen, waits with what is missing in words, and stops where a version does harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from millrace.rules.guards import MOST, Counts, Side
from millrace.rules.rollout import Answer, Standing, Verdict, decide, shares, stage_at, stages
from millrace.spec.serving import ServingSpec

BEGAN = datetime(2024, 1, 1, tzinfo=UTC)
OLD, NEW = 1, 2


def spec(strategy: str = "canary", **rollout: Any) -> ServingSpec:
    return ServingSpec.model_validate({"rollout": {"strategy": strategy, **rollout}})


def side(units: int, answered: int | None = None, errors: int = 0, bin_: int | None = None, first: int = 0) -> Side:
    names = [f"u{n}" for n in range(first, first + units)]
    where = {name: n % 10 if bin_ is None else bin_ for n, name in enumerate(names)}
    return Side(answered=units if answered is None else answered, predictions=where, errors=tuple(names[:errors]))


def standing(stage: int | None, **changes: Any) -> Standing:
    given = {"version": NEW, "former": OLD, "planned": 3, "began": BEGAN, **changes}
    return Standing(stage=stage, **given)


def ask(serving: ServingSpec, stage: int | None, *counts: Counts, minutes: float = 10, **more: Any) -> Answer:
    at = {name: more.pop(name) for name in ("paused", "hastened", "planned", "former") if name in more}
    return decide(serving, standing(stage, **at), counts, now=BEGAN + timedelta(minutes=minutes), **more)


def shadowed(requests: int, generation: int = 3, **sides: Side) -> Counts:
    given = {OLD: side(requests), NEW: side(requests), **{int(k[1:]): v for k, v in sides.items()}}
    return Counts(generation=generation, share=0, sides=given)


def canary(new: int, generation: int = 3, share: float = 0.05, errors: int = 0, first: int = 0) -> Counts:
    beside = round(new * (1 - share) / share)
    sides = {OLD: side(min(beside, MOST), first=100_000), NEW: side(new, errors=errors, first=first)}
    return Counts(generation=generation, share=share, sides=sides)


@pytest.mark.parametrize(
    ("given", "names", "of"),
    [
        ({"strategy": "canary"}, ["shadow", "step 1", "step 2", "step 3"], (1.0, (0.05, 0.25, 0.5))),
        ({"strategy": "canary", "shadow": None, "steps": [{"share": 0.2}]}, ["step 1"], (None, (0.2,))),
        ({"strategy": "shadow", "shadow": {"share": 0.3}}, ["shadow"], (0.3, ())),
        ({"strategy": "blue_green"}, ["shadow"], (1.0, ())),
        ({"strategy": "blue_green", "shadow": None}, [], (None, ())),
        ({"strategy": "ab", "metric": "bought", "minimum_effect": 0.1, "share": 0.4}, ["shadow", "ab"], (1.0, (0.4,))),
    ],
)  # fmt: skip
def test_each_strategy_has_its_stages(given, names, of):
    serving = ServingSpec.model_validate({"rollout": given})

    assert [stage.name for stage in stages(serving)] == names and shares(serving) == of
    first = 0 if of[0] is not None else 1
    assert [stage_at(serving, number).name for number in range(first, first + len(names))] == names
    assert stage_at(serving, None).name == "full"


def test_a_shadow_waits_for_time_and_requests_and_says_how_much():
    serving = spec()
    soon = ask(serving, 0, shadowed(50), minutes=4)

    assert soon.action == "wait"
    assert "waits for 361 more seconds and 150 more requests; 50 requests in 240 s" in soon.why
    assert ask(serving, 0, shadowed(200), minutes=9.9).action == "wait"
    assert ask(serving, 0, shadowed(199), minutes=99).action == "wait"
    gone = ask(serving, 0, shadowed(200))
    assert gone.action == "go" and (gone.seen["requests"], gone.seen["seconds"]) == (200, 600)


def test_a_shadow_that_knows_too_little_for_too_long_ends_without_harm():
    late = ask(spec(), 0, shadowed(3), minutes=7 * 24 * 60)

    assert (late.action, late.harm) == ("stop", False)
    assert "after P7D it still waits for 197 more requests" in late.why
    assert ask(spec(), 0, shadowed(3), minutes=7 * 24 * 60 - 1).action == "wait"
    assert ask(spec(), 0, shadowed(3), minutes=8 * 24 * 60, paused=True).action == "wait", "a pause holds that, too"


def test_a_step_counts_units_of_its_own_generations_only():
    serving = spec()
    before = canary(90, generation=2)

    assert ask(serving, 1, before, canary(99)).action == "wait"
    assert "1 more units" in ask(serving, 1, before, canary(99)).why
    answer = ask(serving, 1, before, canary(60), canary(60, generation=4, first=40))
    assert answer.action == "go" and answer.seen["units"] == 100, "units of two generations, each once"


def held(level: int, units: int, share: float, generation: int = 3) -> Counts:
    """What a server still holds by name where so many units met the new version: a sample of them."""
    names = [f"{n:032x}" for n in range(units) if n % (1 << level) == 0]
    sides = {version: Side(answered=units, predictions=dict.fromkeys(names, 3)) for version in (OLD, NEW)}
    return Counts(generation=generation, share=share, level=level, sides=sides)


def test_one_unit_of_a_sample_stands_for_all_that_are_held_by_name_no_more():
    """A canary of one per cent beside much traffic is held by a few dozen names: it goes on all the same."""
    small = spec(steps=[{"share": 0.01, "units": 100}])
    assert ask(small, 1, held(level=7, units=6_400, share=0.01)).seen["units"] == 6_400
    many = spec(steps=[{"share": 0.5, "units": 100_000}])
    assert ask(many, 1, held(level=6, units=99_968, share=0.5)).action == "wait"
    assert ask(many, 1, held(level=6, units=100_032, share=0.5)).action == "go"


def test_samples_of_several_generations_are_counted_at_the_coarsest():
    both = [held(level=2, units=4_000, share=0.1), held(level=5, units=8_000, share=0.1, generation=4)]
    assert ask(spec(steps=[{"share": 0.1, "units": 1}]), 1, *both).seen["units"] == 8_000


def test_without_counts_it_waits():
    answer = ask(spec(), 1)
    assert answer.action == "wait" and answer.seen["units"] == 0


@pytest.mark.parametrize("at", [{}, {"paused": True}, {"hastened": True}])
def test_harm_stops_it_whether_paused_or_hastened(at):
    answer = ask(spec(), 1, canary(40, errors=20), **at)

    assert (answer.action, answer.harm) == ("stop", True)
    assert answer.why.startswith("errors: 20 beside 0 of the version before")


def test_harm_that_an_earlier_step_saw_counts():
    assert ask(spec(), 2, canary(40, generation=2, errors=20), canary(0, generation=3, share=0.25)).harm


def test_a_veto_stops_it_whatever_was_counted():
    answer = ask(spec(), 0, shadowed(500), vetoes=["server-1 says errors"])
    assert (answer.action, answer.harm, answer.why) == ("stop", True, "server-1 says errors")


def test_a_pause_holds_and_haste_lets_go():
    assert ask(spec(), 0, shadowed(500), paused=True).action == "wait"
    assert ask(spec(), 0, hastened=True, minutes=0).action == "go"


def test_shadow_predictions_that_differ_are_harm():
    same = shadowed(300)
    other = shadowed(300, v2=side(300, bin_=9))

    assert ask(spec(), 0, same).action == "go"
    assert ask(spec(), 0, other).harm


def test_a_champion_is_watched_alone_for_as_long_as_the_spec_says():
    def alone(units: int, errors: int) -> Counts:
        return Counts(generation=5, share=0, sides={NEW: side(units, errors=errors)})

    watching = {"planned": 5}
    assert ask(spec(), None, alone(100, 0), minutes=59, **watching).action == "wait"
    assert ask(spec(), None, alone(100, 0), minutes=60, **watching).action == "go"
    assert ask(spec(), None, alone(100, 40), minutes=1, **watching).harm
    assert ask(spec(), None, alone(100, 40), minutes=1, former=None, **watching).harm, "the first champion, too"


def test_outcomes_are_waited_for_where_the_spec_asks():
    serving = spec(shadow={"outcomes": {}})
    enough = shadowed(300)

    assert "waits for outcomes" in ask(serving, 0, enough).why
    unknown = ask(serving, 0, enough, outcomes=Verdict(None, "2 of 5 blocks"))
    assert unknown.action == "wait" and "outcomes (2 of 5 blocks)" in unknown.why
    assert ask(serving, 0, enough, outcomes=Verdict(True, "no worse")).action == "go"
    worse = ask(serving, 0, enough, outcomes=Verdict(False, "worse"))
    assert (worse.action, worse.harm, worse.why) == ("stop", False, "worse")
    # and where it does not ask, they are not heard
    assert ask(spec(), 0, enough, outcomes=Verdict(False, "worse")).action == "go"


def test_an_experiment_ends_by_its_outcomes_or_its_time():
    serving = ServingSpec.model_validate(
        {"rollout": {"strategy": "ab", "metric": "bought", "minimum_effect": 0.1, "longest": "P3D"}}
    )
    assert ask(serving, 1, outcomes=Verdict(None, "unknown")).action == "wait"
    assert ask(serving, 1, outcomes=Verdict(True, "better")).action == "go"
    assert ask(serving, 1, outcomes=Verdict(None, "unknown"), minutes=3 * 24 * 60).action == "stop"


def test_what_was_seen_can_be_kept_in_the_ledger():
    seen = ask(spec(), 1, canary(120)).seen
    TypeAdapter(dict[str, int | str | list[str]]).validate_python(dict(seen), strict=True)
