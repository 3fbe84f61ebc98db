"""The tasks of the release DAG, each by itself: what is asked, who answers, and what becomes champion."""

from __future__ import annotations

import re
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from support.ledger import verdict
from support.project import DAYS, PIPELINE, stored
from support.releases import CODE, House

from millrace.airflow.runtime.champion import champion_of
from millrace.airflow.runtime.retry import InfrastructureError
from millrace.airflow.tasks import release as tasks
from millrace.airflow.tasks.question import question
from millrace.core.canonical import canonical_json
from millrace.ledger import Moved, Registered
from millrace.store.anchors import Anchors
from millrace.store.champions import Champions


def test_a_challenger_becomes_champion_of_record_with_alias_and_copy_following(house):
    evidence = house.register(1)

    house.open(1)
    answer = house.promote(1)

    assert answer == {"version": 1, "generation": 1}
    champion = house.ledger.champion(PIPELINE)
    assert (champion.trained.model, champion.evidence.digest, champion.reason) == (
        evidence.model, evidence.digest, "drift",
    )  # fmt: skip
    assert house.alias == [1]
    copy = Champions(house.site.objects).get(PIPELINE)
    assert (copy.version, copy.generation, copy.model) == (1, 1, evidence.model)


def test_a_challenger_after_its_duel_follows_the_champion(house):
    house.register(1), house.release(1)
    house.register(2), house.open(2)

    assert house.promote(2) == {"version": 2, "generation": 2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation_passed": False}, "the evaluation did not pass"),
        ({"gates": []}, "no passed gate for the features of 2024-01-01"),
        ({"duel": None}, "there was no duel with the champion"),
        ({"duel": {"difference": -1.0, "champion": CODE}}, "no longer champion"),
        ({"mlflow_run": None}, "no MLflow run"),
    ],
)
def test_evidence_with_a_gap_is_refused_before_it_voids_anything(guarded, changes, words):
    guarded.register(1), guarded.open(1), guarded.answer(1), guarded.promote(1)
    guarded.register(2), guarded.open(2)
    guarded.register(3, **changes)

    with pytest.raises(AirflowFailException, match=words):
        guarded.open(3)

    assert guarded.states() == {1: "promoted", 2: "waiting"}


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation_passed": False}, {"gates": []}, {"duel": None}, {"mlflow_run": None},
        {"duel": {"difference": -1.0, "champion": CODE}},
    ],
)  # fmt: skip
def test_promotion_checks_the_evidence_itself_and_no_earlier_task(house, changes):
    # given: a request for Evidence with a gap, as no task would have made it
    house.register(1), house.release(1)
    evidence = house.register(2, **changes)
    house.ledger.ask_release(PIPELINE, 2, evidence.digest, run_id="release__v2")

    with pytest.raises(AirflowFailException, match="version 2 cannot be promoted"):
        house.promote(2, xcoms={"open": "fine", "approve": {"chosen_options": ["Approve"], "automatic": True}})

    assert house.champion() == 1 and house.alias == [1]
    assert house.states()[2] == "refused"


def test_evidence_whose_bytes_changed_promotes_nothing(house):
    house.register(1), house.open(1)
    stored_as = house.ledger.registered(PIPELINE, 1).evidence
    house.site.objects.put(stored_as.uri, canonical_json(house.evidence(1, reason="another")))

    for task in (house.open, house.promote):
        with pytest.raises(AirflowFailException, match="has other bytes; nothing is promoted"):
            task(1)
    assert house.champion() is None


def test_evidence_that_is_gone_promotes_nothing(house):
    house.register(1), house.open(1)
    house.site.objects.delete(house.ledger.registered(PIPELINE, 1).evidence.uri)

    with pytest.raises(AirflowFailException, match="No evidence sha256:.* nothing is promoted"):
        house.promote(1)


@pytest.mark.parametrize("kind", ["model", "evaluation"])
def test_a_version_whose_files_are_gone_promotes_nothing(house, kind):
    evidence = house.register(1)
    house.site.objects.delete(getattr(evidence, kind).uri)

    with pytest.raises(AirflowFailException, match=f"The {kind} of orders version 1 is no longer in the store"):
        house.open(1)


