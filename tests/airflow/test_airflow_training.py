"""The tasks of the training DAG, each by itself on the context of a task: which decisions may train, and on what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from support.ledger import promoted, verdict
from support.project import DAYS, PIPELINE, features, publish, sample, stored
from support.task import asked, running
from support.trainings import FAILED, FORM, PASSED, at, claim, here, joined, trained, version

from millrace.airflow.runtime.run import unpack
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import registration
from millrace.airflow.tasks import training as tasks
from millrace.contract import Outcome, Verdict
from millrace.spec.recipe import Recipe, short


def pinned(site: Site, run_id: str = "manual__1") -> list[tuple[str, str]]:
    """Partition and digest of what a run has claimed, as the ledger has it."""
    claimed = site.ledger.training_of(PIPELINE, f"{PIPELINE}__training/{run_id}")
    return [(key, artifact.digest) for key, artifact in claimed.inputs]


def test_a_training_by_hand_pins_the_newest_published_partitions_as_they_are_now(site):
    claimed = claim(site)
    assert (claimed["until"], [key for key, _ in pinned(site)]) == (DAYS[2], list(DAYS[:3]))
    before = dict(pinned(site))[DAYS[2]]
    publish(site, DAYS[2], rows=5)
    assert before != site.tables.resolve(f"{PIPELINE}/features", DAYS[2]).snapshot
    with at("training_set"):
        request = asked(tasks.training_set, **here(site)).request
    assert [(i.partition, i.digest) for i in request.identity.inputs][2] == (DAYS[2], before)


def test_who_started_the_run_is_on_record_and_a_run_that_nobody_started_has_none(site):
    claim(site, user="ann"), claim(site, "scheduled__1", "scheduled")
    asked_by = [site.ledger.training_of(PIPELINE, f"{PIPELINE}__training/{run}").requester
                for run in ("manual__1", "scheduled__1")]  # fmt: skip
    assert asked_by == ["ann", None]


def test_features_without_a_passed_verdict_are_not_trained_on_wherever_they_come_from(site):
    # given: a Snapshot that somebody put into the Table, with no verdict, and one whose verdict changed
    other = features(site, DAYS[2], rows=7)
    site.tables.move(f"{PIPELINE}/features", DAYS[2], other, recipe=Recipe.of(site.bundle).digest)
    with pytest.raises(AirflowFailException, match=f"features of {DAYS[2]} .* no verdict of its gate on record"):
        claim(site)
    site.ledger.record(verdict(pipeline=PIPELINE, partition=DAYS[2], snapshot=other.digest))
    claim(site)
    site.ledger.record(verdict(pipeline=PIPELINE, partition=DAYS[2], snapshot=other.digest, passed=False))
    with at("training_set"), pytest.raises(AirflowFailException, match="failed its gate"):
        asked(tasks.training_set, **here(site))
    assert [e.event.task for e in site.ledger.entries(PIPELINE, "denied")] == ["claim", "training_set"]


def test_the_window_ends_where_the_form_says_and_labels_count_that_are_due_by_then(site):
    claimed = claim(site, until=DAYS[1], window="P1D")
    assert [key for key, _ in pinned(site)] == [DAYS[1]] and claimed["partitions"] == 1
    assert as_of(site) == "2024-01-03T01:00:00+00:00"


def test_all_labels_of_the_last_partition_count_at_a_month_end_too(site):
    """Given labels a month later, then those of the evening of 30 March are known on 30 April's evening only."""
    written = site.tree.root / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
    written.write_text(written.read_text().replace("known_after: PT1H", "known_after: P1M"))
    Site.at.cache_clear()
    site = Site.at(str(site.tree.root), PIPELINE)
    publish(site, "2024-03-30")
    claim(site, until="2024-03-30", window="P1D")
    assert as_of(site) == "2024-05-01T00:00:00+00:00"


