"""Each reason to retrain by itself, and the order in which the governor asks them."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from millrace.rules.gain import Gain
from millrace.rules.governor import decide
from millrace.rules.triggers import TRIGGERS, TriggerReason, age, changed, degraded, drift, gain, new_data
from millrace.rules.window import Situation, Window
from millrace.spec import Partitioning
from millrace.spec.monitoring import MonitoringSpec, RetrainOn

CUT = Partitioning("day", "Africa/Cairo")  # whose clocks change at midnight of 2024-04-26
STILL = Window("2024-04-26", 5000, drifted=False, degraded=False, excess=0.0, broken=(), outcomes_known=False)


def seen(now: Window = STILL, earlier: tuple[Window, ...] = (), trained_to: str = "2024-04-20", **spec) -> Situation:
    return Situation(MonitoringSpec.model_validate(spec), CUT, now, earlier, trained_to)


@pytest.mark.parametrize(
    ("judged", "excess", "why"),
    [(True, 0.12345, "loss is 0.1235 above the champion's own holdout loss"), (False, 0.3, None), (None, None, None)],
)
def test_degraded_fires_where_the_test_says_so_and_not_where_it_could_not_judge(judged, excess, why):
    assert degraded.fires(seen(replace(STILL, degraded=judged, excess=excess))) == why


@pytest.mark.parametrize(("trained_to", "old"), [("2024-04-24", False), ("2024-04-23", True), ("2023-01-01", True)])
def test_age_counts_partitions_on_the_pipelines_clocks(trained_to, old):
    why = age.fires(seen(trained_to=trained_to, max_age="P3D"))
    assert why == (f"the champion was trained to {trained_to}, P3D or more before" if old else None)


def test_a_loss_that_a_probe_cannot_mend_is_no_reason():
    worse = replace(STILL, degraded=True, excess=0.3)
    assert degraded.fires(seen(worse)) is not None
    assert degraded.fires(seen(replace(worse, gain=Gain(0.0, 0.001, 20)))) is None


def test_gain_adds_up_over_the_windows_of_one_champion():
    small = replace(STILL, gain=Gain(0.004, 0.0005, 20))
    assert gain.fires(seen(STILL)) is None
    assert gain.fires(seen(small)) is None
    assert gain.fires(seen(small, (small,))) == (
        "a retraining would have won 0.8% of a partition's loss over 2 partitions, at least 0.7% but for one chance in "
        "10; it costs 0.5%"
    )
    assert gain.fires(seen(small, (small,), retrain={"cost": 0.01})) is None
    # a window without a probe is no gain and no end of one
    assert gain.fires(seen(small, (small, STILL))) is not None


def test_gains_of_earlier_champions_are_believed_and_not_added():
    small, proven = (replace(STILL, gain=Gain(mean, 0.005, 20)) for mean in (0.013, 0.03))
    assert gain.fires(seen(small)) is None
    before = Situation(MonitoringSpec(), CUT, small, (), "2024-04-20", (proven, proven))
    assert "one chance in 10" in gain.fires(before)
    assert gain.fires(replace(before, now=replace(STILL, gain=Gain(0.0, 0.005, 20)))) is None


def test_what_a_retraining_should_weigh_is_said():
    recent = replace(STILL, gain=Gain(0.2, 0.005, 20, recent=True))
    assert gain.fires(seen(recent)).startswith("a retraining that gives recent rows more weight would have won")


@pytest.mark.parametrize(("new", "fires"), [(None, False), (2, False), (3, True), (9, True)])
def test_new_data_are_a_reason_once_there_are_enough(new, fires):
    why = new_data.fires(seen(replace(STILL, new=new), new_partitions=3))
    said = f"{new} partitions are published since the champion was trained to 2024-04-20; 3 are enough"
    assert why == (said if fires else None)
    assert new_data.fires(seen(replace(STILL, new=new))) is None


def test_what_changed_is_named():
    assert changed.fires(seen(STILL)) is None
    why = changed.fires(seen(replace(STILL, changed=("training.learner.rounds 100 -> 200",))))
    assert why == "changed since the champion's training: training.learner.rounds 100 -> 200"


def test_age_without_a_limit_never_fires():
    assert age.fires(seen(trained_to="2014-01-01")) is None


def test_drift_counts_windows_of_the_last_n_and_this_one_is_one_of_them():
    moved = replace(STILL, drifted=True)
    before = tuple(replace(STILL, partition=f"2024-04-{day}", drifted=day == 23) for day in (22, 23, 24, 25))

    assert drift.fires(seen(moved, before, k=2, n=3)) is None  # the 23rd is the fourth from the end
    why = drift.fires(seen(moved, before, k=2, n=4))
    assert why == "2 of the last 4 windows drifted and outcomes are not yet known"
    assert drift.fires(seen(moved, before, k=1, n=1)) is not None
    assert drift.fires(seen(STILL, before, k=1, n=1)) is None
    unknown = replace(STILL, drifted=None)
    assert drift.fires(seen(unknown, before, k=1, n=3)) is None  # what could not be said is no drift


def test_drift_has_no_say_where_outcomes_are_known():
    assert drift.fires(seen(replace(STILL, drifted=True, outcomes_known=True), k=1, n=1)) is None


def test_every_trigger_has_a_reason_of_its_own_and_a_key_in_the_spec():
    assert sorted(trigger.reason for trigger in TRIGGERS) == sorted(get_args(TriggerReason))
    assert sorted(trigger.key for trigger in TRIGGERS) == sorted(RetrainOn.model_fields)
    # and too few rows are said once, between those that need no rows and those that do
    assert [trigger.needs_rows for trigger in TRIGGERS] == sorted(trigger.needs_rows for trigger in TRIGGERS)


def test_the_first_that_fires_is_the_reason():
    # given a window in which all of them fire
    both = replace(STILL, drifted=True, degraded=True, excess=1.0, new=3, changed=("learner",))
    reasons, off = [], {"changed": True}
    for trigger in TRIGGERS:
        now = replace(both, gain=Gain(0.2, 0.005, 20)) if trigger.reason == "gain" else both
        spec = MonitoringSpec.model_validate({"k": 1, "n": 1, "max_age": "P1D", "new_partitions": 3, "retrain_on": off})
        answer = decide(spec, CUT, now, [], trained_to="2024-04-20")
        assert answer.action == "retrain"
        reasons.append(answer.reason)
        off[trigger.key] = False
    assert reasons == ["degraded", "gain", "changed", "age", "new_data", "drift"]