def test_another_model_than_was_registered_is_not_promoted(house):
    evidence, other = house.register(1), stored(house.site, "model", "another")
    stored_as = house.ledger.registered(PIPELINE, 1).evidence
    house.ledger.record(Registered(pipeline=PIPELINE, version=1, model=other, evidence=stored_as, decision=None))

    with pytest.raises(AirflowFailException, match=r"registered with another millrace\.model_digest"):
        house.open(1)
    assert evidence.model.digest != other.digest


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"version": None}, "needs the field 'version'"),
        ({"version": "9"}, r"Version 9 of orders was never registered; .*\(registered: 1\)"),
        ({"version": "-1"}, "never registered"),
        ({"version": "one"}, "never registered"),
        ({"version": "1", "evidence": CODE}, "registered with other Evidence than"),
    ],
)
def test_a_form_that_names_what_was_never_registered_voids_nothing(guarded, form, words):
    guarded.register(1), guarded.open(1)

    with pytest.raises(AirflowFailException, match=words):
        guarded.task(tasks.open_release, run_id="by hand", **form)
    with pytest.raises(AirflowFailException, match="made no release request"):
        guarded.task(tasks.promote, run_id="by hand", **form)

    assert guarded.states() == {1: "waiting"}


def test_a_version_behind_which_a_gate_no_longer_stands_is_not_promoted(house):
    evidence = house.register(1)
    house.open(1)
    (gate,) = evidence.gates
    house.ledger.record(verdict(pipeline=PIPELINE, partition=DAYS[0], snapshot=gate.snapshot, passed=False))

    with pytest.raises(AirflowFailException, match="features of 2024-01-01 .* failed its gate"):
        house.promote(1)
    assert house.champion() is None


def test_an_older_challenger_that_never_was_champion_is_skipped(house):
    house.register(1), house.register(2), house.release(2)

    with pytest.raises(AirflowSkipException, match="Version 2 is champion already; version 1 is older"):
        house.open(1)


def test_the_present_champion_is_skipped(house):
    house.register(1), house.release(1)

    with pytest.raises(AirflowSkipException, match="Version 1 is champion already"):
        house.open(1, run_id="again")


def two_champions(house: House) -> None:
    for version in (1, 2):
        house.register(version), house.open(version)
        if house.site.placed.approval.by == "human":
            house.answer(version)
        house.promote(version)
    assert house.champion() == 2


def test_a_rollback_takes_the_way_of_a_release_without_a_duel(house):
    two_champions(house)

    house.open(1, run_id="rollback", reason="version 2 is worse on Sundays")
    subject, body = question(house.site, house.ledger.release_of(PIPELINE, "rollback"))
    answer = house.promote(1, run_id="rollback", reason="version 2 is worse on Sundays")

    assert subject == "Roll orders back from version 2 to version 1?" and "worse on Sundays" in body
    assert answer == {"version": 1, "generation": 3}
    assert house.ledger.champion(PIPELINE).reason == "version 2 is worse on Sundays"
    assert house.alias == [1, 2, 1]
    assert Champions(house.site.objects).get(PIPELINE).version == 1
    # and forward again
    assert house.release(2, run_id="forward", reason="it was the data") == {"version": 2, "generation": 4}


def test_a_rollback_needs_a_reason(house):
    """A cleared run of the training DAG's own release, which gives none, cannot undo a rollback."""
    two_champions(house)
    house.release(1, run_id="rollback", reason="worse")

    house.open(2), house.promote(2)
    with pytest.raises(AirflowFailException, match="a rollback needs a reason"):
        house.open(2, run_id="by hand")
    assert house.champion() == 1


def test_a_rollback_needs_complete_evidence_of_its_own(house):
    two_champions(house)
    house.site.objects.delete(house.ledger.registered(PIPELINE, 1).evidence.uri)

    with pytest.raises(AirflowFailException, match="nothing is promoted"):
        house.open(1, run_id="rollback", reason="worse")


def test_a_rollback_takes_a_fresh_approval_where_the_environment_asks(guarded):
    two_champions(guarded)
    form = {"run_id": "rollback", "reason": "worse"}
    guarded.open(1, **form)

    with pytest.raises(AirflowFailException, match="nobody has approved it"):
        guarded.promote(1, **form)
    guarded.open(1, **form), guarded.answer(1, run_id="rollback")

    assert guarded.promote(1, **form)["generation"] == 3


def test_a_rollback_neither_voids_nor_is_voided_by_a_waiting_challenger(guarded):
    two_champions(guarded)
    guarded.register(3), guarded.open(3)

    guarded.open(1, run_id="rollback", reason="worse")
    guarded.register(4), guarded.open(4)

    assert guarded.ledger.release_of(PIPELINE, "rollback").state == "waiting"
    assert guarded.ledger.release_of(PIPELINE, "release__v4").state == "waiting"
    guarded.answer(1, run_id="rollback")
    assert guarded.promote(1, run_id="rollback", reason="worse")["version"] == 1


def test_a_challenger_whose_duel_was_with_a_champion_that_was_rolled_back_is_refused(house):
    two_champions(house)
    house.register(3), house.open(3)
    house.release(1, run_id="rollback", reason="worse")

    with pytest.raises(AirflowFailException, match="no longer champion"):
        house.promote(3)
    assert house.champion() == 1 and house.states()[3] == "refused"


