"""Every test of the ledger runs on SQLite, and on PostgreSQL where its server is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from support.ledger_cluster import INITDB, cluster

from millrace.ledger import Ledger

DRIVERS = [d for d in ("psycopg", "psycopg2") if importlib.util.find_spec(d)]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    if INITDB is None:
        pytest.skip("no PostgreSQL server here (Debian package postgresql): only SQLite is tested")
    if not DRIVERS:
        pytest.skip("no PostgreSQL driver here (psycopg or psycopg2): only SQLite is tested")
    with cluster() as url:
        yield url.replace("postgresql://", f"postgresql+{DRIVERS[0]}://")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    place: str = request.getfixturevalue("postgres")
    engine = create_engine(place)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS millrace_entries, millrace_ledger_version"))
    engine.dispose()
    return place


@pytest.fixture
def ledger(url: str) -> Ledger:
    return Ledger.open(url)
