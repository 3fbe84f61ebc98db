"""The tasks of a rollout, each by itself: what waits, what goes on, what stops, and that no task's state decides it."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from support.project import DAYS, PIPELINE, publish
from support.rolling import Served, met
from support.task import running

from millrace.airflow.runtime.champion import champion_of
from millrace.airflow.tasks import rollout
from millrace.core.errors import Unavailable
from millrace.rules.guards import Side
from millrace.store.plans import Plans


def test_a_first_version_meets_no_other_and_is_planned_alone(served: Served):
    served.opened(1)

    assert "no champion answers by a plan" in served.stage(1, 0)
    assert "no champion answers by a plan" in served.stage(1, 1)
    assert served.promoted(1) == {"version": 1, "generation": 1}

    assert served.traffic() == ({1: 1.0}, None, None)
    plan = served.in_store()
    assert (
        plan.serving == served.site.spec.serving and plan.arms[0].model == served.ledger.champion(PIPELINE).model_digest
    )
    assert served.ledger.rollout(PIPELINE).state == "full"
    assert "answers all" in served.stage(1, None) and served.ledger.rollout(PIPELINE) is None


def test_a_version_goes_through_shadow_and_steps_to_the_champions_place(served: Served):
    served.first()
    served.opened(2)

    assert served.stage(2, 0) == "waits" and served.traffic() == ({1: 1.0}, 2, None)
    served.counted((1, met(5)), (2, met(5)))
    assert served.stage(2, 0) == "shadow"
    assert served.stage(2, 1) == "waits" and served.traffic() == ({1: 0.8, 2: 0.2}, None, None)
    served.counted((1, met(20, first=50)), (2, met(4)))
    assert served.stage(2, 1) == "step"
    assert served.stage(2, 2) == "waits" and served.traffic() == ({1: 0.5, 2: 0.5}, None, None)
    served.counted((1, met(4, first=50)), (2, met(4)))
    assert served.stage(2, 2) == "step"
    assert served.promoted(2) == {"version": 2, "generation": 2}
    assert served.traffic() == ({2: 1.0}, None, 1) and served.alias == [1, 2] and served.copy() == 2
    assert served.in_store().watched
    assert "answers all" in served.stage(2, None)
    assert not served.in_store().watched, "servers are told that the watch is over"

    moves = [entry.event for entry in served.ledger.entries(PIPELINE, "rollout")]
    mine = [(m.state, m.step, m.seen.get("requests")) for m in moves if m.version == 2]
    assert mine == [("shadow", 0, None), ("step", 1, 5), ("step", 2, 4), ("full", 0, 4), ("done", 0, 0)]


def test_tasks_that_somebody_marked_as_done_have_moved_nothing(served: Served):
    """Invariant 13: whoever comes next drives the rollout from where it stands, or is denied."""
    served.first()
    served.opened(2)

    with pytest.raises(AirflowFailException, match="it has met nobody yet"):
        served.promoted(2)
    assert served.stage(2, 2) == "waits" and served.traffic() == ({1: 1.0}, 2, None)
    with pytest.raises(AirflowFailException, match=r"its rollout is in shadow .* Clear the task of that stage"):
        served.promoted(2)
    with pytest.raises(AirflowFailException, match="is not champion: its rollout is in shadow"):
        served.stage(2, None)
    served.counted((1, met(5)), (2, met(5)))
    assert served.stage(2, 2) == "waits" and served.traffic() == ({1: 0.8, 2: 0.2}, None, None)
    with pytest.raises(AirflowFailException, match="its rollout is at step 1 of 2"):
        served.promoted(2)
    assert served.champion() == 1 and len(served.ledger.entries(PIPELINE, "denied")) == 4


@pytest.mark.parametrize("number", [0, 1])
def test_a_version_that_does_harm_is_rolled_back_and_never_promoted(served: Served, number: int):
    served.first()
    served.opened(2)
    served.stage(2, 0)
    if number:
        served.counted((1, met(5)), (2, met(5)))
        assert served.stage(2, 1) == "waits"
    served.counted((1, met(60, first=100)), (2, met(20, errors=15)))

    with pytest.raises(
        AirflowSkipException, match="its rollout is rolled back by the guards of its rollout: errors: 15"
    ):
        served.stage(2, number)

    assert served.traffic() == ({1: 1.0}, None, None)
    assert served.plans.vetoed(served.in_store()) == frozenset(), "nothing that is planned is vetoed"
    with pytest.raises((AirflowSkipException, AirflowFailException)):
        served.promoted(2)
    assert served.champion() == 1
    served.register(3, model=served.ledger.registered(PIPELINE, 2).model.model_dump())
    with pytest.raises(Exception, match="is in quarantine"):
        served.open(3)


def test_a_veto_stops_a_stage(served: Served):
    served.first()
    served.opened(2)
    served.stage(2, 0)
    served.veto(2)

    with pytest.raises(AirflowSkipException, match=r"units met errors \(guard errors, server-1\)"):
        served.stage(2, 0)
    assert served.ledger.quarantined(PIPELINE, served.ledger.registered(PIPELINE, 2).model.digest).how == "guard"


def test_a_person_pauses_hastens_and_aborts_what_waits(served: Served):
    served.first()
    served.opened(2)
    served.stage(2, 0)
    served.counted((1, met(5)), (2, met(5)))
    served.ledger.steer(PIPELINE, "pause", by="ann", reason="lunch")
    assert served.stage(2, 0) == "waits"
    served.ledger.steer(PIPELINE, "resume", by="ann", reason="back")
    assert served.stage(2, 0) == "shadow"
    assert served.stage(2, 1) == "waits"
    served.ledger.steer(PIPELINE, "hasten", by="ann", reason="go")
    assert served.stage(2, 1) == "step" and served.stage(2, 2) == "waits"
    served.ledger.steer(PIPELINE, "abort", by="ann", reason="no")

    with pytest.raises(AirflowSkipException, match="aborted by ann: no"):
        served.stage(2, 2)
    with pytest.raises(AirflowSkipException, match="aborted by ann: no"):
        served.promoted(2)
    champion_of(served.site)
    assert served.traffic() == ({1: 1.0}, None, None), "the copy is healed by whoever asks for the champion"


def test_a_newer_version_ends_an_older_rollout(served: Served):
    served.first()
    served.opened(2), served.stage(2, 0)
    served.opened(3)
    assert served.stage(3, 0) == "waits" and served.traffic() == ({1: 1.0}, 3, None)

    with pytest.raises(AirflowSkipException, match="superseded: version 3 follows"):
        served.stage(2, 0)


def test_a_rollback_by_hand_takes_no_stages_and_is_watched(served: Served):
    served.first()
    through(served, 2)
    served.open(1, run_id="back", reason="2 is worse"), served.deploy(1, "back"), served.approve(1, run_id="back")

    assert "it comes back" in served.stage(1, 0, "back")
    served.task(rollout.promote, 1, run_id="back")

    assert served.traffic() == ({1: 1.0}, None, 2)
    assert "answers all" in served.stage(1, None, "back")


def through(served: Served, version: int) -> None:
    """A version all the way, hastened."""
    served.opened(version)
    for number in (0, 1, 2):
        assert served.stage(version, number) == "waits"
        served.ledger.steer(PIPELINE, "hasten", by="ann", reason="test")
        assert served.stage(version, number) in ("shadow", "step")
    served.promoted(version)
    assert "answers all" in served.stage(version, None)


def test_a_champion_from_before_the_pipeline_served_is_let_answer_by_its_release(house, monkeypatch):
    house.register(1), house.release(1)
    served = Served(house.site.tree.root, monkeypatch)

    served.open(1, run_id="serve it"), served.approve(1, run_id="serve it"), served.deploy(1, "serve it")
    assert "it is champion already" in served.stage(1, 0, "serve it")
    assert served.task(rollout.promote, 1, run_id="serve it") == {"version": 1, "generation": 1}
    assert served.traffic() == ({1: 1.0}, None, None)
    with pytest.raises(AirflowSkipException, match="Version 1 is champion already"):
        served.open(1, run_id="and again")


def test_a_champion_without_a_deployment_is_deployed_with_its_follower_and_kept_warm(house, monkeypatch):
    house.register(1), house.release(1)
    served = Served(house.site.tree.root, monkeypatch)
    served.opened(2)

    assert set(served.deploy(2)) == {"model", "champion"}
    served.promoted(2)

    assert served.traffic() == ({2: 1.0}, None, 1)


def test_a_champion_that_does_harm_while_it_is_watched_fails_its_run(served: Served):
    served.first()
    served.opened(2)
    for number in (0, 1, 2):
        served.stage(2, number), served.ledger.steer(PIPELINE, "hasten", by="ann", reason="test")
        served.stage(2, number)
    served.promoted(2)
    served.counted((2, met(60, errors=40)))

    with pytest.raises(AirflowFailException, match="rolled back by the guards of its rollout: errors: 40"):
        served.stage(2, None)

    assert served.traffic() == ({1: 1.0}, None, None)
    assert served.champion() == 2, "until the rollback DAG, which the veto starts, has promoted it"
    assert served.rollback()[1] == {"version": 1, "generation": 3}
    assert served.champion() == 1 and served.alias[-1] == 1 and served.copy() == 1


def test_a_task_that_is_killed_after_the_decision_is_finished_by_the_next(served: Served, monkeypatch):
    served.first()
    served.opened(2)
    before = len(served.ledger.entries(PIPELINE, "plan"))

    def dies(*_: Any) -> Any:
        raise Unavailable("the store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Plans, "follow", dies)
        with pytest.raises(Unavailable):
            served.stage(2, 0)
    assert served.traffic() == ({1: 1.0}, None, None)

    assert served.stage(2, 0) == "waits"
    champion_of(served.site)
    assert served.traffic() == ({1: 1.0}, 2, None)
    assert len(served.ledger.entries(PIPELINE, "plan")) == before + 1


def test_without_features_nothing_is_deployed(served: Served):
    served.opened(1)
    for key in served.site.tables.partitions(f"{PIPELINE}/features"):
        served.site.objects.delete(f"tables/{PIPELINE}/features/{key}.json")
    with pytest.raises(AirflowFailException, match="No features of orders are published"):
        served.deploy(1)


def test_the_newest_partition_is_what_a_deployment_is_made_on(served: Served):
    newest = publish(served.site, DAYS[2])
    publish(served.site, DAYS[1])
    served.register(1), served.open(1)

    with running(f"{PIPELINE}__release", "deploy", run_id="release__v1"):
        asked = rollout.deploy.ask(**served.here)

    assert asked.identity.scope == (DAYS[2],) and asked.identity.inputs[0].digest == newest.digest


def test_a_tally_that_cannot_be_read_is_told_and_left_out(served: Served, caplog):
    served.first()
    served.opened(2), served.stage(2, 0)
    generation = served.in_store().generation
    served.plans.put_tally(PIPELINE, generation, "broken", b"{")
    served.counted((1, met(5)), (2, met(5)))

    assert served.stage(2, 0) == "shadow"
    assert f"what broken counted under generation {generation} cannot be read" in caplog.text


def test_another_deployment_than_of_this_release_is_denied(served: Served):
    served.register(1), served.open(1), served.approve(1)
    with pytest.raises(AirflowFailException, match="no job 'deploy' of this run is on record"):
        served.promoted(1)
    assert isinstance(met(1), Side)
