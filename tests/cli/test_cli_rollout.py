"""`millrace rollout`: what a person is told, and that each step is an event with a name and a copy in the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ledger import digest, unanchored
from support.rollouts import arm
from typer.testing import CliRunner

from millrace.cli.app import app
from millrace.cli.scaffold import init, new
from millrace.contract import Artifact
from millrace.core.settings import Settings
from millrace.ledger import Answer, Ledger, Trained
from millrace.spec import ProjectTree
from millrace.store import open_store
from millrace.store.plans import Plans

PIPELINE = "visits"


class Shop:
    """A project with a champion that answers, and a version on its way."""

    def __init__(self, root: Path) -> None:
        init(root)
        new(ProjectTree(root), PIPELINE)
        self.root, settings = root, Settings.load(root)
        settings.home.mkdir(parents=True, exist_ok=True)
        self.ledger, self.plans = Ledger.open(settings.ledger), Plans(open_store(settings.store))

    def approved(self, version: int) -> str:
        request = self.ledger.ask_release(PIPELINE, version, digest(100 + version), run_id=f"release__v{version}")
        said = Answer(by="environment dev", verdict="approve", how="automatic")
        return self.ledger.answer(PIPELINE, request.id, said).id

    def champion(self, version: int) -> None:
        request = self.approved(version)
        self.promote(version, request)

    def promote(self, version: int, request: str) -> None:
        parts = {
            name: Artifact(uri=name, digest=digest(number), kind=name)
            for name, number in (("model", version), ("training_set", 50), ("evaluation", 60))
        }
        made_of = Trained(**parts, trained_to="2024-01-01", partitions=("2024-01-01",), reason="x", mlflow_run="r")
        evidence = Artifact(uri="e", digest=digest(100 + version), kind="evidence")
        self.ledger.promote(PIPELINE, request, evidence, made_of, approval=False, anchor=unanchored)
        self.ledger.complete_rollout(PIPELINE, request, arm(version), serving={})

    def begun(self, version: int) -> str:
        request = self.approved(version)
        self.ledger.begin_rollout(PIPELINE, request, arm(version), serving={}, shadow=1.0, steps=(0.5,))
        return request

    def say(self, *given: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["rollout", *given, "--project", str(self.root)], catch_exceptions=True)
        assert (done.exit_code != 0) == bool(code), done.output
        return done.output + (str(done.exception) if done.exception else "")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    return Shop(tmp_path / "shop")


def test_status_says_who_answers_and_how_the_rollout_stands(shop: Shop):
    assert "nothing is served yet" in shop.say("status", PIPELINE)
    shop.champion(1)
    shop.begun(2)

    said = shop.say("status", PIPELINE)

    assert "champion: version 1 (000000000000), 100.0% of the units" in said
    assert "in shadow: version 2 (000000000000), 100.0% of the requests" in said
    assert "of version 2: in shadow, since" in said
    assert "THE COPY IN THE STORE IS OF PLAN none" in said


def test_a_rollout_is_paused_resumed_hastened_and_aborted_by_name(shop: Shop):
    shop.champion(1)
    rollout = shop.begun(2)

    assert "in shadow, paused by ann: lunch" in shop.say("pause", PIPELINE, "--reason", "lunch")
    assert "version 2: in shadow\n" in shop.say("resume", PIPELINE, "--reason", "back")
    assert "hastened" in shop.say("hasten", PIPELINE, "--reason", "go")
    assert "aborted by ann: no" in shop.say("abort", PIPELINE, "--reason", "no")

    moves = [e.event for e in shop.ledger.entries(PIPELINE, "rollout", rollout)]
    assert [(m.by, m.how, m.reason) for m in moves[1:]] == [
        ("ann", "person", reason) for reason in ("lunch", "back", "go", "no")
    ]  # fmt: skip
    plan = shop.plans.get(PIPELINE)
    assert plan.generation == shop.ledger.plan(PIPELINE).generation and [a.version for a in plan.versions] == [1]
    assert "no rollout of visits is under way" in shop.say("pause", PIPELINE, "--reason", "x", code=1)


def test_a_rollback_takes_what_is_on_its_way_or_else_the_champion(shop: Shop):
    shop.champion(1), shop.champion(2)
    shop.begun(3)

    assert "version 3 answers no more: rolled back by ann (rude)" in shop.say("rollback", PIPELINE, "--reason", "rude")
    assert [a.version for a in shop.plans.get(PIPELINE).arms] == [2]
    said = shop.say("rollback", PIPELINE, "--reason", "rude, too")
    assert "Version 1 answers, and becomes champion by visits__rollback in Airflow" in said
    plan = shop.plans.get(PIPELINE)
    assert [a.version for a in plan.arms] == [1] and shop.plans.vetoed(plan) == frozenset()
    assert shop.ledger.quarantined(PIPELINE, digest(2)).how == "person"


def test_servers_hear_of_a_rollback_before_the_ledger_does(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    shop.champion(1), shop.champion(2)
    shop.say("start", PIPELINE, "--reason", "have a copy")
    shop.ledger.toggle(PIPELINE, by="ann", reason="have a copy", stopped=True)
    shop.say("start", PIPELINE, "--reason", "have a copy")

    def gone(*_: object, **__: object) -> None:
        raise OSError("the ledger's database has gone")

    monkeypatch.setattr(Ledger, "roll_back", gone)
    shop.say("rollback", PIPELINE, "--reason", "now", code=1)

    assert shop.plans.vetoed(shop.plans.get(PIPELINE)) == {2}
    assert "VETO against version 2: now (guard person, ann)" in shop.say("status", PIPELINE)


def test_models_are_stopped_started_and_forced(shop: Shop):
    assert "has no traffic plan" in shop.say("stop", PIPELINE, "--reason", "fire", code=1)
    shop.champion(1), shop.champion(2)

    assert "no model answers" in shop.say("stop", PIPELINE, "--reason", "fire")
    assert shop.plans.get(PIPELINE).toggles.stopped and "STOPPED" in shop.say("status", PIPELINE)
    assert "version 1 answers everything" in shop.say("force", PIPELINE, "--version", "1", "--reason", "test")
    assert shop.plans.get(PIPELINE).toggles.version == 1 and "FORCED" in shop.say("status", PIPELINE)
    assert "as planned" in shop.say("start", PIPELINE, "--reason", "over")
    assert "does not name this version" in shop.say("force", PIPELINE, "--version", "9", "--reason", "x", code=1)


@pytest.mark.parametrize("command", ["pause", "abort", "rollback", "stop"])
def test_every_step_needs_a_reason(shop: Shop, command: str):
    shop.champion(1)
    assert "it needs a reason" in shop.say(command, PIPELINE, "--reason", " ", code=1)
