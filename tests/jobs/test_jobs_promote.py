"""promote and withdraw: MLflow's aliases follow what the ledger has decided."""

from __future__ import annotations

import threading

import pytest
from support.ledger import asked, evidence, said, trained, unanchored
from support.registry import PIPELINE, Registry, error

from millrace.contract import Artifact
from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import Conflict
from millrace.ledger import Champion, Ledger, ReleaseRequest, Trained, mirror
from millrace.mlflow.registry import find_versions
from millrace.mlflow.runs import connect


def withdraw(registry: Registry, version: int) -> bool:
    outcome = registry.run("withdraw", {}, {"version": version}, scope=()).outcome
    assert outcome is not None
    return bool(outcome.facts["withdrawn"])


def test_a_challenger_whose_release_ended_loses_its_alias_and_that_may_be_repeated(registry):
    version = registry.registered(1)
    assert registry.aliases() == {"challenger": version}

    assert [withdraw(registry, version) for _ in range(2)] == [True, False]

    assert registry.aliases() == {}
    assert [int(v.version) for v in find_versions(registry.client, PIPELINE, {})] == [version], "the version stays"


def test_a_newer_challenger_and_the_champion_keep_theirs(registry):
    first = registry.registered(1)
    registry.promote(first, 1)
    second, third = registry.registered(2), registry.registered(3)

    assert not withdraw(registry, first) and not withdraw(registry, second)

    assert registry.aliases() == {"champion": first, "challenger": third}


def test_promotion_moves_the_alias_and_may_be_repeated(registry):
    version = registry.registered(1)

    for _ in range(2):
        result = registry.promote(version, model=1)
        assert result.outcome is not None, result.error
        assert registry.aliases() == {"champion": 1}

    registry.registered(2)
    assert registry.aliases() == {"champion": 1, "challenger": 2}
    registry.promote(1, model=1)
    assert registry.aliases() == {"champion": 1, "challenger": 2}


@pytest.mark.parametrize(("version", "model"), [(1, 2), (7, 1)])
def test_a_version_that_is_not_the_promoted_model_gets_no_alias(registry, version, model):
    registry.registered(1)

    kind, message = error(registry.promote(version, model))

    assert kind == "EvidenceError" and "not the model that the ledger promoted" in message
    assert registry.aliases() == {"challenger": 1}


def test_stock_promotion_leaves_the_worse_model_champion_and_ours_does_not(registry, tmp_path):
    """Two promoters, the alias read, checked and set, in the order that a slow network gives them."""
    client = registry.client
    losses = {registry.registered(1): 0.50, registry.registered(2): 0.40, registry.registered(3): 0.45}
    client.set_registered_model_alias(PIPELINE, "champion", "1")

    # when: both read the champion (version 1), both find their challenger better, and both set the alias
    seen = threading.Barrier(2)
    better_is_set = threading.Event()

    def stock(version: int) -> None:
        mine = connect(registry.mlflow)
        champion = int(mine.get_model_version_by_alias(PIPELINE, "champion").version)
        seen.wait(30)
        if losses[version] < losses[champion]:
            if version == 3:
                better_is_set.wait(30)
            mine.set_registered_model_alias(PIPELINE, "champion", str(version))
            better_is_set.set()

    threads = [threading.Thread(target=stock, args=(version,)) for version in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    # then: the worse of the two is champion, though it never met the better one
    assert registry.aliases()["champion"] == 3

    # when: the same two go through the ledger, in the same order
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")

    def made_of(version: int) -> Trained:
        model = digest(canonical_json({"pipeline": PIPELINE, "number": version}))
        return trained(version, model=Artifact(uri="models/x/", digest=model, kind="model"))

    def enter(request: ReleaseRequest) -> Champion:
        version = request.version
        return ledger.promote(
            PIPELINE, request.id, evidence(version), made_of(version), approval=True, anchor=unanchored
        )

    def approved(version: int) -> ReleaseRequest:
        return ledger.answer(PIPELINE, asked(ledger, version, pipeline=PIPELINE).id, said())

    enter(approved(1))
    requests = {version: approved(version) for version in (2, 3)}
    seen, better_is_set = threading.Barrier(2), threading.Event()
    conflicts = []

    def ours(version: int) -> None:
        champion = ledger.champion(PIPELINE)
        assert champion is not None
        seen.wait(30)
        if version == 3:
            better_is_set.wait(30)
        if losses[version] < losses[champion.version]:
            try:
                enter(requests[version])
            except Conflict:
                conflicts.append(version)
        mirror(lambda: ledger.champion(PIPELINE), lambda c: set_alias(c))
        better_is_set.set()

    def set_alias(champion: Champion) -> None:
        assert registry.promote(champion.version, champion.version).outcome is not None

    threads = [threading.Thread(target=ours, args=(version,)) for version in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    # then: the late one must meet the new champion first
    assert conflicts == [3]
    assert ledger.champion(PIPELINE).version == 2
    assert registry.aliases()["champion"] == 2
