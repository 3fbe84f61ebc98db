"""The tasks of the release DAG, each by itself: what is asked, who answers, and what becomes champion."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput
from support.ledger import verdict
from support.project import DAYS, PIPELINE, sample, stored
from support.task import running

from millrace.airflow.runtime.champion import champion_of
from millrace.airflow.runtime.retry import InfrastructureError
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import approval as waiting
from millrace.airflow.tasks import release as tasks
from millrace.airflow.tasks.approval import ReleaseApproval
from millrace.airflow.tasks.question import question
from millrace.contract import Artifact
from millrace.core.canonical import canonical_json
from millrace.ledger import Champion, Registered
from millrace.rules.evidence import Evidence
from millrace.store.champions import Champions

CODE = "sha256:" + "c" * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("release") / "shop"
    sample(root)
    return root


class House:
    """A project whose versions are registered with complete Evidence; the MLflow alias is kept in a list."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Site.at.cache_clear()
        self.site = Site.at(str(root), PIPELINE)
        self.here = {"root": str(root), "pipeline": PIPELINE}
        self.alias: list[int] = []
        self.withdrawn: list[int] = []
        monkeypatch.setattr(tasks, "crown", lambda site, version, model: self.alias.append(version))
        monkeypatch.setattr(waiting, "withdraw", lambda site, version: self.withdrawn.append(version))

    @property
    def ledger(self) -> Any:
        return self.site.ledger

    def evidence(self, version: int, **changes: Any) -> Evidence:
        champion = self.ledger.champion(PIPELINE)
        duel = {"difference": -0.1, "champion": champion.model_digest} if champion else None
        passed = verdict(version, pipeline=PIPELINE, partition=DAYS[0])
        self.ledger.record(passed)
        gate = passed.model_dump(exclude={"pipeline", "made_of"})
        return Evidence.read(
            {
                "evidence_version": 2,
                "pipeline": PIPELINE,
                "model": stored(self.site, "model", f"model {version}").model_dump(),
                "training_set": stored(self.site, "snapshot", f"data {version}").model_dump(),
                "evaluation": stored(self.site, "evaluation", judged(version, duel)).model_dump(),
                "evaluation_outcome": CODE, "evaluation_passed": True, "spec_digest": CODE, "code_digest": CODE,
                "gates": [gate], "duel": duel, "decision": "manual", "reason": "drift", "trained_to": DAYS[0],
                "partitions": [DAYS[0]], "feature_service": "s", "mlflow_run": "r", **changes,
            }
        )  # fmt: skip

    def register(self, version: int, requester: str | None = None, **changes: Any) -> Evidence:
        """What the training DAG leaves of a challenger: stored Evidence, and the entry in the ledger."""
        evidence = self.evidence(version, **changes)
        key = f"evidence/{PIPELINE}/{evidence.digest.removeprefix('sha256:')}/evidence.json"
        self.site.objects.put(key, canonical_json(evidence))
        stored_as = Artifact(uri=key, digest=evidence.digest, kind="evidence")
        self.ledger.record(
            Registered(
                pipeline=PIPELINE, version=version, model=evidence.model, evidence=stored_as, decision=None,
                requester=requester,
            )
        )  # fmt: skip
        return evidence

    def task(
        self, function: Any, version: Any, run_id: str = "", xcoms: Any = None, user: str | None = None, **params: Any
    ) -> Any:
        form = {"version": str(version) if version else None, "evidence": None, "reason": None, **params}
        name = run_id or f"release__v{version}"
        with running(f"{PIPELINE}__release", run_id=name, params=form, xcoms=xcoms, user=user):
            return function(**self.here)

    def open(self, version: Any, **more: Any) -> str:
        return self.task(tasks.open_release, version, **more)

    def promote(self, version: Any, **more: Any) -> dict[str, Any]:
        return self.task(tasks.promote, version, **more)

    def approve(self, version: int, event: Any = None, run_id: str = "", **more: Any) -> Any:
        """Run the waiting task, or wake it with an event."""
        task = ReleaseApproval(task_id="approve", **self.here)
        with running(f"{PIPELINE}__release", "approve", run_id=run_id or f"release__v{version}", **more) as context:
            context["ti"].id = "x"
            context["task"] = task
            return task.execute(context) if event is None else task.execute_complete(context, event)

    def answer(self, version: int, approved: bool = True, run_id: str = "", by: str = "ann") -> Any:
        return self.approve(version, said(approved, by), run_id)

    def release(self, version: int, **more: Any) -> dict[str, Any]:
        self.open(version, **more)
        return self.promote(version, **more)

    def champion(self) -> int | None:
        champion: Champion | None = self.ledger.champion(PIPELINE)
        return champion.version if champion else None

    def states(self) -> dict[int, str]:
        newest = {e.subject: e.event for e in self.ledger.entries(PIPELINE, "approval")}
        return {r.version: r.state for r in newest.values()}


