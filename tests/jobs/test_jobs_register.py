"""register: one version however often it is killed, with Evidence that fits its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.learning import CODE, rows
from support.registry import ELSEWHERE, FORK, OTHER, PIPELINE, error

from millrace.core.errors import Unavailable
from millrace.jobs.runner import run
from millrace.mlflow.registry import ensure_database, find_versions
from millrace.mlflow.runs import connect


def test_a_challenger_is_registered_with_its_evidence(registry):
    request = registry.registration()

    outcome = run(request).outcome

    assert outcome is not None
    stored = outcome.outputs["evidence"]
    assert outcome.facts == {"name": PIPELINE, "version": 1, "evidence": stored.digest}
    assert stored.uri == f"evidence/{PIPELINE}/{stored.digest.removeprefix('sha256:')}/evidence.json"
    assert json.loads(registry.objects.get(stored.uri)) == request.identity.params["evidence"]
    (version,) = find_versions(registry.client, PIPELINE, {})
    assert version.tags["millrace.evidence"] == stored.digest
    assert version.tags["millrace.model_digest"] == request.input("model").digest
    assert version.tags["millrace.spec_digest"] == registry.bundle.digest
    assert version.source == f"runs:/{version.run_id}/model"
    assert registry.aliases() == {"challenger": 1}


def test_a_model_that_was_really_trained_and_judged_is_registered_and_promoted(registry):
    # given
    data = registry.snapshot(rows(400))
    trained = registry.run("train", {"training_set": data}, {"learner": None})
    assert trained.outcome is not None, trained.error
    inputs = {"training_set": data, "model": trained.outcome.outputs["model"]}
    judged = registry.run("evaluate", inputs)
    assert judged.outcome is not None and judged.outcome.verdict.passed, judged
    inputs["evaluation"] = judged.outcome.outputs["evaluation"]
    run_id = trained.observed.mlflow_run
    evidence = registry.evidence(inputs, run_id, evaluation_outcome=judged.outcome_digest)

    # when
    registered = registry.run("register", inputs, {"mlflow_run": run_id, "evidence": evidence})
    assert registered.outcome is not None, registered.error
    params = {"version": registered.outcome.facts["version"], "model_digest": inputs["model"].digest}
    promoted = registry.run("promote", {}, params, scope=())

    # then
    assert promoted.outcome is not None, promoted.error
    assert registry.aliases() == {"champion": 1}


def test_registering_again_finds_the_version(registry):
    request = registry.registration()

    first, second = run(request), run(request)

    assert first.outcome is not None and first.outcome_digest == second.outcome_digest
    assert len(find_versions(registry.client, PIPELINE, {})) == 1


@pytest.mark.parametrize("after", ["create_registered_model", "create_model_version", "set_registered_model_alias"])
def test_a_killed_registration_ends_in_the_same_one_version(registry, after):
    # given: a process that dies as soon as one of its writes to MLflow is done
    request = registry.registration()

    def dying() -> None:
        import os

        from mlflow import MlflowClient

        write = getattr(MlflowClient, after)

        def last(*args: Any, **kwargs: Any) -> None:
            write(*args, **kwargs)
            os._exit(9)

        setattr(MlflowClient, after, last)
        run(request)

    process = FORK.Process(target=dying)
    process.start()
    process.join(60)
    assert process.exitcode == 9

    # when
    outcome = run(request).outcome

    # then
    assert outcome is not None and outcome.facts["version"] == 1
    assert len(find_versions(registry.client, PIPELINE, {})) == 1
    assert registry.aliases() == {"challenger": 1}


def test_registrations_at_once_agree_on_one_version(registry):
    # given: three processes that all saw that there is no version yet
    request = registry.registration()
    barrier, answers = FORK.Barrier(3), FORK.SimpleQueue()

    def racing() -> None:
        from mlflow import MlflowClient

        create = MlflowClient.create_model_version

        def together(*args: Any, **kwargs: Any) -> Any:
            barrier.wait(30)
            return create(*args, **kwargs)

        MlflowClient.create_model_version = together
        outcome = run(request).outcome
        answers.put(outcome.facts["version"] if outcome else None)

    processes = [FORK.Process(target=racing) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [answers.get() for _ in processes] == [1, 1, 1]
    assert [int(v.version) for v in find_versions(registry.client, PIPELINE, {})] == [1]
    assert registry.aliases() == {"challenger": 1}


def test_a_late_retry_of_an_older_registration_keeps_the_newer_challenger(registry):
    older = registry.registration(1)
    assert run(older).outcome is not None
    assert registry.registered(2) == 2

    assert run(older).outcome is not None

    assert registry.aliases() == {"challenger": 2}


def of_run(request: Any, run_id: str, try_number: int = 1) -> Any:
    """The request as a task of a run sends it."""
    named = {"dag_id": "flights__training", "run_id": run_id, "try_number": try_number}
    return request.model_copy(update={"run": request.run.model_copy(update=named)})


def test_a_try_that_knows_other_costs_takes_up_the_version_that_a_killed_one_left(registry):
    killed = registry.registration(1)
    assert run(of_run(killed, "a")).outcome.facts["version"] == 1
    dearer = [{**each, "seconds": 99.0} for each in killed.identity.params["evidence"]["cost"]]
    evidence = {**killed.identity.params["evidence"], "cost": dearer}
    params = {**killed.identity.params, "evidence": evidence}
    again = killed.model_copy(update={"identity": killed.identity.model_copy(update={"params": params})})

    outcome = run(of_run(again, "a", 2)).outcome

    (version,) = find_versions(registry.client, PIPELINE, {})
    assert outcome.facts["version"] == 1
    assert version.tags["millrace.evidence"] == outcome.outputs["evidence"].digest == outcome.facts["evidence"]
    # while another run that made the same bytes is a version of its own
    assert run(of_run(again, "b")).outcome.facts["version"] == 2


def test_the_same_model_with_other_evidence_is_another_version(registry):
    assert registry.registered(1) == 1

    outcome = run(registry.registration(1, reason="another")).outcome

    assert outcome is not None and outcome.facts["version"] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": OTHER}, "speaks of another model"),
        ({"training_set": OTHER}, "speaks of another training_set"),
        ({"evaluation": OTHER}, "speaks of another evaluation"),
        ({"training_set": ELSEWHERE}, "speaks of another training_set"),
        ({"pipeline": "trains"}, "speaks of another pipeline"),
        ({"spec_digest": CODE}, "speaks of another spec_digest"),
        ({"code_digest": "sha256:" + "1" * 64}, "speaks of another code_digest"),
        ({"partitions": ["2013-02"]}, "speaks of another partitions"),
        ({"mlflow_run": "other"}, "speaks of another mlflow_run"),
        ({"evaluation_passed": False}, "the evaluation did not pass"),
        ({"gates": []}, "no passed gate for the features of 2013-01"),
        ({"surprise": 1}, "malformed: surprise"),
    ],
)
def test_evidence_that_does_not_fit_registers_nothing(registry, changes, words):
    kind, message = error(run(registry.registration(1, **changes)))

    assert kind == "EvidenceError" and words in message
    assert find_versions(registry.client, PIPELINE, {}) == []
    assert list(registry.objects.list("evidence/")) == []


def test_an_evaluation_that_failed_cannot_be_claimed_to_have_passed(registry):
    kind, message = error(run(registry.registration(1, passed=False)))

    assert kind == "EvidenceError" and "does not say that this model passed" in message


def test_an_evaluation_whose_bytes_changed_is_corrupt(registry):
    request = registry.registration(1)
    registry.objects.put(request.key(request.input("evaluation")), b"{}")

    assert error(run(request))[0] == "Corrupt"


def test_other_model_files_in_the_mlflow_run_are_found(registry):
    request = registry.registration(1)
    registry.client.log_text(request.identity.params["mlflow_run"], '{"number":2}', "model/model.json")

    assert error(run(request))[0] == "Corrupt"
    assert find_versions(registry.client, PIPELINE, {}) == []


def test_what_another_tool_would_execute_beside_the_model_is_refused(registry):
    request = registry.registration(1)
    loader = "flavors: {python_function: {loader_module: this_executes}}"
    registry.client.log_text(request.identity.params["mlflow_run"], loader, "model/MLmodel")

    assert "files lie beside the model in the MLflow run" in error(run(request))[1]
    assert find_versions(registry.client, PIPELINE, {}) == []


def test_a_run_without_model_files_is_refused(registry):
    request = registry.registration(1)
    (file,) = (registry.root / "mlflow").rglob("model.json")
    file.unlink()

    assert "holds no model files" in error(run(request))[1]


def test_a_registration_repeated_after_its_promotion_makes_no_challenger(registry):
    request = registry.registration(1)
    run(request)
    registry.promote(1, model=1)

    assert run(request).outcome is not None
    assert registry.aliases() == {"champion": 1}


def test_an_mlflow_that_does_not_answer_is_worth_another_try(registry, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry.mlflow = "http://127.0.0.1:1"

    result = registry.promote(1, model=1)

    assert result.error is not None and (result.error.type, result.error.retry) == ("Unavailable", "same")


def test_processes_that_come_first_together_make_one_database(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    barrier, answers = FORK.Barrier(3), FORK.SimpleQueue()

    def opening() -> None:
        barrier.wait(30)
        try:
            ensure_database(uri)
            connect(uri).create_registered_model(f"m{barrier.n_waiting}")
        except Exception as err:
            answers.put("ok" if getattr(err, "error_code", "") == "RESOURCE_ALREADY_EXISTS" else repr(err))
        else:
            answers.put("ok")

    processes = [FORK.Process(target=opening) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)

    assert [answers.get() for _ in processes] == ["ok"] * 3
    ensure_database(uri)


def test_a_database_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(Unavailable):
        ensure_database(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")


def test_a_server_needs_no_database():
    ensure_database("http://127.0.0.1:1")
