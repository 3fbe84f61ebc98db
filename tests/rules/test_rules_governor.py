"""The governor's decisions, one reason at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.ledger import flight
from millrace.rules.gain import Gain
from millrace.rules.governor import decide
from millrace.rules.window import Window
from millrace.spec import Partitioning
from millrace.spec.monitoring import MonitoringSpec

CUT = Partitioning("month", "America/New_York")


def spec(**changes):
    return MonitoringSpec.model_validate({"k": 2, "n": 3, "max_age": "P2M", "cooldown": "P1M", **changes})


def window(partition, **changes):
    plain = {"rows": 5000, "drifted": False, "degraded": False, "excess": 0.0, "broken": (), "outcomes_known": True}
    return Window(partition, **{**plain, **changes})


def ask(now, *, history=(), trained_to="2013-04", last=None, **changes):
    answer = decide(spec(**changes), CUT, now, list(history), trained_to=trained_to, retrained=[last] if last else [])
    return answer.action, answer.reason


def test_nothing_happened():
    assert ask(window("2013-05")) == ("none", "nothing")


def test_degradation_retrains():
    assert ask(window("2013-05", degraded=True, excess=0.1)) == ("retrain", "degraded")


def test_age_retrains_at_the_second_month_and_not_before():
    assert ask(window("2013-05")) == ("none", "nothing")
    assert ask(window("2013-06")) == ("retrain", "age")
    assert ask(window("2013-06"), max_age=None) == ("none", "nothing")


def test_drift_retrains_only_where_outcomes_are_not_known_and_k_of_n_agree():
    now, earlier = window("2013-05", drifted=True, outcomes_known=False), window("2013-03", drifted=True)
    assert ask(now, trained_to="2013-02", max_age=None) == ("none", "nothing")
    assert ask(now, history=[earlier], trained_to="2013-02", max_age=None) == ("retrain", "drift")
    known = window("2013-05", drifted=True)
    assert ask(known, history=[earlier], trained_to="2013-02", max_age=None) == ("none", "nothing")
    old = [window(f"2013-0{m}") for m in (3, 4)]
    first = window("2013-02", drifted=True)
    assert ask(now, history=[first, *old], trained_to="2013-01", max_age=None) == ("none", "nothing")


def test_a_broken_column_alerts_and_never_retrains():
    assert ask(window("2013-06", broken=("wind",), degraded=True, excess=1.0)) == ("alert", "broken")


def test_an_alert_says_which_column_and_why():
    now = window("2013-06", broken=("wind (stuck at one value)", "rain (empty)"))
    answer = decide(spec(), CUT, now, [], trained_to="2013-04")
    assert answer.message == "broken column: rain (empty), wind (stuck at one value); mend the source first"


def test_too_few_rows_say_nothing_about_drift():
    now = window("2013-05", rows=10, drifted=True, outcomes_known=False)
    assert ask(now, history=[window("2013-04", drifted=True)], trained_to="2013-03", max_age=None) == (
        "none",
        "too_few_rows",
    )


def test_too_few_rows_three_times_in_a_row_are_an_alert():
    # Given partitions that never have the rows which the limit asks for
    few = [window(f"2013-0{month}", rows=rows) for month, rows in ((5, 300), (6, 480), (7, 10))]

    def answer(now, *history):
        return decide(spec(max_age=None), CUT, now, history, trained_to="2013-02")

    assert (answer(few[1], few[0]).action, answer(few[1], few[0]).reason) == ("none", "too_few_rows")
    alert = answer(few[2], few[1], few[0])  # in whatever order history comes
    assert (alert.action, alert.reason) == ("alert", "too_few_rows")
    assert alert.message == (
        "the last 3 windows had 480 rows at most, fewer than monitoring.minimum_rows (1,000): nothing is judged; "
        "lower it, look back further with monitoring.window, or mend the source"
    )
    assert answer(few[2], few[0], window("2013-06")).action == "none"  # one of them had enough
    assert answer(window("2013-08"), *few).reason == "nothing"


def test_cooldown_counts_partition_time():
    now = window("2013-07", degraded=True, excess=1.0)
    assert ask(now, last="2013-06") == ("retrain", "degraded")
    assert ask(now, last="2013-06", cooldown="P2M") == ("none", "cooldown")
    assert ask(now, last="2013-07") == ("none", "cooldown")


def test_a_budget_counts_partition_time():
    now = window("2013-07", degraded=True, excess=1.0)

    def ask_after(*retrained, **budget):
        changed = spec(cooldown="PT0S", retrain={"budget": {"retrainings": 2, "period": "P3M", **budget}})
        answer = decide(changed, CUT, now, [], trained_to="2013-06", retrained=retrained)
        return answer.action, answer.reason

    assert ask_after("2013-05") == ("retrain", "degraded")
    assert ask_after("2013-05", "2013-06") == ("none", "budget")
    assert ask_after("2013-04", "2013-06") == ("retrain", "degraded")  # April is no part of May to July
    assert ask_after("2013-05", "2013-06", retrainings=3) == ("retrain", "degraded")
    # the same partition twice, after a failure, is one retraining
    assert ask_after("2013-06", "2013-06") == ("retrain", "degraded")


@settings(max_examples=150, deadline=None)
@given(
    st.permutations([f"2013-{m:02d}" for m in range(5, 13)]),
    st.sets(st.sampled_from([f"2013-{m:02d}" for m in range(5, 13)])),
    st.integers(1, 3),
)
def test_windows_replayed_in_any_order_never_ask_for_an_older_one_nor_beyond_the_budget(order, worse, most):
    # given a champion that stays, as while its retraining waits
    judged, retrained = [], []
    for partition in order:
        now = window(partition, gain=Gain(0.3 if partition in worse else 0.0, 0.01, 20))
        answer = decide(
            spec(max_age=None, cooldown="PT0S", retrain={"budget": {"retrainings": most, "period": "P12M"}}),
            CUT, now, judged, trained_to="2013-04", retrained=retrained,
        )  # fmt: skip
        if answer.action == "retrain":
            assert partition == max([*order[: order.index(partition)], partition])
            retrained.append(partition)
        judged.append(now)
    assert len(retrained) <= most
    assert retrained == sorted(retrained)


MONTHS = [f"{year}-{month:02d}" for year in (2013, 2014) for month in range(1, 13)]
SEEN = st.builds(
    window,
    st.just("2013-05"),
    rows=st.integers(0, 5000),
    drifted=st.sampled_from([True, False, None]),
    degraded=st.sampled_from([True, False, None]),
    excess=st.floats(-1, 1),
    outcomes_known=st.booleans(),
    gain=st.none() | st.builds(Gain, st.floats(-1, 1), st.floats(0.001, 1), st.floats(3, 50)),
    new=st.none() | st.integers(0, 5),
    changed=st.sampled_from([(), ("training.learner.rounds 100 -> 200",)]),
)
EVERY = {"changed": True}


@settings(max_examples=60, deadline=None)
@given(st.lists(SEEN, min_size=24, max_size=24), st.integers(1, 4), st.integers(1, 3), st.integers(2, 6))
def test_retrainings_keep_their_distance_and_the_budget(seen, apart, most, period):
    """Two years, month by month; each retraining's model is champion by the next month."""
    changed = spec(
        cooldown=f"P{apart}M", new_partitions=2, retrain_on=EVERY, max_age="P5M",
        retrain={"budget": {"retrainings": most, "period": f"P{period}M"}},
    )  # fmt: skip
    judged, retrained, trained_to = [], [], "2012-12"
    for number, now in enumerate(replace(w, partition=key) for w, key in zip(seen, MONTHS, strict=True)):
        answer = decide(changed, CUT, now, judged, trained_to=trained_to, retrained=retrained)
        judged.append(now)
        if answer.action == "retrain":
            assert not retrained or number - MONTHS.index(retrained[-1]) >= apart
            retrained.append(now.partition)
            judged, trained_to = [], now.partition
            assert len({*retrained} & {*MONTHS[max(0, number - period + 1) : number + 1]}) <= most