def as_of(site: Site) -> str:
    return site.ledger.training_of(PIPELINE, f"{PIPELINE}__training/manual__1").as_of


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"until": DAYS[9], "window": "P2D"}, f"2024-01-10 is not published yet; the last published .* {DAYS[2]}"),
        ({"until": "2024-1-3"}, "Field 'until': .*not a day partition"),
        ({"learner": {"kind": "mlp", "epochs": 3}}, "trains with 'xgboost', and its parameters are not those of 'mlp'"),
        ({"windw": "P3D"}, "'windw', which is no field of its form .* Did you mean 'window'"),
        ({"decision": "nonsense"}, "no decision nonsense is on record"),
        ({"learner": {"rounds": "many"}}, "Learner parameter"),
        ({"learner": {"depth": 3}}, "allowed:.*max_depth"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(site, form, words):
    with at("claim", params=FORM | {k: v for k, v in form.items() if k in FORM}) as context:
        context["dag_run"].conf = form
        with pytest.raises(AirflowFailException, match=words):
            tasks.claim(**here(site))


def change_the_sql(site: Site) -> Site:
    path = site.tree.folder(site.name) / "transform.sql"
    path.write_text(path.read_text().replace("    pages,", "    pages + 1 AS pages,"))
    Site.at.cache_clear()
    return Site.at(str(site.tree.root), site.name)


def test_features_of_two_recipes_make_no_training_set_and_the_decision_waits_for_its_run_to_be_cleared(site):
    # Given three published days, SQL that has changed since, and one day made anew
    decision = site.ledger.claim(PIPELINE, DAYS[2], "drift", "moved")
    earlier = Recipe.of(site.bundle).digest
    site = change_the_sql(site)
    publish(site, DAYS[0])
    # When a training asks for them
    with pytest.raises(AirflowFailException) as caught:
        claim(site, "retrain__1", decision=decision.id)
    # Then it says which are stale, of what, and what to do
    for words in (
        f"2 of 3 partitions hold features that another recipe made ({DAYS[1]}, {DAYS[2]}): {short(earlier)}, now it is",
        f"millrace rebuild orders --from {DAYS[1]} --to {DAYS[2]}",
        "features.compatible",
    ):
        assert words in str(caught.value), str(caught.value)
    # And once they are made anew the same run trains
    for day in DAYS[1:3]:
        publish(site, day)
    assert claim(site, "retrain__1", decision=decision.id)["decision"] == decision.id


def test_only_the_partitions_of_the_window_are_asked_for_their_recipe(site):
    site = change_the_sql(site)
    publish(site, DAYS[2])
    claim(site, window="P1D")
    assert [key for key, _ in pinned(site)] == [DAYS[2]]


def test_recipes_that_the_spec_declares_compatible_stand_side_by_side(site):
    earlier = Recipe.of(site.bundle).digest
    unrecorded = features(site, DAYS[0], rows=4)
    site.ledger.record(verdict(pipeline=PIPELINE, partition=DAYS[0], snapshot=unrecorded.digest))
    site.tables.move(f"{PIPELINE}/features", DAYS[0], unrecorded)  # before recipes were kept
    path = site.tree.folder(site.name) / "pipeline.yaml"
    path.write_text(
        path.read_text().replace("features:\n", f"features:\n  compatible: ['{short(earlier)}', unrecorded]\n", 1)
    )
    site = change_the_sql(site)
    claim(site)
    assert [key for key, _ in pinned(site)] == list(DAYS[:3])


def test_without_a_published_partition_nothing_is_trained(tmp_path):
    empty = sample(tmp_path / "shop")
    with pytest.raises(AirflowFailException, match="No partition of orders is published yet"):
        claim(empty)
    # and what the clock asks for before there is data is no failure
    with pytest.raises(AirflowSkipException, match="nothing is trained"):
        claim(empty, "scheduled__1", "scheduled")


def test_a_waiting_decision_is_taken_up_by_one_run_and_by_that_run_again_after_a_kill(site):
    decision = site.ledger.claim(PIPELINE, DAYS[2], "drift")
    assert claim(site, "retrain__1", decision=decision.id)["decision"] == decision.id
    assert claim(site, "retrain__1", decision=decision.id)["decision"] == decision.id
    with pytest.raises(AirflowSkipException, match="nothing is trained"):
        claim(site, "retrain__2", decision=decision.id)


@pytest.mark.parametrize("state", ["superseded", "failed", "done"])
def test_a_decision_that_has_ended_trains_nothing(site, state):
    decision = site.ledger.claim(PIPELINE, DAYS[1], "drift")
    if state == "superseded":
        site.ledger.claim(PIPELINE, DAYS[2], "drift")
    else:
        site.ledger.start(decision.id, "retrain__1")
        site.ledger.finish(decision.id, state)
    with pytest.raises(AirflowSkipException, match="nothing is trained"):
        claim(site, "retrain__other", decision=decision.id)


def test_a_failed_decision_whose_run_a_person_cleared_trains_unless_a_newer_one_stands(site):
    decision = site.ledger.claim(PIPELINE, DAYS[1], "drift")
    site.ledger.start(decision.id, "retrain__1")
    site.ledger.finish(decision.id, "failed")
    assert claim(site, "retrain__1", decision=decision.id)["decision"] == decision.id
    site.ledger.finish(decision.id, "failed")
    site.ledger.claim(PIPELINE, DAYS[2], "drift")
    with pytest.raises(AirflowSkipException):
        claim(site, "retrain__1", decision=decision.id)


def test_what_a_decision_asks_for_is_read_from_the_ledger_and_not_from_the_form(site):
    decision = site.ledger.claim(PIPELINE, DAYS[1], "drift", "moved")
    claimed = claim(site, "retrain__1", decision=decision.id, until=DAYS[2], reason="because I say so")
    assert (claimed["until"], claimed["reason"]) == (DAYS[1], "drift: moved")


@pytest.mark.parametrize("half_life", [None, 3.0])
def test_rows_weigh_as_the_decision_says(site, half_life):
    decision = site.ledger.claim(PIPELINE, DAYS[2], "gain", "moved", half_life)
    claim(site, decision=decision.id)
    joined(site)
    with at("train"):
        assert tasks.train.ask(**here(site)).identity.params["half_life"] == half_life


def test_training_asks_for_the_learner_of_the_form_and_returns_model_and_run(site):
    claim(site, learner={"rounds": 7})
    data, model = joined(site), stored(site, "model", "{}")
    with at("train"):
        training = asked(tasks.train, **here(site))
        answer = training.answered(Outcome(outputs={"model": model}), mlflow_run="r1")
    request = training.request
    assert request.identity.params["learner"]["rounds"] == 7
    assert request.input("training_set").digest == data.digest
    assert request.identity.scope == DAYS[:3]
    assert (unpack(answer["model"]), answer["mlflow_run"]) == (model, "r1")


@pytest.mark.parametrize("task", ["training_set", "train", "evaluate", "register"])
def test_no_task_goes_on_without_the_one_before_whatever_its_state_says(site, task):
    """As when somebody marks the earlier tasks as done and clears this one."""
    functions = {
        "training_set": lambda: asked(tasks.training_set, **here(site)),
        "train": lambda: asked(tasks.train, **here(site)),
        "evaluate": lambda: asked(tasks.evaluate, **here(site)),
        "register": lambda: registration.register(**here(site)),
    }
    steps = [lambda: claim(site), lambda: joined(site), lambda: trained(site, stored(site, "model", "m"))]
    for step in steps[: list(functions).index(task)]:
        with at(task), pytest.raises(AirflowFailException, match="Clear its task"):
            functions[task]()
        step()
    if task == "register":
        with at(task), pytest.raises(AirflowFailException, match="no job 'evaluate' of this run is on record"):
            functions[task]()


def test_what_was_made_for_an_earlier_claim_of_the_run_is_not_taken_for_the_present_one(site):
    claim(site), joined(site), trained(site, stored(site, "model", "m"))
    publish(site, DAYS[2], rows=5)
    claim(site)
    with at("train"), pytest.raises(AirflowFailException, match="made of other Snapshots than this run claimed"):
        asked(tasks.train, **here(site))
    joined_again = features(site, DAYS[1], dataset="training_set")
    with at("training_set"):
        asked(tasks.training_set, **here(site)).answered(Outcome(outputs={"data": joined_again}))
    with at("evaluate"), pytest.raises(AirflowFailException, match="trained on another training set"):
        asked(tasks.evaluate, **here(site))


def evaluation(site: Site, verdict: Verdict | None, model: Any, **facts: Any) -> Any:
    claim(site), joined(site), trained(site, model)
    with at("evaluate"):
        judging = asked(tasks.evaluate, **here(site))
    judged = stored(site, "evaluation", "judged")
    outcome = Outcome(outputs={"evaluation": judged}, verdict=verdict, facts=facts)

    def answer() -> Any:
        with at("evaluate"):
            return judging.answered(outcome)

    return judging.request, answer


def test_a_first_challenger_is_judged_alone(site):
    request, _ = evaluation(site, PASSED, stored(site, "model", "a"))
    assert not request.inputs("champion")


def test_a_challenger_meets_the_champion_of_record_and_no_model_meets_itself(site):
    champion = stored(site, "model", "champion")
    promoted(site.ledger, 1, pipeline=PIPELINE, model=champion)
    request, _ = evaluation(site, PASSED, stored(site, "model", "a"))
    assert request.input("champion").digest == champion.digest
    trained = site.ledger.champion(PIPELINE).trained
    assert request.input("champion_training_set").digest == trained.training_set.digest
    request, _ = evaluation(site, PASSED, champion)
    assert not request.inputs("champion")


@pytest.mark.parametrize(
    ("verdict", "words"), [(FAILED, "log_loss is 0.9"), (None, "no verdict, which counts as fail")]
)
def test_a_challenger_without_a_passed_verdict_ends_the_run_for_good(site, verdict, words):
    _, answer = evaluation(site, verdict, stored(site, "model", "a"))
    with pytest.raises(AirflowFailException, match=words):
        answer()
    (lost,) = site.ledger.entries(PIPELINE, "job", limit=1)
    assert (lost.event.job, lost.event.passed) == ("evaluate", False if verdict else None)
    with at("register"), pytest.raises(AirflowFailException, match="did not pass its evaluation"):
        registration.register(**here(site))


@pytest.mark.parametrize(("registered", "state"), [(True, "done"), (False, "failed")])
def test_the_decision_is_settled_however_the_run_went(site, registered, state):
    decision = site.ledger.claim(PIPELINE, DAYS[2], "drift")
    claim(site, "retrain__1", decision=decision.id)
    if registered:
        site.ledger.record(version(1, decision.id))
    assert settle(site, decision.id) == f"decision {decision.id}: {state}"
    assert [d.state for d in site.ledger.retrains(PIPELINE)] == [state]


def test_a_version_that_another_decision_made_settles_nothing_as_done(site):
    decision = site.ledger.claim(PIPELINE, DAYS[2], "drift")
    claim(site, "retrain__1", decision=decision.id)
    site.ledger.record(version(1, None)), site.ledger.record(version(2, "another"))
    settle(site, decision.id)
    assert [d.state for d in site.ledger.retrains(PIPELINE)] == ["failed"]


def test_a_run_that_failed_in_its_claim_after_it_took_the_decision_up_ends_it(site):
    decision = site.ledger.claim(PIPELINE, DAYS[2], "drift")
    with pytest.raises(AirflowFailException):
        claim(site, "retrain__1", decision=decision.id, learner={"rounds": "many"})
    settle(site, decision.id)
    assert [d.state for d in site.ledger.retrains(PIPELINE)] == ["failed"]


def test_a_run_that_took_no_decision_up_settles_none(site):
    decision = site.ledger.claim(PIPELINE, DAYS[2], "drift")
    assert settle(site, None) == "no decision to settle"
    settle(site, decision.id)  # superseded at its claim: another run's to end
    assert [d.state for d in site.ledger.retrains(PIPELINE)] == ["waiting"]
    site.ledger.start(decision.id, "another run")
    settle(site, decision.id)
    assert [d.state for d in site.ledger.retrains(PIPELINE)] == ["running"]


def settle(site: Site, decision: str | None) -> str:
    with running(task_id="settle", run_id="retrain__1", params=FORM | {"decision": decision}):
        return tasks.settle(**here(site))


def decisions(site: Site) -> list[tuple[str, str, list[str]]]:
    return [(d.state, d.reason, [str(each) for each in d.asked]) for d in site.ledger.retrains(PIPELINE)]


@pytest.mark.parametrize(
    ("run_type", "form", "said"),
    [
        ("manual", {"reason": "a look"}, "manual: a look"),
        ("manual", {"reason": "a new airport", "source": "ci"}, "external: ci: a new airport"),
        ("scheduled", {}, "schedule: by the clock (None)"),
    ],
)
def test_who_asks_is_a_reason_like_another_and_on_record(site, run_type, form, said):
    claimed = claim(site, "run__1", run_type, **form)
    assert decisions(site) == [("running", said.split(":")[0], [f"{DAYS[2]}: {said}"])]
    (decision,) = site.ledger.retrains(PIPELINE)
    assert (claimed["decision"], claimed["reason"]) == (decision.id, said)


def test_a_window_or_a_learner_of_ones_own_is_a_training_by_itself(site):
    for number, form in enumerate([{"until": DAYS[1]}, {"window": "P1D"}, {"learner": {"rounds": 7}}]):
        claimed = claim(site, f"manual__{number}", reason="a look", **form)
        assert (claimed["decision"], claimed["reason"]) == (None, "manual: a look")
    assert decisions(site) == []


def test_what_waited_behind_a_training_is_one_training_that_names_all_that_asked(site):
    # given a training that runs, a window that asks, and three runs that wait for their turn
    claim(site, "manual__1")
    waits = site.ledger.claim(PIPELINE, DAYS[2], "drift", "moved")
    assert waits is None  # that day is being trained on
    publish(site, DAYS[3])
    waits = site.ledger.claim(PIPELINE, DAYS[3], "drift", "moved")
    since = datetime.now(UTC)
    site.ledger.finish(site.ledger.retrains(PIPELINE)[0].id, "done")
    # when each has its turn
    claim(site, "manual__2", reason="too", run_after=since)
    site.ledger.finish(site.ledger.retrains(PIPELINE)[-1].id, "done")
    with pytest.raises(AirflowSkipException, match="names this reason too"):
        claim(site, "rest__3", reason="three", source="ci", run_after=since)
    with pytest.raises(AirflowSkipException, match="superseded by a newer one"):
        claim(site, "retrain__4", decision=waits.id)
    # then one trained
    assert decisions(site)[1:] == [
        ("superseded", "drift", [f"{DAYS[3]}: drift"]),
        ("done", "manual", [f"{DAYS[3]}: drift", f"{DAYS[3]}: manual: too", f"{DAYS[3]}: external: ci: three"]),
    ]


def test_a_run_by_hand_that_fails_in_its_claim_ends_its_decision_and_may_be_cleared(site):
    site = change_the_sql(site)
    with pytest.raises(AirflowFailException):
        claim(site, "retrain__1")
    settle(site, None)
    assert [state for state, *_ in decisions(site)] == ["failed"]
    for day in DAYS[:3]:
        publish(site, day)
    claim(site, "retrain__1")
    assert [state for state, *_ in decisions(site)] == ["running"]
