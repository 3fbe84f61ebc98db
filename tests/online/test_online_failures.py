"""Servers that are ended, halted, or let nobody in: Unavailable in time, without a secret, and then on again."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.ledger_cluster import INITDB, Server, server
from support.online_kept import Kept, keys, reading
from support.online_servers import RedisServer

from millrace.core.errors import SpecError, Unavailable
from millrace.online.reader import CALLS, Reader

TIMEOUT_S = 0.3
VEHICLES = [f"v{n}" for n in range(20)]
SECRET = "hunter2"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path, durable=True)
    running.start()
    yield running
    running.end()


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Server]:
    if INITDB is None:
        pytest.skip("no PostgreSQL server here (Debian package postgresql)")
    with server() as running:
        yield running


def filled(root: Path, kind: str, place: str) -> Kept:
    kept = Kept.at(root / "p", (kind, place))
    kept.write({vehicle: n for n, vehicle in enumerate(VEHICLES)})
    return kept


async def refused(reader: Reader, table: str, match: str) -> float:
    """Seconds until the reader says that the store is not available."""
    began = time.monotonic()
    with pytest.raises(Unavailable, match=match):
        await reader.fetch(table, keys("v1"))
    return time.monotonic() - began


def restarted(kept: Kept, end: Any, start: Any) -> None:
    """Given several connections in use, when the server is restarted, then the next request is answered."""
    rows = kept.fetched(*VEHICLES)

    async def all_of_them(reader: Reader) -> dict[bytes, Any]:
        together: dict[bytes, Any] = {}
        for some in await asyncio.gather(*(one(reader, n) for n in range(20))):
            together |= some
        return together

    async def one(reader: Reader, number: int) -> dict[bytes, Any]:
        for _ in range(number % 4):
            await asyncio.sleep(0)
        return await reader.fetch(kept.table, keys(VEHICLES[number]))

    async def use(reader: Reader) -> None:
        assert await all_of_them(reader) == rows
        await asyncio.to_thread(end)
        await asyncio.to_thread(start)
        assert await all_of_them(reader) == rows
        await asyncio.to_thread(end)
        await refused(reader, kept.table, "the online store failed")
        await refused(reader, kept.table, "the online store failed")
        await asyncio.to_thread(start)
        assert await all_of_them(reader) == rows

    kept.read(use)


def test_redis_is_restarted(tmp_path: Path, redis_server: RedisServer) -> None:
    restarted(filled(tmp_path, "redis", redis_server.url), redis_server.end, redis_server.start)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_postgresql_is_restarted(tmp_path: Path, postgres_server: Server, how: int) -> None:
    restarted(
        filled(tmp_path, "postgres", postgres_server.url), lambda: postgres_server.end(how), postgres_server.start
    )


def halted(kept: Kept, halt: Any) -> None:
    """Given a server that takes requests and answers none, then each is told in time, and later ones are right."""
    rows = kept.fetched(*VEHICLES)

    async def use(reader: Reader) -> None:
        assert await reader.fetch(kept.table, keys("v0")) == {key: rows[key] for key in keys("v0")}
        with halt():
            for _ in range(CALLS + 2):
                waited = await refused(reader, kept.table, "did not answer within 0.3 s")
                assert TIMEOUT_S * 0.9 < waited < TIMEOUT_S * 4
        for number in range(20):
            while True:  # a machine that does other things, too, may need a moment
                try:
                    found = await reader.fetch(kept.table, keys(VEHICLES[number]))
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)
            assert found == {key: rows[key] for key in keys(VEHICLES[number])}

    kept.read(use, TIMEOUT_S)


def test_redis_is_halted(tmp_path: Path, redis_server: RedisServer) -> None:
    halted(filled(tmp_path, "redis", redis_server.url), redis_server.halted)


def test_postgresql_waits_for_a_lock(tmp_path: Path, postgres_server: Server) -> None:
    kept = filled(tmp_path, "postgres", postgres_server.url)

    class Locked:
        def __enter__(self) -> None:
            self.connection = psycopg.connect(postgres_server.url)
            self.connection.execute(f'LOCK TABLE "{kept.table}" IN ACCESS EXCLUSIVE MODE')

        def __exit__(self, *raised: object) -> None:
            self.connection.close()

    halted(kept, Locked)


@pytest.mark.parametrize(
    "address", ["redis://u:{secret}@127.0.0.1:{port}/0", "postgresql://u:{secret}@127.0.0.1:{port}/d"]
)
def test_a_server_that_takes_connections_and_says_nothing(address: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = address.format(secret=SECRET, port=silent.getsockname()[1])
        assert reading(place, lambda reader: refused(reader, "t", "did not answer"), TIMEOUT_S) < TIMEOUT_S * 4


@pytest.mark.parametrize(
    "address",
    [
        "redis://u:hunter2@127.0.0.1:9/0?password=hunter2",
        "rediss://:hunter2@127.0.0.1:9/0",
        "postgresql://u:hunter2@127.0.0.1:9/d?sslpassword=hunter2",
    ],
)
def test_no_secret_is_in_a_message(address: str) -> None:
    with pytest.raises(Unavailable, match="127.0.0.1") as failed:
        reading(address, lambda reader: reader.fetch("t", [b"k"]))
    assert SECRET not in str(failed.value) and SECRET not in repr(failed.value)


@pytest.mark.parametrize("address", ["redis://u:hunter2@cache:port/0", "postgresql://u:hunter2@db:port/d?no=1"])
def test_an_address_that_cannot_be_read_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(SpecError, match="not an address of") as refused:
        reading(address, lambda reader: reader.fetch("t", [b"k"]))
    assert SECRET not in str(refused.value)


def test_redis_password_comes_from_a_file_or_from_where_its_own_tools_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = RedisServer(tmp_path, password=SECRET)
    (tmp_path / "password").write_text(f"{SECRET}\n")
    (tmp_path / "wrong").write_text("wrong")
    locked.start()

    async def use(reader: Reader) -> Any:
        return await reader.fetch("t", [b"k"])

    try:
        assert reading(locked.url, use, file=str(tmp_path / "password")) == {}
        for file in (None, str(tmp_path / "wrong"), str(tmp_path / "none")):
            with pytest.raises(Unavailable, match="failed"):
                reading(locked.url, use, file=file)
        monkeypatch.setenv("REDISCLI_AUTH", SECRET)
        assert reading(locked.url, use) == {}
    finally:
        locked.end()