def test_who_died_between_the_ledger_and_what_follows_finishes_on_the_next_try(house, monkeypatch):
    house.register(1), house.open(1)

    def dies(*_: Any) -> None:
        raise InfrastructureError("MLflow does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "mirror_champion", dies)
        with pytest.raises(InfrastructureError):
            house.promote(1)
    assert house.champion() == 1 and Champions(house.site.objects).get(PIPELINE) is None

    assert house.promote(1) == {"version": 1, "generation": 1}
    assert house.alias == [1] and Champions(house.site.objects).get(PIPELINE).version == 1
    assert len(house.ledger.entries(PIPELINE, "promoted")) == 1


def test_a_copy_that_a_killed_release_left_behind_is_healed_by_who_asks_for_the_champion(house, caplog):
    house.register(1), house.release(1)
    house.site.objects.delete(f"champions/{PIPELINE}.json")

    assert champion_of(house.site).version == 1
    assert Champions(house.site.objects).get(PIPELINE).version == 1

    # and one that cannot be read keeps nobody from the champion
    house.site.objects.put(f"champions/{PIPELINE}.json", b"{")
    assert champion_of(house.site).version == 1
    assert "the copy of the champion in the store is out of date" in caplog.text


def test_without_a_champion_there_is_no_copy(house):
    assert champion_of(house.site) is None
    assert list(house.site.objects.list("champions/")) == []


def test_a_late_retry_leaves_the_champion_that_came_meanwhile(house):
    house.register(1), house.release(1)
    house.register(2), house.release(2)

    assert house.promote(1) == {"version": 2, "generation": 2}
    assert house.champion() == 2


def test_a_run_without_a_request_promotes_nothing(house):
    house.register(1), house.open(1)

    with pytest.raises(AirflowFailException, match="has made no release request"):
        house.promote(1, run_id="another")


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.mark.parametrize("put", [False, True])
def test_a_release_that_is_killed_around_its_anchor_is_finished_by_its_retry(house, monkeypatch, put):
    def killed(anchors: Anchors, *entry: Any) -> None:
        if put:
            kept(anchors, *entry)
        raise Killed

    kept = Anchors.put
    house.register(1), house.open(1)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Anchors, "put", killed)
        house.promote(1)
    assert house.champion() is None and house.alias == []
    assert Champions(house.site.objects).get(PIPELINE) is None

    assert house.promote(1) == {"version": 1, "generation": 1}

    (entry,) = house.ledger.entries(PIPELINE, "promoted")
    assert house.site.anchors.read() == {PIPELINE: {entry.number: entry.hash}}
    assert house.alias == [1] and house.ledger.verify(house.site.anchors.read())


def test_who_works_with_a_champion_in_quarantine_is_warned(house, caplog):
    house.register(1), house.release(1)
    assert champion_of(house.site).version == 1 and "quarantined" not in caplog.text
    house.ledger.move(Moved(pipeline=PIPELINE, version=1, to="quarantined", reason="it leaks", by="ann"))

    assert champion_of(house.site).version == 1

    assert "the champion, version 1, is quarantined: it leaks (ann)" in caplog.text


def test_a_version_in_quarantine_is_not_released(house):
    house.register(1), house.open(1)
    house.ledger.move(Moved(pipeline=PIPELINE, version=1, to="quarantined", reason="it leaks", by="ann"))

    with pytest.raises(AirflowFailException, match="it leaks"):
        house.promote(1)

    assert house.champion() is None


@pytest.fixture
def overdue(house, monkeypatch):
    """Let the model have to be reviewed by a day."""
    path = house.site.tree.root / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
    text = path.read_text()

    def since(day: str) -> House:
        path.write_text(re.sub(r"review_by: \S+", f"review_by: {day}", text))
        return House(house.site.tree.root, monkeypatch)

    return since


def test_an_overdue_review_holds_up_promotion_until_it_is_done_and_no_rollback(overdue):
    house = overdue("2999-01-01")
    house.register(1), house.release(1), house.register(2), house.release(2), house.register(3), house.open(3)
    house = overdue("2020-01-01")

    with pytest.raises(AirflowFailException, match="cannot be promoted: the review of its model was due on 2020-01-01"):
        house.promote(3)

    assert (house.champion(), house.states()[3]) == (2, "approved")
    request = house.ledger.release_of(PIPELINE, "release__v3")
    assert "**Cannot be promoted now** the review of its model was due" in question(house.site, request)[1]
    house.release(1, run_id="back", reason="2 is worse")
    assert house.champion() == 1


def test_a_review_that_was_done_lets_the_same_request_go_on(overdue):
    house = overdue("2020-01-01")
    house.register(1), house.open(1)
    with pytest.raises(AirflowFailException, match="was due on"):
        house.promote(1)
    house = overdue("2999-01-01")
    assert house.promote(1)["version"] == 1