@settings(max_examples=200, deadline=None)
@given(SEEN)
def test_what_needs_rows_says_nothing_of_fewer_than_the_minimum(now):
    few = replace(now, rows=min(now.rows, 999))
    answer = decide(spec(new_partitions=2, retrain_on=EVERY), CUT, few, [], trained_to="2013-04")
    assert answer.reason != "drift"
    same = decide(spec(new_partitions=2, retrain_on=EVERY), CUT, replace(few, drifted=None), [], trained_to="2013-04")
    assert same == answer


@settings(max_examples=50, deadline=None)
@given(st.permutations([f"2013-{m:02d}" for m in range(1, 13)]), st.sampled_from([(), ("broken",)]))
def test_a_year_replayed_in_any_order_is_one_retraining_at_most_that_names_who_asked(order, broken):
    judged, known, asked = [], {}, []
    for partition in order:
        now = window(partition, degraded=True, excess=0.3, broken=broken)
        standing = [d.partition for d in known.values() if (d.partition, d.state) != (partition, "waiting")
                    and d.state != "superseded"]  # fmt: skip
        answer = decide(spec(cooldown="PT0S"), CUT, now, judged, trained_to="2012-12", retrained=standing)
        judged.append(now)
        if answer.action == "retrain":
            asked.append(partition)
            decisions = sorted(known.values(), key=lambda d: d.number)
            plan = flight.ask(decisions, "flights", partition, answer.reason, answer.message, None)
            known.update({d.id: d for d in plan.record})
    waits = [d for d in known.values() if d.state != "superseded"]
    assert [[a.partition for a in d.asked] for d in waits] == ([] if broken else [asked])


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        window,
        st.sampled_from(["2013-05", "2013-06", "2013-09"]),
        rows=st.integers(0, 5000),
        drifted=st.sampled_from([True, False, None]),
        degraded=st.sampled_from([True, False, None]),
        excess=st.floats(-1, 1),
        broken=st.just(("wind (stuck)",)),
        outcomes_known=st.booleans(),
        gain=st.none() | st.builds(Gain, st.floats(-1, 1), st.floats(0.001, 1), st.floats(3, 50)),
    )
)
def test_bad_data_never_retrains_whatever_else_is_seen(now):
    assert ask(now)[0] == "alert"


