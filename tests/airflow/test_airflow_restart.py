"""A PostgreSQL that is crashed and started again in the middle of a promotion: the task fails so that Airflow tries it
again, or does not notice; either way one more try ends in the same state, with one champion."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ledger import unanchored
from support.ledger_cluster import INITDB, Server, server
from support.project import PIPELINE, sample
from support.releases import House

from millrace.airflow.runtime.retry import retry_policy
from millrace.airflow.tasks import release as tasks
from millrace.core.errors import Unavailable
from millrace.ledger import Ledger, champions
from millrace.store.anchors import Anchors

pytestmark = pytest.mark.skipif(INITDB is None, reason="no PostgreSQL server here (Debian package postgresql)")
POINTS = ("before the entry", "before its commit", "before the anchor", "before 'anchored'", "before the alias")


@pytest.fixture(scope="module")
def postgres() -> Any:
    with server() as running:
        yield running


@pytest.fixture(autouse=True)
def there(postgres: Server) -> Iterator[None]:
    """A server is there for the next test, however this one ended."""
    yield
    if not postgres.alive:
        postgres.start()


@pytest.fixture
def house(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    from sqlalchemy import create_engine, text

    engine = create_engine(postgres.url.replace("://", "+psycopg2://"))
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS millrace_entries, millrace_ledger_version"))
    engine.dispose()
    monkeypatch.setenv("MILLRACE_LEDGER", postgres.url.replace("://", "+psycopg2://"))
    sample(tmp_path)
    return House(tmp_path, monkeypatch)


def once(function: Callable[..., Any], then: Callable[[], None], *, after: bool = False) -> Callable[..., Any]:
    """A function at whose first call something happens, before it or after."""
    calls: list[int] = []

    def call(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1 and not after:
            then()
        value = function(*given, **named)
        if len(calls) == 1 and after:
            then()
        return value

    return call


def strike(point: str, crash: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it happen at this point of the next promotion."""
    if point == "before the entry":
        monkeypatch.setattr(champions, "promote", once(champions.promote, crash))
    elif point == "before its commit":
        monkeypatch.setattr(champions, "promote", once(champions.promote, crash, after=True))
    elif point == "before the anchor":
        monkeypatch.setattr(Anchors, "put", once(Anchors.put, crash))
    elif point == "before 'anchored'":
        monkeypatch.setattr(Anchors, "put", once(Anchors.put, crash, after=True))
    else:
        monkeypatch.setattr(tasks, "crown", once(tasks.crown, crash))


@pytest.mark.parametrize("back", ["at once", "later"])
@pytest.mark.parametrize("point", POINTS)
def test_a_promotion_outlives_a_crash_of_its_database(house, postgres, monkeypatch, point, back):
    house.register(1)
    house.release(1)
    house.register(2)
    house.open(2)

    def crash() -> None:
        postgres.end(signal.SIGQUIT)
        if back == "at once":
            postgres.start()

    strike(point, crash, monkeypatch)
    try:
        house.promote(2)
        failed = False
    except Unavailable as err:
        failed = True
        assert retry_policy().evaluate(err, 1, 4).action.value == "retry", "Airflow would not try it again"
    if back == "later":
        assert failed, "the task went on without its ledger"
        postgres.start()

    champion = house.promote(2)

    assert champion == {"version": 2, "generation": 2}
    ledger = house.ledger
    assert [(c.version, c.generation) for c in ledger.champions(PIPELINE)] == [(1, 1), (2, 2)]
    promoted = [entry.event.generation for entry in ledger.entries(PIPELINE, "promoted")]
    assert promoted == [entry.event.generation for entry in ledger.entries(PIPELINE, "anchored")] == [1, 2]
    assert house.states() == {1: "promoted", 2: "promoted"}
    assert house.alias[-1] == 2
    assert ledger.verify(house.site.anchors.read()) == len(ledger.entries())


def test_a_writer_whose_server_is_gone_says_so_and_the_next_one_goes_on(house, postgres):
    ledger: Ledger = house.ledger
    house.register(1)
    house.open(1)
    postgres.end(signal.SIGQUIT)
    with pytest.raises(Unavailable, match="does not answer"):
        ledger.settle(PIPELINE, unanchored)
    postgres.start()
    ledger.settle(PIPELINE, unanchored)