def judged(version: int, duel: Any) -> str:
    """An evaluation document."""
    metric = {"value": 0.5 - version / 100, "low": 0.4, "high": 0.6, "rows": 90}
    checks = [{"name": "log_loss", "passed": True, "message": f"log_loss of version {version} is fine"}]
    return canonical_json({"metrics": {"log_loss": metric}, "checks": checks, "duel": duel}).decode()


def said(approved: bool = True, by: str | None = "ann") -> dict[str, Any]:
    """What Airflow resumes a waiting task with: a person's answer, or without one the end of a slice."""
    return {
        "chosen_options": ["Approve" if approved else "Reject"],
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": f"{by}-id", "name": by} if by else None,
        "timedout": by is None,
    }


SLICE = said(approved=False, by=None)


@pytest.fixture(autouse=True)
def asked_of_airflow(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Airflow was asked to show under 'Required actions'."""
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **given: shown.append(given)
    )
    return shown


@pytest.fixture
def house(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Where the environment promotes without a human."""
    root = tmp_path / "shop"
    shutil.copytree(made, root)
    return House(root, monkeypatch)


@pytest.fixture
def guarded(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Where a human must approve."""
    monkeypatch.setenv("MILLRACE_ENVIRONMENT", "prod")
    yield House(house.site.tree.root, monkeypatch)
    Site.at.cache_clear()


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


def test_nothing_is_promoted_before_a_human_approved_where_one_must(guarded):
    guarded.register(1), guarded.open(1)

    for xcoms in ({}, {"approve": {"chosen_options": ["Approve"], "responded_by_user": {"name": "eve"}}},
                  {"approve": {"automatic": True}}):  # fmt: skip
        with pytest.raises(AirflowFailException, match="nobody has approved it"):
            guarded.promote(1, xcoms=xcoms)
    assert guarded.champion() is None and guarded.states() == {1: "waiting"}
    assert [e.event.task for e in guarded.ledger.entries(PIPELINE, "denied")] == ["task"]

    guarded.answer(1)
    assert guarded.promote(1)["version"] == 1


@pytest.mark.parametrize("end", ["rejected", "expired", "void", "refused"])
def test_what_was_decided_stays_so_whatever_is_cleared_marked_or_pasted(guarded, end):
    guarded.register(1), guarded.open(1)
    request = guarded.ledger.release_of(PIPELINE, "release__v1")
    if end == "rejected":
        with pytest.raises(AirflowSkipException, match="rejected by ann"):
            guarded.answer(1, approved=False)
    elif end == "expired":
        guarded.ledger.look(PIPELINE, request.id, datetime.now(UTC) + timedelta(days=8))
    elif end == "void":
        guarded.register(2), guarded.open(2)
    else:
        guarded.ledger.refuse(PIPELINE, request.id, "no duel")
    ceo = {"approve": {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "the-ceo"}}}

    for again in (lambda: guarded.open(1), lambda: guarded.approve(1), lambda: guarded.answer(1)):
        with pytest.raises(AirflowSkipException, match=f"not promoted: its release is {end}"):
            again()
    with pytest.raises(AirflowFailException, match=f"cannot be promoted: it is {end}"):
        guarded.promote(1, xcoms=ceo)

    assert guarded.champion() is None and guarded.states()[1] == end
    assert guarded.withdrawn == [1] * (3 if end == "rejected" else 2), "the alias follows"


def test_who_was_rejected_is_asked_about_again_by_another_run(guarded):
    guarded.register(1), guarded.open(1)
    with pytest.raises(AirflowSkipException):
        guarded.answer(1, approved=False)

    guarded.open(1, run_id="by hand", reason="the numbers were read wrongly")
    with pytest.raises(AirflowFailException, match="nobody has approved"):
        guarded.promote(1, run_id="by hand")
    guarded.answer(1, run_id="by hand")

    assert guarded.promote(1, run_id="by hand")["version"] == 1


def test_an_approval_of_other_evidence_does_not_count(guarded):
    guarded.register(1), guarded.open(1), guarded.answer(1)
    guarded.register(1, reason="another")

    with pytest.raises(AirflowFailException, match="was not registered with what this release is about"):
        guarded.promote(1)
    assert guarded.champion() is None


@pytest.mark.parametrize("verdicts", ["failed", "none"])
def test_a_version_behind_which_a_gate_no_longer_stands_is_not_promoted(house, verdicts):
    evidence = house.register(1)
    house.open(1)
    (gate,) = evidence.gates
    house.ledger.record(verdict(pipeline=PIPELINE, partition=DAYS[0], snapshot=gate.snapshot, passed=False))

    with pytest.raises(AirflowFailException, match="features of 2024-01-01 .* failed its gate"):
        house.promote(1)
    assert house.champion() is None


def test_a_newer_challenger_voids_a_waiting_one_which_is_then_skipped(guarded):
    guarded.register(1), guarded.open(1)
    guarded.register(2), guarded.open(2)

    assert guarded.states() == {1: "void", 2: "waiting"}
    with pytest.raises(AirflowSkipException, match="void, since version 2 is newer"):
        guarded.answer(1)  # too late
    with pytest.raises(AirflowFailException, match="void, since version 2 is newer"):
        guarded.promote(1)
    with pytest.raises(AirflowSkipException, match="void, since version 2 is newer"):
        guarded.open(1)


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


def test_the_waiting_task_shows_both_models_and_parks_for_a_slice(guarded, asked_of_airflow):
    guarded.register(1), guarded.open(1), guarded.answer(1), guarded.promote(1)
    evidence = guarded.register(2)
    guarded.open(2, user="bob", reason="please\n# look")

    with pytest.raises(TaskAwaitingInput) as parked:
        guarded.approve(2)

    (shown,) = asked_of_airflow
    assert shown["subject"] == "Promote orders version 2 to champion?"
    for words in (
        "Asked for by** bob, who cannot approve it", "Because** please \\# look", "Now champion** version 1",
        "| log_loss | 0.4800 (0.4000 to 0.6000) | 0.4900 (0.4000 to 0.6000) |", "-0.10000", "passed: log\\_loss of",
        "Environment** prod", evidence.digest, "Changed data** none",
    ):  # fmt: skip
        assert words in shown["body"], shown["body"]
    assert parked.value.timeout == timedelta(minutes=5)


def test_nothing_pasted_into_a_run_is_shown_to_whoever_approves(guarded, asked_of_airflow):
    guarded.register(1), guarded.open(1)

    with pytest.raises(TaskAwaitingInput):
        guarded.approve(1, xcoms={"open": "harmless"}, params={"version": "7"})

    assert "harmless" not in str(asked_of_airflow) and "version 1" in asked_of_airflow[0]["subject"]


@pytest.mark.parametrize(("approved", "state"), [(True, "approved"), (False, "rejected")])
def test_the_waiting_task_itself_records_the_answer(guarded, approved, state):
    guarded.register(1), guarded.open(1)

    if approved:
        guarded.answer(1)
    else:
        with pytest.raises(AirflowSkipException, match="rejected by ann"):
            guarded.answer(1, approved=False)

    request = guarded.ledger.release_of(PIPELINE, "release__v1")
    (answer,) = request.answers
    assert (request.state, answer.by, answer.user_id, answer.how) == (state, "ann", "ann-id", "person")
    assert answer.at is not None


def test_at_the_end_of_a_slice_it_parks_again_and_no_default_answers(guarded, asked_of_airflow):
    guarded.register(1), guarded.open(1)

    for _ in range(3):
        with pytest.raises(TaskAwaitingInput):
            guarded.approve(1, SLICE)

    assert guarded.states() == {1: "waiting"} and len(asked_of_airflow) == 3
    guarded.answer(1)
    assert guarded.states() == {1: "approved"}


def test_at_the_end_of_a_slice_it_ends_when_its_time_has_passed(guarded, monkeypatch):
    guarded.register(1), guarded.open(1)
    request = guarded.ledger.release_of(PIPELINE, "release__v1")
    late = datetime.fromisoformat(request.expires) + timedelta(seconds=1)
    look = type(guarded.ledger).look
    monkeypatch.setattr(type(guarded.ledger), "look", lambda self, pipeline, id_: look(self, pipeline, id_, late))

    with pytest.raises(AirflowSkipException, match="expired: nobody answered until"):
        guarded.approve(1, SLICE)

    assert guarded.states() == {1: "expired"} and guarded.withdrawn == [1]


def test_at_the_end_of_a_slice_it_goes_on_where_another_run_was_approved(guarded):
    guarded.register(1), guarded.open(1), guarded.open(1, run_id="by hand", reason="soon")
    guarded.answer(1, run_id="by hand")

    assert guarded.approve(1, SLICE) is None
    assert guarded.promote(1)["version"] == 1


def test_the_last_slice_ends_with_the_request(guarded):
    guarded.register(1), guarded.open(1)
    request = guarded.ledger.release_of(PIPELINE, "release__v1")
    soon = request.model_copy(update={"expires": (datetime.now(UTC) + timedelta(seconds=30)).isoformat()})

    assert timedelta(0) < waiting._slice(guarded.site, soon) <= timedelta(seconds=30)
    past = request.model_copy(update={"expires": "2020-01-01T00:00:00+00:00"})
    assert waiting._slice(guarded.site, past) == timedelta(seconds=1)


def test_who_asked_cannot_approve_but_may_withdraw(guarded):
    guarded.register(1), guarded.open(1, user="bob")

    with pytest.raises(TaskAwaitingInput):
        guarded.answer(1, by="bob")

    assert guarded.states() == {1: "waiting"}
    (denied,) = guarded.ledger.entries(PIPELINE, "denied")
    assert "bob asked for it, and who asks cannot approve" in denied.event.why
    with pytest.raises(AirflowSkipException, match="rejected by bob"):
        guarded.answer(1, approved=False, by="bob")


def test_who_asked_for_the_training_cannot_approve_either(guarded):
    guarded.register(1, requester="bob"), guarded.open(1)

    with pytest.raises(TaskAwaitingInput):
        guarded.answer(1, by="bob")
    guarded.answer(1, by="ann")


def test_two_approvers_are_two_persons_of_those_that_the_environment_names(house, monkeypatch):
    path = house.site.tree.root / "include" / "environments" / "prod.yaml"
    path.write_text(
        path.read_text().replace("  by: human\n", "  by: human\n  approvers: [ann, bob, cid]\n  needed: 2\n")
    )
    monkeypatch.setenv("MILLRACE_ENVIRONMENT", "prod")
    strict = House(house.site.tree.root, monkeypatch)
    strict.register(1), strict.open(1, user="cid")

    for by in ("ann", "ann", "eve", "cid"):
        with pytest.raises(TaskAwaitingInput):
            strict.answer(1, by=by)
        assert strict.states() == {1: "waiting"}
    strict.answer(1, by="bob")

    assert strict.promote(1)["version"] == 1
    assert strict.ledger.release_of(PIPELINE, "release__v1").by == "ann and bob"
    Site.at.cache_clear()


def test_where_approval_is_automatic_nobody_is_asked_and_that_is_on_record(house, asked_of_airflow):
    house.register(1), house.open(1)

    assert house.approve(1) is None

    assert asked_of_airflow == []
    (answer,) = house.ledger.release_of(PIPELINE, "release__v1").answers
    assert (answer.by, answer.how) == ("environment dev", "automatic")


def test_what_an_environment_approved_by_itself_is_not_promoted_where_persons_must(house, monkeypatch):
    house.register(1), house.open(1), house.approve(1)
    monkeypatch.setenv("MILLRACE_ENVIRONMENT", "prod")
    guarded = House(house.site.tree.root, monkeypatch)

    with pytest.raises(AirflowFailException, match="approved by no person"):
        guarded.promote(1)
    assert guarded.champion() is None
    Site.at.cache_clear()
