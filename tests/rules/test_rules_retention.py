"""Which versions may go, and which never do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.rules.retention import Kept, due, first_kept, forgotten, guarded, is_kept
from millrace.spec.durations import Duration
from millrace.spec.environment import Retention
from millrace.spec.partitions import Partitioning

NOW = datetime(2024, 6, 1, tzinfo=UTC)
SPEC = Retention.model_validate({"schedule": "0 4 * * *", "candidates": "P30D", "champions": "P60D", "runs": "P7D"})


def kept(version: int, state: str = "candidate", days: int = 40, **more) -> Kept:
    return Kept(version, state, more.pop("ended", True), NOW - timedelta(days=days), **more)


def ago(days: int) -> datetime:
    return NOW - timedelta(days=days)


def test_a_version_that_never_was_champion_goes_after_its_period_and_not_before():
    assert due(SPEC, [kept(1), kept(2, days=29)], [9], NOW) == {
        1: "it was never champion and was kept P30D since 2024-04-22"
    }


def test_the_present_champion_and_the_one_before_it_stay_for_ever():
    versions = [kept(n, days=500, until=ago(100) if n < 3 else None) for n in (1, 2, 3)]
    assert due(SPEC, versions, [1, 2, 3], NOW) == {1: "it is champion no more and was kept P60D since 2024-02-22"}
    # after a rollback the one that was rolled back is the one before
    assert due(SPEC, versions, [1, 2, 3, 2], NOW) == {1: "it is champion no more and was kept P60D since 2024-02-22"}


@pytest.mark.parametrize("state", ["challenger", "champion", "retired", "quarantined"])
def test_only_a_candidate_goes(state):
    assert due(SPEC, [kept(1, state)], [9], NOW) == {}


def test_what_may_still_be_asked_for_stays():
    assert due(SPEC, [kept(7, ended=False)], [5], NOW) == {}
    assert due(SPEC, [kept(7, ended=True)], [5], NOW) != {}
    assert due(SPEC, [kept(4, ended=False)], [5], NOW) != {}  # older than the champion: nobody will


def test_without_a_period_nothing_goes():
    never = Retention.model_validate({"schedule": "@daily"})
    assert due(never, [kept(1), kept(2, until=ago(900))], [2, 3, 4], NOW) == {}
    assert forgotten(never, [kept(1, "retired", retired=ago(900))], NOW) == []


def test_runs_of_the_retired_go_after_their_own_period_and_all_others_are_guarded():
    versions = [kept(1, "retired", retired=ago(8)), kept(2, "retired", retired=ago(6)), kept(3)]
    gone = forgotten(SPEC, versions, NOW)
    assert gone == [1] and guarded(versions, gone) == [2, 3]


STATES = ["candidate", "challenger", "champion", "retired", "quarantined"]


@given(
    st.lists(st.tuples(st.sampled_from(STATES), st.integers(0, 999), st.booleans(), st.integers(0, 999))),
    st.lists(st.integers(1, 8)),
)
def test_whatever_the_record_no_champion_and_nothing_that_waits_is_retired(found, champions):
    versions = [
        kept(number, state, days, ended=ended, until=ago(until))
        for number, (state, days, ended, until) in enumerate(found, 1)
    ]
    gone = due(SPEC, versions, champions, NOW)
    for each in versions:
        if each.version in gone:
            assert each.state == "candidate" and each.version not in champions[-1:]
            assert each.ended or each.version <= champions[-1] if champions else each.ended


def test_clocks_of_the_pipeline_say_when_a_partition_is_old():
    cut = Partitioning("month", "America/New_York")
    now = datetime(2024, 3, 31, 12, tzinfo=UTC)
    for keep in ("P1M", "P1D", "PT1H", "P1Y", "PT0S"):
        first = first_kept(Duration(keep), cut, now)
        assert is_kept(Duration(keep), cut.end(first), now)
        assert not is_kept(Duration(keep), cut.end(cut.previous(first)), now), keep
    assert first_kept(Duration("P1D"), Partitioning("hour"), now) == "2024-03-30T12"
    assert now - timedelta(days=1) < Partitioning("hour").end("2024-03-30T12")