@pytest.mark.parametrize("partition", ["2013-04", "2013-02"])
def test_a_partition_the_champion_was_trained_on_never_retrains(partition):
    assert ask(window(partition, degraded=True, excess=1.0)) == ("none", "in_training")


def test_a_replay_of_an_old_partition_never_retrains():
    now = window("2013-05", degraded=True, excess=1.0)
    assert ask(now, history=[window("2013-06")]) == ("none", "older")


@pytest.mark.parametrize(
    ("off", "now"),
    [
        ("performance", window("2013-05", degraded=True, excess=1.0)),
        ("age", window("2013-09")),
        ("gain", window("2013-05", gain=Gain(0.2, 0.005, 20))),
        ("changed", window("2013-05", changed=("training.learner.rounds 100 -> 200",))),
        ("new_data", window("2013-05", new=1)),
        ("drift", window("2013-05", drifted=True, outcomes_known=False)),
    ],
)
def test_every_reason_can_be_switched_off(off, now):
    history = [window("2013-04", drifted=True)] if off == "drift" else []
    trained_to = "2013-03" if off == "drift" else "2013-04"
    changes = {"max_age": None} if off == "drift" else {}
    changes |= {"new_partitions": 1, "retrain_on": {"changed": True}}
    assert ask(now, history=history, trained_to=trained_to, **changes)[0] == "retrain"
    switches = {"performance": True, "gain": True, "age": True, "drift": True, "new_data": True, "changed": True}
    switches[off] = False
    if off == "drift":
        switches.pop("age")
    changed = {**changes, "retrain_on": switches}
    assert ask(now, history=history, trained_to=trained_to, **changed) == ("none", "nothing")
