"""The rollback DAG: what guards and persons have said against a version becomes one decision, and is carried out."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from support.project import PIPELINE
from support.rolling import Served
from support.task import running

from millrace.airflow.runtime.traffic import mirror_plan, unsettled
from millrace.airflow.tasks import monitoring, release
from millrace.core.errors import EvidenceError
from millrace.store.anchors import Anchors
from millrace.store.plans import Plans


def through(served: Served, version: int) -> None:
    """A version all the way to the champion's place."""
    served.opened(version)
    for number in (0, 1, 2):
        served.stage(version, number)
        served.ledger.steer(PIPELINE, "hasten", by="ann", reason="test")
        served.stage(version, number)
    served.promoted(version)


def two(served: Served) -> Served:
    served.first()
    through(served, 2)
    assert served.traffic() == ({2: 1.0}, None, 1)
    return served


def test_a_vetoed_champion_is_followed_by_the_one_before_without_anybody_being_asked(served: Served):
    two(served).veto(2)
    assert unsettled(served.site) == [2]

    versions, made = served.rollback()

    assert (versions, made) == ([2], {"version": 1, "generation": 3})
    assert served.traffic() == ({1: 1.0}, None, None) and served.copy() == 1 and served.alias == [1, 2, 1]
    champion = served.ledger.champion(PIPELINE)
    assert (champion.version, champion.reason) == (1, "units met errors (guard errors, server-1)")
    assert unsettled(served.site) == []
    assert served.ledger.quarantined(PIPELINE, served.ledger.registered(PIPELINE, 2).model.digest).by == (
        "guard errors of server-1"
    )


def test_where_persons_must_approve_the_former_approval_stands(guarded_served: Served):
    served = two(guarded_served)
    served.veto(2)

    assert served.rollback()[1] == {"version": 1, "generation": 3}

    request = next(e.event for e in reversed(served.ledger.entries(PIPELINE, "approval")) if e.event.reuses)
    assert (request.state, request.by, request.rollback) == ("promoted", "ann", True)
    assert request.reuses == served.ledger.champions(PIPELINE)[0].release


def test_a_vetoed_challenger_leaves_the_champion(served: Served):
    served.first()
    served.opened(2), served.stage(2, 0)
    served.veto(2)

    with pytest.raises(AirflowSkipException, match="the champion stays"):
        served.rollback()

    assert served.traffic() == ({1: 1.0}, None, None) and served.champion() == 1
    with pytest.raises(AirflowSkipException, match="rolled back by guard errors of server-1"):
        served.stage(2, 0)


def test_said_again_it_decides_nothing_more(served: Served):
    two(served).veto(2), served.veto(2, "slow")
    served.rollback()
    kinds = ("plan", "quarantine", "promoted")
    before = [len(served.ledger.entries(PIPELINE, kind)) for kind in kinds]

    assert served.rollback() == ([], {"version": 1, "generation": 3})

    assert [len(served.ledger.entries(PIPELINE, kind)) for kind in kinds] == before


def test_a_person_rolls_back_by_the_form_with_a_reason(served: Served):
    two(served)
    with pytest.raises(AirflowFailException, match="needs the field 'reason'"):
        served.rollback(user="ann", version="2")

    assert served.rollback(user="ann", version="2", reason="it is rude")[1]["version"] == 1

    bad = served.ledger.quarantined(PIPELINE, served.ledger.registered(PIPELINE, 2).model.digest)
    assert (bad.by, bad.how, bad.why) == ("ann", "person", "it is rude")


@pytest.mark.parametrize(("version", "words"), [("9", "no such version"), ("x", "'x' is no version of orders")])
def test_a_form_that_names_no_version_does_nothing(served: Served, version: str, words: str):
    served.first()
    with pytest.raises(AirflowFailException, match=words):
        served.rollback(version=version, reason="because")
    assert served.traffic() == ({1: 1.0}, None, None)


@pytest.mark.parametrize("watched", [True, False])
def test_monitoring_speaks_against_a_champion_while_it_is_watched(served: Served, watched: bool):
    two(served)
    if not watched:
        served.stage(2, None)
    with running(f"{PIPELINE}__monitoring", "decide"):
        monitoring._speak_against(served.site, served.ledger.champion(PIPELINE), "monitoring: loss is 0.2 above")

    assert unsettled(served.site) == ([2] if watched else [])
    if watched:
        assert served.rollback()[1] == {"version": 1, "generation": 3}
        assert "loss is 0.2 above (guard performance, monitoring)" in served.ledger.champion(PIPELINE).reason


def test_a_first_champion_leaves_no_model_and_says_so(served: Served):
    served.first()
    served.veto(1)

    with pytest.raises(AirflowFailException, match="no champion before it may come back: its plan names no model"):
        served.rollback()

    assert served.traffic() == ({}, None, None) and unsettled(served.site) == [], "nothing is left to be decided"


def test_a_champion_before_whose_evidence_is_gone_does_not_come_back(served: Served):
    two(served).veto(2)
    served.site.objects.delete(served.ledger.registered(PIPELINE, 1).evidence.uri)

    with pytest.raises(AirflowFailException, match="nothing is promoted"):
        served.rollback()

    assert served.traffic() == ({1: 1.0}, None, None), "it answers nevertheless: version 2 is known to be worse"
    assert served.champion() == 2 and unsettled(served.site) == [2]


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.mark.parametrize("where", ["follow", "anchor", "check", "alias"])
def test_a_rollback_that_is_killed_anywhere_is_finished_by_the_next_look(served: Served, monkeypatch, where: str):
    two(served).veto(2)

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if where == "follow":
            patch.setattr(Plans, "follow", killed)
        elif where == "anchor":
            patch.setattr(Anchors, "put", killed)
        elif where == "check":
            patch.setattr(release, "check_release", killed)
        else:
            patch.setattr(release, "mirror_champion", killed)
        served.rollback()

    assert unsettled(served.site) == [2], "the triggerer says it again"
    assert served.rollback()[1] == {"version": 1, "generation": 3}
    assert served.traffic() == ({1: 1.0}, None, None) and served.copy() == 1 and unsettled(served.site) == []
    assert len(served.ledger.entries(PIPELINE, "quarantine")) == 1


def test_a_check_that_fails_for_good_is_said(served: Served, monkeypatch):
    two(served).veto(2)

    def refused(*_: object, **__: object) -> None:
        raise EvidenceError("it is not whole")

    monkeypatch.setattr(release, "check_release", refused)
    with pytest.raises(AirflowFailException, match="it is not whole"):
        served.rollback()
    assert served.champion() == 2


def test_a_copy_of_the_plan_that_was_lost_is_written_again(served: Served):
    served.first()
    served.site.objects.put(f"plans/{PIPELINE}.json", b"{")
    mirror_plan(served.site)
    assert served.traffic() == ({1: 1.0}, None, None)
