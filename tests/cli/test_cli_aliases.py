"""`millrace aliases`: what somebody changed in MLflow itself is found, and set right where the environment says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.ledger import artifact, asked, evidence, promoted, said

from millrace.core.settings import Settings
from millrace.ledger import Ledger, Moved, Registered
from millrace.mlflow.registry import alias_versions, ensure_database
from millrace.mlflow.runs import connect

Ways = Callable[..., Any]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    ensure_database(f"sqlite:///{path}")
    return path.read_bytes()


@pytest.fixture
def settings(shop: Path, database: bytes) -> Settings:
    settings = Settings.load(shop, {})
    settings.home.mkdir(exist_ok=True)
    (settings.home / "mlflow.db").write_bytes(database)
    return settings


@pytest.fixture
def client(settings: Settings) -> Any:
    client = connect(settings.mlflow)
    client.create_registered_model("visits")
    for _ in range(4):
        client.create_model_version("visits", source=str(settings.home), await_creation_for=0)
    return client


@pytest.fixture
def ledger(settings: Settings, client: Any) -> Ledger:
    """Version 1 is champion, 2 was rejected, 3 waits; 4 is in MLflow only, as one that is just being registered."""
    ledger = Ledger.open(settings.ledger)
    for version in (1, 2, 3):
        ledger.record(
            Registered(pipeline="visits", version=version, model=artifact("model", version),
                       evidence=evidence(version), decision=None, run=None, requester=None)
        )  # fmt: skip
    promoted(ledger, 1, pipeline="visits")
    ledger.answer("visits", asked(ledger, 2, pipeline="visits").id, said("bob", "reject"))
    asked(ledger, 3, pipeline="visits")
    point(client, champion=1, challenger=3)
    return ledger


def point(client: Any, **aliases: int) -> None:
    for alias, version in aliases.items():
        client.set_registered_model_alias("visits", alias, str(version))


def reverting(shop: Path) -> None:
    path = shop / "include" / "environments" / "dev.yaml"
    path.write_text(path.read_text() + "\naliases: revert\n")


@pytest.mark.parametrize("challenger", [3, 4, None])
def test_what_is_as_the_ledger_has_it_is_left_alone(millrace: Ways, ledger, client, challenger):
    if challenger is None:
        client.delete_registered_model_alias("visits", "challenger")
    else:
        point(client, challenger=challenger)

    told = millrace("aliases", "visits")

    assert (told.code, told.out) == (0, "visits: MLflow's aliases and runs are as the ledger has it\n")


def test_a_champion_that_was_made_by_hand_is_told(millrace: Ways, ledger, client):
    point(client, champion=3)

    told = millrace("aliases", "visits")

    assert told.code == 1
    assert told.out == "visits: alias 'champion' names version 3, and should name version 1\n"
    assert alias_versions(client, "visits") == {"champion": 3, "challenger": 3}


@pytest.mark.parametrize("challenger", [1, 2])
def test_it_is_set_right_where_the_environment_says_so(millrace: Ways, shop, ledger, client, challenger):
    reverting(shop)
    point(client, champion=3, challenger=challenger)

    told = millrace("aliases", "visits")

    assert told.code == 0 and told.out.count("; set right") == 2
    assert f"alias 'challenger' names version {challenger}, and should name none" in told.out
    assert alias_versions(client, "visits") == {"champion": 1}
    assert millrace("aliases", "visits").out == "visits: MLflow's aliases and runs are as the ledger has it\n"


def test_a_champion_alias_that_was_taken_away_comes_back(millrace: Ways, shop, ledger, client):
    reverting(shop)
    client.delete_registered_model_alias("visits", "champion")

    assert (
        "alias 'champion' names no version, and should name version 1; set right" in millrace("aliases", "visits").out
    )
    assert alias_versions(client, "visits")["champion"] == 1


def test_what_is_in_quarantine_is_no_challenger(millrace: Ways, ledger):
    ledger.move(Moved(pipeline="visits", version=3, to="quarantined", reason="it leaks", by="ann"))

    assert "alias 'challenger' names version 3, and should name none" in millrace("aliases", "visits").out


def test_a_champion_that_mlflow_no_longer_has_is_told(millrace: Ways, shop, ledger, client):
    client.delete_model_version("visits", "1")
    assert "alias 'champion' names no version, and should name version 1" in millrace("aliases", "visits").out

    reverting(shop)
    told = millrace("aliases", "visits")

    assert told.code == 1 and "MLflow has no version 1 of visits, which is champion" in told.err


def test_nothing_is_said_of_a_pipeline_that_never_trained(millrace: Ways, settings):
    assert millrace("aliases", "visits").code == 0


def test_a_deleted_run_that_evidence_names_is_told_and_restored_where_the_environment_says_so(
    millrace: Ways, shop: Path, ledger: Ledger, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = client.create_run(client.create_experiment("visits")).info.run_id
    named = SimpleNamespace(mlflow_run=run)  # as the Evidence of version 1 has it
    monkeypatch.setattr("millrace.cli.aliases.evidence_of", lambda _, each: named if each.version == 1 else None)
    assert millrace("aliases", "visits").code == 0
    client.delete_run(run)
    told = millrace("aliases", "visits")
    assert told.code == 1 and f"run {run} of version 1 is deleted, and 'mlflow gc' would remove it" in told.out
    path = shop / "include" / "environments" / "dev.yaml"
    path.write_text(path.read_text() + "aliases: revert\n")
    assert "set right" in millrace("aliases", "visits").out
    assert client.get_run(run).info.lifecycle_stage == "active"
