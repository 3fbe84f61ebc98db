"""The tasks of the training DAG, each by itself on the context of a task: which decisions may train, and on what."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from support.ledger import artifact, promoted
from support.project import DAYS, PIPELINE, features, publish, sample, stored
from support.task import asked, running

from millrace.airflow.runtime.run import pack, unpack
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import training as tasks
from millrace.contract import Check, Outcome, Verdict
from millrace.ledger import Registered
from millrace.spec.recipe import Recipe, short

FORM = {"reason": "by hand", "until": None, "window": "P14D", "learner": {}, "decision": None}
PASSED = Verdict(passed=True, checks=(Check(name="log_loss", passed=True, message="log_loss is 0.5"),))
FAILED = Verdict(passed=False, checks=(Check(name="log_loss", passed=False, message="log_loss is 0.9, above 0.68"),))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three published days and one that is not."""
    root = tmp_path_factory.mktemp("training") / "shop"
    site = sample(root)
    for day in DAYS[:3]:
        publish(site, day)
    return root


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Site:
    root = tmp_path / "shop"
    shutil.copytree(made, root)
    Site.at.cache_clear()
    return Site.at(str(root), PIPELINE)


def here(site: Site) -> dict[str, str]:
    return {"root": str(site.tree.root), "pipeline": site.name}


def claim(site: Site, run_id: str = "manual__1", run_type: str = "manual", **form: Any) -> dict[str, Any]:
    with running(f"{PIPELINE}__training", "claim", run_id=run_id, run_type=run_type, params=FORM | form):
        return tasks.claim(**here(site))


def test_a_training_by_hand_pins_the_newest_published_partitions_as_they_are_now(site):
    claimed = claim(site)
    assert [i["partition"] for i in claimed["inputs"]] == list(DAYS[:3])
    assert claimed["until"] == DAYS[2]
    pinned = unpack(claimed["inputs"][2]["artifact"]).digest
    publish(site, DAYS[2], rows=5)
    assert pinned != site.tables.resolve(f"{PIPELINE}/features", DAYS[2]).snapshot
    with running(task_id="training_set"):
        request = asked(tasks.training_set, claimed=claimed, **here(site)).request
    assert [(i.partition, i.digest) for i in request.identity.inputs][2] == (DAYS[2], pinned)


def test_the_window_ends_where_the_form_says_and_labels_count_that_are_due_by_then(site):
    claimed = claim(site, until=DAYS[1], window="P1D")
    assert [i["partition"] for i in claimed["inputs"]] == [DAYS[1]]
    assert claimed["as_of"] == "2024-01-03T01:00:00+00:00"


def test_all_labels_of_the_last_partition_count_at_a_month_end_too(site):
    """Given labels a month later, then those of the evening of 30 March are known on 30 April's evening only."""
    written = site.tree.root / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
    written.write_text(written.read_text().replace("known_after: PT1H", "known_after: P1M"))
    Site.at.cache_clear()
    site = Site.at(str(site.tree.root), PIPELINE)
    publish(site, "2024-03-30")
    assert claim(site, until="2024-03-30", window="P1D")["as_of"] == "2024-05-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"until": DAYS[9], "window": "P2D"}, "No published partition lies in the P2D up to 2024-01-10"),
        ({"learner": {"rounds": "many"}}, "Learner parameter"),
        ({"learner": {"depth": 3}}, "allowed:.*max_depth"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(site, form, words):
    with pytest.raises(AirflowFailException, match=words):
        claim(site, **form)


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
    assert [i["partition"] for i in claim(site, window="P1D")["inputs"]] == [DAYS[2]]


def test_recipes_that_the_spec_declares_compatible_stand_side_by_side(site):
    earlier = Recipe.of(site.bundle).digest
    site.tables.move(f"{PIPELINE}/features", DAYS[0], features(site, DAYS[0], rows=4))  # before recipes were kept
    path = site.tree.folder(site.name) / "pipeline.yaml"
    path.write_text(
        path.read_text().replace("features:\n", f"features:\n  compatible: ['{short(earlier)}', unrecorded]\n", 1)
    )
    site = change_the_sql(site)
    assert [i["partition"] for i in claim(site)["inputs"]] == list(DAYS[:3])


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


def test_training_asks_for_the_learner_of_the_form_and_returns_model_and_run(site):
    claimed, data = claim(site, learner={"rounds": 7}), features(site, DAYS[0], dataset="training_set")
    model = stored(site, "model", "{}")
    with running(task_id="train"):
        training = asked(tasks.train, claimed=claimed, data=pack(data), **here(site))
        answer = training.answered(Outcome(outputs={"model": model}), mlflow_run="r1")
    request = training.request
    assert request.identity.params["learner"]["rounds"] == 7
    assert request.input("training_set").digest == data.digest
    assert request.identity.scope == DAYS[:3]
    assert (unpack(answer["model"]), answer["mlflow_run"]) == (model, "r1")


def evaluation(site: Site, verdict: Verdict | None, model: Any, **facts: Any) -> Any:
    claimed, data = claim(site), features(site, DAYS[0], dataset="training_set")
    with running(task_id="evaluate"):
        given = {"claimed": claimed, "data": pack(data), "model": {"model": pack(model), "mlflow_run": "r"}}
        judging = asked(tasks.evaluate, **given, **here(site))
        judged = stored(site, "evaluation", "judged")
        outcome = Outcome(outputs={"evaluation": judged}, verdict=verdict, facts=facts)
        return judging.request, lambda: judging.answered(outcome)


def test_a_first_challenger_is_judged_alone(site):
    request, answer = evaluation(site, PASSED, stored(site, "model", "a"))
    assert not request.inputs("champion")
    judged = answer()
    assert judged["duel"] is None


def test_a_challenger_meets_the_champion_of_record_and_no_model_meets_itself(site):
    champion = stored(site, "model", "champion")
    promoted(site.ledger, 1, pipeline=PIPELINE, model=champion)
    duel = {"difference": -0.1}
    request, answer = evaluation(site, PASSED, stored(site, "model", "a"), duel=duel, champion=champion.digest)
    assert request.input("champion").digest == champion.digest
    assert answer()["duel"] == {"difference": -0.1, "champion": champion.digest}
    request, _ = evaluation(site, PASSED, champion)
    assert not request.inputs("champion")


@pytest.mark.parametrize(
    ("verdict", "words"), [(FAILED, "log_loss is 0.9"), (None, "no verdict, which counts as fail")]
)
def test_a_challenger_without_a_passed_verdict_ends_the_run_for_good(site, verdict, words):
    _, answer = evaluation(site, verdict, stored(site, "model", "a"))
    with pytest.raises(AirflowFailException, match=words):
        answer()


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
        claim(site, "retrain__1", decision=decision.id, until=DAYS[9], window="P2D")
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


def version(number: int, decision: str | None) -> Registered:
    return Registered(
        pipeline=PIPELINE, version=number, model=artifact("model", number), evidence=artifact("evidence", number),
        decision=decision,
    )  # fmt: skip


def settle(site: Site, decision: str | None) -> str:
    with running(task_id="settle", run_id="retrain__1", params=FORM | {"decision": decision}):
        return tasks.settle(**here(site))
