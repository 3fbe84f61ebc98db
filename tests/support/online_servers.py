"""Servers of online stores for the tests, each of which can be ended, halted and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.ledger_cluster import INITDB, cluster


class RedisServer:
    """A Redis server on a port of its own; `durable`: what is written is there again after a restart."""

    def __init__(self, folder: Path, password: str | None = None, durable: bool = False) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("no Redis server here (Debian package redis-server)")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
                         "--appendonly", "yes" if durable else "no", "--appendfsync", "always",
                         *(["--requirepass", password] if password else [])]  # fmt: skip

    @property
    def url(self) -> str:
        """Its address, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait until it listens."""
        self._server = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._server.poll() is None and time.monotonic() < until, "Redis did not start"
            time.sleep(0.05)

    def end(self) -> None:
        """End it, as a restart of its machine does."""
        self._server.terminate()
        self._server.wait(20)

    @contextmanager
    def halted(self) -> Iterator[None]:
        """Let it take connections and answer nothing."""
        os.kill(self._server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._server.pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def postgres_place() -> Iterator[str]:
    """Address of a PostgreSQL server."""
    if INITDB is None:
        pytest.skip("no PostgreSQL server here (Debian package postgresql)")
    with cluster() as url:
        yield url


@pytest.fixture(scope="session")
def redis_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Redis server."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        yield server.url
    finally:
        server.end()


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
