"""Online stores for the tests: SQLite, and PostgreSQL and Redis where their servers are installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from support.ledger_cluster import INITDB, cluster


@pytest.fixture(scope="session")
def postgres_place() -> Iterator[str]:
    if INITDB is None:
        pytest.skip("no PostgreSQL server here (Debian package postgresql)")
    with cluster() as url:
        yield url


@pytest.fixture(scope="session")
def redis_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no Redis server here (Debian package redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path_factory.mktemp("redis")),
         "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None and time.monotonic() < until, "Redis did not start"
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def online(request: pytest.FixtureRequest) -> tuple[str, str] | None:
    """(kind, place) of an empty online store; None for the project's own SQLite file."""
    if request.param == "sqlite":
        return None
    place: str = request.getfixturevalue(f"{request.param}_place")
    if request.param == "postgres":
        import psycopg

        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
    else:
        import redis

        redis.Redis.from_url(place).flushall()
    return request.param, place
